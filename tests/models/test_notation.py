"""The paper's architectures, read and written back."""

import pytest

from shallow_jax import models
from shallow_jax.models import notation


@pytest.mark.parametrize(
  'architecture',
  [
    '2k-2k-2k',
    '500-500',
    '8k',
    '250L-400k',
    '64c-p-1200L-30k',
    '32c-p-500',
    '64c-p-64c-p-64c-p-16lc',
    '64c-p-64c-p-128c-p-fc',
    '128c-p-128c-p-128c-p-1000fc',
    '76c-76c-p-126c-126c-p-148c-148c-p-1200fc-1200fc',
  ],
)
def test_an_architecture_is_that_of_the_net_it_builds(architecture):
  assert models.build(notation.parse(architecture), 10).architecture == architecture


def test_what_an_architecture_leaves_open_is_left_to_the_model():
  assert notation.parse('64c-p-64c-p-16lc-100fc') == dict(
    name='cnn', features=(64, 64), convs_per_stage=1, local=(16,), dense=(100,)
  )
  assert notation.parse('128c-p-1200L-30k') == dict(
    name='shallow_conv', features=128, bottleneck=1200, hidden=30_000
  )
  assert notation.parse('2000-2000') == dict(name='dnn', hidden=(2000, 2000))


@pytest.mark.parametrize(
  'wrong',
  ['', '8x', 'p-3c', '64c-p-250L', '64c-32c-p-fc', '64c-p-fc-100fc', '64c-64c-p-32c-p-fc', '2k-4c'],
)
def test_another_form_is_refused(wrong):
  with pytest.raises(ValueError, match='is no architecture of this notation'):
    notation.parse(wrong)

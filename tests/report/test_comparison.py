"""What a difference between two networks is put down to: everything in which they differ."""

import pytest

from shallow_jax.report import comparison
from shallow_jax.settings import defaults


def entry(**changes):
  net = dict(
    model=dict(name='shallow_conv', hidden=50, bottleneck=10),
    **{'optimizer': dict(learning_rate=0.1), **changes},
  )
  teacher = dict(model=dict(name='cnn'))
  config = defaults.experiment(data=dict(name='cifar10'), networks=dict(net=net, teacher=teacher))
  return defaults.plain(config)['networks']['net']


MIMIC = dict(targets='teacher', loss=dict(name='logit_l2'))


@pytest.mark.parametrize(
  ('before', 'after', 'cause'),
  [
    ({}, dict(loss=dict(name='label_l2')), 'the loss'),
    (dict(loss=dict(name='label_l2')), MIMIC, 'the targets'),
    (MIMIC, MIMIC | dict(examples=('train', 'unlabelled')), 'the unlabelled data'),
    (MIMIC, MIMIC | dict(examples=('unlabelled',)), 'the examples'),
    ({}, dict(num_steps=2000), 'more steps'),
    (dict(loss=dict(name='label_l2')), MIMIC | dict(views=1000), 'the targets and the views'),
    ({}, dict(augment=dict(flip=True), views=9), 'the views'),
    ({}, dict(batch_size=512, init='teacher'), 'the batch size and the start'),
    ({}, dict(optimizer=dict(learning_rate=0.03)), 'the learning rate'),
    ({}, dict(search=dict(optimizer=dict(learning_rate=(0.1, 1.0)))), 'the rates tried'),
    ({}, dict(optimizer=dict(learning_rate=0.1, nesterov=True)), 'optimizer.nesterov'),
    ({}, dict(select='last'), 'select'),
    ({}, dict(loss=dict(label_smoothing=0.1)), 'the loss'),
    (MIMIC, MIMIC | dict(loss=dict(name='logit_l2', normalize=False)), 'the loss'),
    ({}, dict(label='x', seeds=5, checkpoint_every_steps=7), 'nothing'),
  ],
)
def test_the_cause_names_all_that_differs(before, after, cause):
  assert comparison.cause(entry(**before), entry(**after)) == cause


def test_the_net_is_told_apart_by_what_its_notation_does_not_show():
  before, after = entry(), entry()
  after['model']['kernel_size'] = 3
  assert comparison.cause(before, after) == 'the net'


def test_nets_are_alike_if_their_models_are_but_for_dropout():
  settings = {name: entry() for name in ('mimic', 'dropped', 'small_filters', 'normalised')}
  settings['dropped']['model'].update(dropout=0.5, input_dropout=0.2)
  settings['small_filters']['model']['kernel_size'] = 3
  settings['normalised']['model']['batch_norm'] = False
  assert comparison._alike(settings, 'mimic', settings) == ['dropped']

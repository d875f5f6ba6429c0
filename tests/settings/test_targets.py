"""Labels that a network realigned, as targets: names, the graph, what they count as."""

import pytest

from shallow_jax.pipeline import graph
from shallow_jax.report import comparison
from shallow_jax.report.figures import style
from shallow_jax.settings import defaults
from shallow_jax.settings import targets as targets_lib

DNN = dict(model=dict(name='dnn', hidden=(8,)), seeds=2)
DATASET = dict(
  name='x', class_names=[], preprocessing={}, views={}, splits=dict(train={}, validation={})
)
LOGITS = dict(dtype='float32')


def networks(**changes):
  entries = dict(dnn=DNN, second=dict(DNN, targets='alignment:dnn')) | changes
  config = defaults.complete(dict(data=dict(name='digits'), networks=entries))
  return defaults.plain(config)['networks']


def refused(**changes):
  with pytest.raises(defaults.ConfigError) as caught:
    graph.check_names(networks(**changes))
  return str(caught.value)


def test_labels_are_told_from_logits():
  assert targets_lib.are_labels('labels')
  assert targets_lib.are_labels('alignment:dnn')
  assert not targets_lib.are_labels('dnn/0')
  assert targets_lib.aligner('alignment:dnn') == 'dnn'
  assert targets_lib.aligner('dnn') is None


def test_who_aligns_comes_first():
  third = dict(DNN, targets='alignment:second')
  entries = networks(third=third, dnn=DNN)
  graph.check_names(entries)
  assert graph.order(entries, ['third']) == ['dnn', 'second', 'third']
  assert targets_lib.target(entries['third']) is None


def test_a_change_to_who_aligns_changes_the_fingerprint():
  def found(**changes):
    return graph.fingerprint(networks(**changes), 'second', DATASET, LOGITS)

  assert found() == found(dnn=dict(DNN, seeds=3))  # seed 0 aligns
  assert found() != found(dnn=dict(DNN, num_steps=7))
  assert found()['entry']['targets'] == 'alignment:dnn'


def test_refusals():
  assert "unknown 'alignment:dn'; did you mean 'alignment:dnn'" in refused(
    second=dict(DNN, targets='alignment:dn')
  )
  assert 'cycle, second -> second' in refused(second=dict(DNN, targets='alignment:second'))
  loss = dict(name='logit_l2')
  assert "loss 'logit_l2' does not fit targets 'alignment:dnn'" in refused(
    second=dict(DNN, targets='alignment:dnn', loss=loss)
  )


def test_a_network_on_realigned_labels_is_one_on_labels():
  entry = dict(kind='model', targets='alignment:dnn')
  assert style.kind(entry) == 'on labels'


def test_the_phone_error_rate_is_what_is_compared_where_there_is_one():
  per, error = dict(mean=20.0), dict(mean=40.0)
  speech = dict(metrics=dict(test=dict(error=error, per=per)))
  images = dict(metrics=dict(test=dict(error=error, per=None)))
  assert comparison.test_error(speech) is per
  assert comparison.test_error(images) is error
  assert comparison.error_name({'a': speech}) == 'phone error rate'
  assert comparison.error_name({'a': images}) == 'error'

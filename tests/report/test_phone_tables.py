"""What a report says of phones, and how splits are pooled."""

from shallow_jax.report import page
from shallow_jax.report import phone_tables
from shallow_jax.report import results as results_lib
from shallow_jax.report.figures import confusion
from shallow_jax.speech import phone_errors
from shallow_jax.speech.recordings import phones


def summary(*values):
  mean = sum(values) / len(values)
  return dict(mean=mean, std=None if len(values) == 1 else 1.0, values=list(values))


def per(*values, speakers=None, at_edge=(), insertion=-1.0):
  keys = ('optional_silence', 'without_silence', 'substitutions', 'deletions', 'insertions')
  return {
    **summary(*values),
    **{key: summary(*(value / 2 for value in values)) for key in keys},
    'interval': [values[0] - 1, values[0] + 1],
    'by_speaker': speakers or {'ann': values[0], 'bob': 3.0},
    'num_utterances': 2,
    'scales': [dict(acoustic=0.5, lm=2.0, insertion=insertion)] * len(values),
    'at_edge': list(at_edge),
  }


def results(**changes):
  entries = {
    'dnn': dict(metrics=dict(test=dict(per=per(30.0)))),
    'mimic': dict(metrics=dict(test=dict(per=per(20.0, 22.0, at_edge=['lm'])))),
  }
  roles = dict(headline='', best_on_labels='', baseline='', teacher='')
  return dict(order=list(entries), networks=entries, roles=roles | changes)


def row(text, start):
  (line,) = [line for line in text.splitlines() if line.startswith(f'| {start} ')]
  return [cell.strip() for cell in line.strip('|').split('|')]


def test_a_row_has_all_conventions_and_the_scales():
  text = phone_tables.text(results())
  expected = ['mimic', '21.00 ± 1.00', '19.00 – 21.00', *['10.50 ± 1.00'] * 5, '0.5 / 2 / −1']
  assert row(text.partition('by speaker')[0], 'mimic') == expected
  assert 'others may be better: mimic (lm).' in text


def test_speakers_stand_beside_the_headlines():
  text = phone_tables.text(results(headline='mimic', baseline='dnn')).partition('by speaker')
  assert row(text[2], 'speaker') == ['speaker', 'mimic', 'dnn']
  assert row(text[2], 'ann') == ['ann', '20.0', '30.0']


def test_images_have_no_part_on_phones():
  entry = dict(metrics=dict(test=dict(per=None)))
  roles = dict(headline='')
  assert phone_tables.text(dict(order=['a'], networks={'a': entry}, roles=roles)) == ''


def test_the_network_of_the_picture_is_the_headline_or_the_best():
  assert confusion.shown(results()) == 'mimic'
  assert confusion.shown(results(headline='dnn')) == 'dnn'


def test_the_picture_has_a_place_for_every_class():
  assert sorted(confusion.ORDER) == sorted(phones.CLASSES)


def test_splits_are_pooled_as_one_set(monkeypatch):
  monkeypatch.setattr(phone_errors, 'interval_of_runs', lambda runs, name: [1.0, 2.0])
  by_split = {
    '0': per(10.0, speakers={'ann': 10.0}, at_edge=['lm']),
    '1': per(20.0, 30.0, speakers={'bob': 4.0, 'ann': 20.0}, at_edge=['acoustic', 'lm']),
  }
  found = results_lib._pooled_per(by_split, {}, 'test')
  assert found['mean'] == 20.0
  assert found['values_by_split'] == {'0': [10.0], '1': [20.0, 30.0]}
  assert found['without_silence']['mean'] == 10.0
  assert found['interval'] == [1.0, 2.0]
  assert found['by_speaker'] == {'ann': 15.0, 'bob': 4.0}
  assert found['num_utterances'] == 4
  assert len(found['scales']) == 3
  assert found['at_edge'] == ['acoustic', 'lm']
  assert results_lib._pooled_per({'0': None}, {}, 'test') is None
  assert set(found) == {*by_split['0'], 'values_by_split'}


def test_a_note_of_lines_is_shown_as_it_is():
  assert page._note('skipped', {'a.wav': 'a.wav: cut short'}) == 'Skipped: a.wav: cut short'
  assert page._note('utterances', {'test': 1200}) == 'Utterances: 1,200 of test'


def test_a_diverged_seed_has_no_scales():
  assert phone_tables._scales_text([None, dict(acoustic=1.0, lm=1.0, insertion=0.0)]) == (
    '1 / 1 / 0'
  )

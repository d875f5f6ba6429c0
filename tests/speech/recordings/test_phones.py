"""Phone maps: ours and a user's own."""

import pathlib
import re

import pytest

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import phones

KALDIS_MAP = pathlib.Path(__file__).parents[4] / 'shared' / 'timit' / 'phones.60-48-39.map'


def written(tmp_path, text):
  path = tmp_path / 'my.map'
  path.write_text(text)
  return path


def test_timit_has_61_labels_39_classes_and_deletes_q_alone():
  timit = phones.load('timit')
  assert len(timit.labels) == len(set(timit.labels)) == 61
  assert {c for c in timit.scored.values() if c} == set(phones.CLASSES)
  assert len(phones.CLASSES) == 39
  assert [label for label, c in timit.scored.items() if c is None] == ['q']
  assert tuple(timit.scored) == timit.labels


def test_timits_folds_are_those_of_lee_and_hon():
  scored = phones.load('timit').scored
  groups = {c: {label for label in scored if scored[label] == c} for c in phones.CLASSES}
  folded = {c: labels for c, labels in groups.items() if labels != {c}}
  assert folded == {
    'aa': {'aa', 'ao'},
    'ah': {'ah', 'ax', 'ax-h'},
    'er': {'er', 'axr'},
    'hh': {'hh', 'hv'},
    'ih': {'ih', 'ix'},
    'l': {'l', 'el'},
    'm': {'m', 'em'},
    'n': {'n', 'en', 'nx'},
    'ng': {'ng', 'eng'},
    'sh': {'sh', 'zh'},
    'uw': {'uw', 'ux'},
    'sil': {'pcl', 'tcl', 'kcl', 'bcl', 'dcl', 'gcl', 'h#', 'pau', 'epi'},
  }


@pytest.mark.skipif(not KALDIS_MAP.exists(), reason='needs the map as Kaldi has it')
def test_timits_map_is_kaldis():
  rows = [line.split() for line in KALDIS_MAP.read_text().splitlines()]
  expected = {row[0]: row[2] if len(row) == 3 else None for row in rows}
  assert phones.load('timit').scored == expected
  assert phones.load('timit').labels == tuple(expected)


@pytest.mark.parametrize(
  ('name', 'num_labels', 'silent', 'absent', 'deleted'),
  [
    ('cmu_arctic', 41, {'pau'}, {'dx'}, set()),
    ('arpabet', 42, {'sil', 'sp'}, {'dx'}, {'spn'}),
  ],
)
def test_the_other_maps_lead_to_the_same_classes(name, num_labels, silent, absent, deleted):
  found = phones.load(name)
  timit = phones.load('timit').scored
  assert len(found.labels) == num_labels
  assert set(phones.CLASSES) - set(found.scored.values()) == absent
  assert {label for label, c in found.scored.items() if c == 'sil'} == silent
  assert {label for label, c in found.scored.items() if c is None} == deleted
  same = {label.lower(): c for label, c in found.scored.items()}
  shared = same.keys() & timit.keys() - {'q'}
  assert len(shared) >= 40 - (name == 'arpabet')
  assert {label: same[label] for label in shared} == {label: timit[label] for label in shared}


def test_a_users_map_keeps_its_order(tmp_path):
  path = written(tmp_path, '# mine\nE eh\n\nh# sil\n?\t-\n')
  found = phones.load(path)
  assert found == phones.PhoneMap(('E', 'h#', '?'), {'E': 'eh', 'h#': 'sil', '?': None})
  assert found.index == {'E': 0, 'h#': 1, '?': 2}


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a aa\nq\n', "line 2: 'q', expected 'label class', or 'label -' for a label that is deleted"),
    ('a aa x\n', "line 1: 'a aa x', expected 'label class'"),
    ('a aa\n\na ah\n', "line 3: label 'a' is there twice"),
    ('a ahh\n', "line 1: class 'ahh', expected - or one of the 39: aa ae"),
    ('a aa\n', "1 labels, none of class sil; expected a line 'label class' each"),
    ('', '0 labels'),
  ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, text, message):
  path = written(tmp_path, text)
  with pytest.raises(errors.DataError, match=f'^{re.escape(str(path))}.*{re.escape(message)}'):
    phones.load(path)


def test_a_map_that_is_not_there_is_named(tmp_path):
  with pytest.raises(errors.DataError, match=r'timitt: No such file .* timit, cmu_arctic, arpabet'):
    phones.load(tmp_path / 'timitt')


def test_a_map_that_is_no_text_is_named(tmp_path):
  (tmp_path / 'my.map').write_bytes(b'\xff\xfe\x00\x01')
  with pytest.raises(errors.DataError, match=r'my.map: not UTF-8 text'):
    phones.load(tmp_path / 'my.map')

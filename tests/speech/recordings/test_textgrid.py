"""Praat files: sizes, forms and comments."""

from made_up import labels
import pytest

from shallow_jax.runtime import errors


def sized(tier, size):
  """LONG with another size of a tier or, of 0, of the file."""
  parts = labels.LONG.split('size = ')
  parts[tier + 1] = f'{size}{parts[tier + 1][1:]}'
  return 'size = '.join(parts)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (sized(3, 2), "tier 'phones' has 4 rows, expected the 2 that its size says"),
    (sized(3, 0), "tier 'phones' has 4 rows, expected the 0 that its size says"),
    (sized(3, 9), "cut short: tier 'phones' has 4 rows, expected the 9 that its size says"),
    (sized(2, 0), "tier 'bell' has 1 row, expected the 0 that its size says"),
    (sized(2, 2), "tier 'bell' has 1 row, expected the 2 that its size says"),
    (sized(1, 0), "tier 'words' has 1 row, expected the 0 that its size says"),
    (sized(1, 3), "tier 'words' has 1 row, expected the 3 that its size says"),
    (sized(0, 2), "3 tiers ('words', 'bell', 'phones'), expected the 2 that its size says"),
    (sized(0, 4), "cut short: 3 tiers ('words', 'bell', 'phones'), expected the 4"),
    (
      labels.LONG.replace('xmax = 0.3', 'xmax = "x"'),
      "a string where a number was expected: 'x', row 2 of tier 'phones'",
    ),
    (
      labels.LONG.replace('xmin = 0.3', 'xmin = "x"'),
      "a string where a number was expected: 'x', row 3 of tier 'phones'",
    ),
    (
      labels.LONG.replace('"TextTier"', '"PointTier"'),
      "tier 2: 'PointTier', expected one of IntervalTier, TextTier",
    ),
    ('"ooTextFile"\n"Collection"\n1', "not a TextGrid: it holds a 'Collection'"),
    ('"Praat chronological TextGrid text file"\n0 1', "Praat's chronological form, expected its"),
  ],
)
def test_a_textgrid_whose_sizes_or_kinds_are_wrong_is_named(tmp_path, text, message):
  labels.refuse(tmp_path, 'one.TextGrid', text, message)


def test_praats_binary_form_is_named(tmp_path):
  path = tmp_path / 'one.TextGrid'
  path.write_bytes(b'ooBinaryFile\x08TextGrid\x80')
  with pytest.raises(errors.DataError, match="Praat's binary form, expected its text form"):
    labels.segments(path)


@pytest.mark.parametrize('text', [labels.LONG, labels.short(*labels.ROWS)])
def test_the_old_short_form_and_comments_are_read(tmp_path, text):
  old = text.replace('"ooTextFile"', '"ooTextFile short"')
  assert labels.segments(labels.written(tmp_path, 'one.TextGrid', old)) == labels.EXPECTED
  lines = text.replace('"t"', '"t!"').split('on 2 lines')
  noted = [part.replace('\n', ' ! not "this", nor 3 tiers\n') for part in lines]
  noted[0] = noted[0].replace('""3 phones"" ! not "this", nor 3 tiers', '""3 phones""')
  found = labels.segments(labels.written(tmp_path, 'one.TextGrid', 'on 2 lines'.join(noted)))
  assert found == [(*row[:2], row[2].replace('t', 't!')) for row in labels.EXPECTED]

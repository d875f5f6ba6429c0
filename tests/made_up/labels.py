"""The same phones in every kind of label file, and what is read of them."""

import re

import pytest

from shallow_jax.runtime import errors
from shallow_jax.speech.recordings import alignment_files

# what all the files say: 0.1 s of silence, 0.2 s, 0.1 s, and silence to the end of 0.5 s
EXPECTED = [(0, 1600, 'sil'), (1600, 4800, 'AH'), (4800, 6400, 't'), (6400, 8000, 'sil')]
PHN = '0 1600 sil\n1600 4800 AH\n4800 6400 t\n6400 7990 sil\n'
XWAVES = """\
separator ;
nfields 1
#
 0.1000 125 sil
 0.3000 125 AH ; score -30.5 ;
 0.3000 125 sp
 0.4000 125 t
 0.5000 125 sil
"""
HTK = """\
0 1000000 sil -300.5
1000000 3000000 AH -20.1 word
3000000 4000000 t
4000000 5000000 sil
"""
MLF = f"""\
#!MLF!#
"*/other.lab"
0 5000000 b
.
"*/one.lab"
{HTK}.
"""
LONG = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "he said ""3 phones""
on 2 lines"
    item [2]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 0.5
        points: size = 1
        points [1]:
            number = 0.2
            mark = "ding"
    item [3]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.3
            text = "AH0"
        intervals [3]:
            xmin = 0.3
            xmax = 0.4
            text = "t"
        intervals [4]:
            xmin = 0.4
            xmax = 0.5
            text = "sil"
"""
SHORT = """\
File type = "ooTextFile"
"TextGrid"

0
0.5
<exists>
1
"IntervalTier"
"someone - phones"
0
0.5
{count}
{rows}"""


def short(*rows, count=None):
  text = ''.join(f'{start}\n{end}\n"{mark}"\n' for start, end, mark in rows)
  return SHORT.format(count=len(rows) if count is None else count, rows=text)


ROWS = ((0, 0.1, ''), (0.1, 0.3, 'AH0'), (0.3, 0.4, 't'), (0.4, 0.5, ''))


def segments(path, num_samples=8000):
  found = alignment_files.read(path, num_samples, 'one')
  return [(segment.start, segment.end, segment.phone) for segment in found]


def written(tmp_path, name, text, encoding='utf-8'):
  path = tmp_path / name
  path.write_text(text, encoding)
  return path


def refuse(tmp_path, name, text, message, num_samples=8000):
  path = written(tmp_path, name, text)
  with pytest.raises(errors.DataError, match=f'^{re.escape(f"{path}: {message}")}') as caught:
    segments(path, num_samples)
  assert '\n' not in str(caught.value)

"""README.md: whole, and true of the files that it names."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / 'README.md').read_text(encoding='utf-8')
SECTIONS = [
  'Two commands',
  'CIFAR-10',
  'Many devices',
  'Speed',
  'Table 2 and the claims',
  'Table 1: TIMIT, from waveform to phone error rate',
  'Your own experiment',
  'Map',
  'Limits',
  'Citing, licences',
]
LINKS = [link for link in re.findall(r'\]\(([^)]+)\)', TEXT) if '://' not in link]


def test_it_has_all_its_sections():
  assert re.findall(r'^## (.+)$', TEXT, re.MULTILINE) == SECTIONS


def test_every_file_of_the_map_is_there():
  section = TEXT.partition('## Map')[2].partition('## ')[0]
  names = re.findall(r'\w+\.py', section)
  assert len(names) > 20
  files = {path.name for path in (ROOT / 'shallow_jax').rglob('*.py')}
  assert set(names) <= files


@pytest.mark.parametrize('link', LINKS)
def test_every_link_leads_to_a_file(link):
  assert (ROOT / link).exists()

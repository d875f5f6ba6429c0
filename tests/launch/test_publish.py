"""What is published: copies of reports, and pages whose values are those of the copies."""

import functools
import importlib.util
import pathlib
import subprocess
import sys

from made_up import runs
import pytest

from launch import publish
from shallow_jax.report import page
from shallow_jax.runtime import storage

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A finished run: its workdir and what write returned."""
  workdir = tmp_path_factory.mktemp('run')
  config = runs.make_config()
  runs.write_run(config, workdir)
  return workdir, page.write(config, workdir)


def test_publishing_copies_the_report_and_rewrites_the_tables_alone(run, tmp_path):
  workdir, results = run
  readme = tmp_path / 'README.md'
  readme.write_text(f'before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n')
  publish.publish(workdir, 'toy', tmp_path)
  assert storage.read_json(tmp_path / 'results' / 'toy' / 'results.json') == results
  assert len(list((tmp_path / 'results' / 'toy').glob('*.png'))) == 5
  lines = readme.read_text().splitlines()
  assert (lines[0], lines[-1]) == ('before', 'after') and 'old' not in lines
  assert '\n'.join(lines[2:-2]) == publish.published_tables(publish.published(tmp_path))
  (row,) = [line for line in lines if line.startswith('| shallow  ')]
  cells = [cell.strip() for cell in row.strip('|').split('|')]
  assert cells == [
    'shallow',
    '32L-2k',
    '6.4 (Table 9)',
    '6.00 ± 1.00 (3)',
    "the paper's, within 2 standard deviations",
  ]
  (row,) = [line for line in lines if line.startswith('| mimic  ')]
  assert '2.00 points below shallow_l2 (2.4 standard errors, over seeds; ' in row


def test_publishing_without_a_place_for_the_tables_changes_nothing(run, tmp_path):
  workdir, _ = run
  (tmp_path / 'README.md').write_text('no marks')
  with pytest.raises(publish.PublishError, match='expected the lines'):
    publish.publish(workdir, 'toy', tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['README.md']


def test_the_command_says_in_one_line_what_is_missing(tmp_path):
  command = [sys.executable, ROOT / 'launch' / 'publish.py', tmp_path, 'toy']
  found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
  assert found.returncode == 1
  assert found.stderr.count('\n') == 1 and 'results.json: could not be read' in found.stderr


@pytest.fixture(scope='module')
def published(run):
  """Published results by config."""
  return {'toy': run[1]}


@pytest.mark.parametrize(
  'what, text',
  [
    ('shallow error', '6.00 ± 1.00 % (3 seeds)'),
    ('teacher error', '1.00 % (1 seed)'),
    ('mimic weights', '86k'),
    ('mimic hidden_units', '2,032'),
    ('mimic times_teacher', '22'),
    ('shallow against_paper', "the paper's, within 2 standard deviations"),
    ('shallow nearer 5 8', 'nearer to 5 than to 8'),
    ('shallow nearer 2 8.5', 'nearer to 8.5 than to 2'),
    ('cnn_of_another_day error', 'not run here yet'),
  ],
)
def test_a_value_in_a_text_is_that_of_the_results(published, what, text):
  network, _, name = what.partition(' ')
  page = f'Ours: <!-- ours:toy/{network} {name} -->old\nvalue<!-- end -->, and'
  filled = publish.filled(page, published)
  assert filled == f'Ours: <!-- ours:toy/{network} {name} -->{text}<!-- end -->, and'
  assert publish.filled(filled, published) == filled


def test_the_text_between_two_values_stays(published):
  one = '<!-- ours:toy/{} error -->?<!-- end -->'
  page = f'{one.format("teacher")} and {one.format("cnn")}.'
  assert '1.00 % (1 seed)<!-- end --> and <!--' in publish.filled(page, published)


def test_a_value_that_there_is_not_is_refused(published):
  with pytest.raises(publish.PublishError, match="unknown 'eror'; expected one of error, weights"):
    publish.filled('<!-- ours:toy/cnn eror --><!-- end -->', published)


def test_publishing_fills_the_pages(run, tmp_path):
  (tmp_path / 'README.md').write_text(f'{publish.BEGIN}\n{publish.END}\n')
  page = tmp_path / 'inconsistencies.md'
  page.write_text('<!-- ours:toy/cnn error --><!-- end -->\n')
  publish.publish(run[0], 'toy', tmp_path)
  assert page.read_text() == '<!-- ours:toy/cnn error -->2.00 ± 0.00 % (2 seeds)<!-- end -->\n'


@pytest.mark.parametrize('page', publish.PAGES)
def test_a_page_is_that_of_the_published_results(page):
  text = (publish.CONFIGS / page).read_text()
  assert publish.filled(text, publish.published()) == text


@pytest.mark.parametrize('page', publish.PAGES)
def test_a_page_asks_for_networks_that_there_are(page):
  """A variant is published as <config>_<variant>; of cifar10 stands what it had before."""
  text = (publish.CONFIGS / page).read_text()
  names = sorted({(match[2], match[3]) for match in publish.VALUE.finditer(text)})
  assert names and text.count('<!-- ours:') == len(publish.VALUE.findall(text))
  for config, network in names:
    there_are = networks_of(config) | {
      *publish.published().get(config, {'networks': ()})['networks']
    }
    assert network in there_are, f'{config}/{network}'


@functools.cache
def networks_of(name):
  path = publish.CONFIGS / f'{name}.py'
  variant = ''
  if not path.exists():
    config, _, variant = name.rpartition('_')
    path = publish.CONFIGS / f'{config}.py'
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return set(module.get_config(variant).networks)


@pytest.mark.skipif(not (publish.CONFIGS / 'README.md').exists(), reason='nothing published yet')
def test_the_published_tables_are_those_of_the_published_results():
  text = (publish.CONFIGS / 'README.md').read_text()
  _, _, rest = text.partition(publish.BEGIN + '\n')
  table, _, _ = rest.partition('\n' + publish.END)
  assert table == publish.published_tables(publish.published())

"""The house: ten doors, imports that point down, one file for each library that only one may know.

Read from the source, nothing is imported.
"""

import ast
import graphlib
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / 'shallow_jax'
MAX_LINES = 400
MAX_FILES = 12  # in a folder

# From the ground up: a wing imports those before it.
WINGS = (
  'runtime',
  'models',
  'speech',
  'data',
  'logits',
  'training',
  'settings',
  'report',
  'pipeline',
)
APART = {('data', 'models'), ('logits', 'speech'), ('training', 'speech'), ('models', 'runtime')}
# A wing that a reader would not expect above its place, and the files that may.
ONLY = {
  ('report', 'speech'): {'report.results', 'report.phone_tables', 'report.figures.confusion'},
}
FACES = ('', 'data', 'models')  # their __init__ holds more than a docstring


def module_name(path):
  """data/cifar.py -> `data.cifar`, data/__init__.py -> `data`."""
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


PATHS = [path for path in PACKAGE.rglob('*.py') if 'configs' not in path.parts]
FILES = {module_name(path): path for path in PATHS}
MODULES = sorted(FILES)
FOLDERS = sorted({path.parent for path in PATHS} - {PACKAGE})


def imported(name):
  """All that a module imports, anywhere in it, as dotted names (`from a import b` is `a.b`)."""
  found = set()
  for node in ast.walk(ast.parse(FILES[name].read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{FILES[name]}:{node.lineno}: a relative import'
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


def ours(name):
  """The modules of ours that a module imports, longest name first: `data.cifar.load` too."""
  found = set()
  for dotted in imported(name):
    parts = dotted.split('.')
    if parts[0] != PACKAGE.name:
      continue
    while (inner := '.'.join(parts[1:])) not in FILES:
      parts.pop()
    found.add(inner)
  return found


def wing(name):
  return name.partition('.')[0]


def importers(package):
  """The modules that import a package of others, or anything in it."""
  return {
    name
    for name in MODULES
    if any(f'{dotted}.'.startswith(f'{package}.') for dotted in imported(name))
  }


def imported_at_all(name):
  """The first names of all that a module imports, itself or through modules of ours."""
  seen, todo = set(), {name}
  while todo:
    seen |= todo
    todo = set().union(*(ours(each) for each in todo)) - seen
  return {dotted.split('.')[0] for each in seen for dotted in imported(each)}


def test_the_files_are_found():
  assert {'', 'main', 'data', 'data.cifar', 'models.layers', 'training.step'} <= set(MODULES)
  assert 'training.losses' in ours('training.step')
  assert 'tensorflow_datasets' in imported('data.tfds_source')  # inside a function


def test_the_top_holds_the_wings_and_two_files():
  assert {folder.name for folder in FOLDERS if folder.parent == PACKAGE} == set(WINGS)
  assert {path.name for path in PACKAGE.glob('*.py')} == {'__init__.py', 'main.py'}


@pytest.mark.parametrize('name', [name for name in MODULES if wing(name) in WINGS])
def test_imports_point_down(name):
  floor = WINGS.index(wing(name))
  for other in ours(name) - {''}:
    assert other != 'main'
    assert WINGS.index(wing(other)) <= floor, f'{name} imports {other}'
    pair = (wing(name), wing(other))
    assert pair not in APART and pair[::-1] not in APART, f'{name} imports {other}'
    assert name in ONLY.get(pair, {name}), f'{name} imports {other}'


def test_there_is_no_cycle():
  inner = [name for name in MODULES if name]  # the package's own face hands on what lies within
  graphlib.TopologicalSorter({name: ours(name) - {name, ''} for name in inner}).prepare()


@pytest.mark.parametrize('name', [name for name in MODULES if wing(name) == 'report'])
def test_the_report_needs_no_jax(name):
  found = imported_at_all(name)
  assert not found & {'jax', 'flax', 'optax', 'orbax'}
  if not name.startswith('report.figures') and name != 'report.page':
    assert 'matplotlib' not in found


def test_speech_stays_out_of_the_loop():
  for name in ('training.step', 'training.feed', 'training.train'):
    assert not any(wing(other) == 'speech' for other in ours(name))


def test_nobody_imports_configs():
  assert importers('configs') | importers(f'{PACKAGE.name}.configs') == set()


def test_one_file_knows_tensorflow_datasets():
  assert importers('tensorflow_datasets') == {'data.tfds_source'}


def test_one_file_knows_orbax():
  assert importers('orbax') == {'runtime.checkpoint'}


def test_one_file_knows_the_mesh():
  assert importers('jax.sharding') <= {'runtime.parallel'}
  who = {name for name in MODULES if 'jax.sharding' in FILES[name].read_text()}
  assert who == {'runtime.parallel', 'runtime.checkpoint'}  # the second places what it reads


def test_one_file_knows_the_other_processes():
  assert importers('jax.experimental.multihost_utils') == {'runtime.processes'}


def test_nobody_knows_tensorflow():
  assert importers('tensorflow') | importers('tensorboard') | importers('clu') == set()


@pytest.mark.parametrize('name', MODULES)
def test_no_file_needs_a_map(name):
  assert len(FILES[name].read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_no_folder_needs_a_map(folder):
  assert len(list(folder.glob('*.py'))) <= MAX_FILES


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_every_wing_says_what_it_is_for_in_a_line(folder):
  path = folder / '__init__.py'
  tree = ast.parse(path.read_text())
  assert '\n' not in ast.get_docstring(tree, clean=False) or module_name(path) in FACES
  assert len(tree.body) == 1 or module_name(path) in FACES

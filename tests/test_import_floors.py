"""Who may import whom: the house of design.md, read from the source, nothing imported."""

import ast
import graphlib
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / 'shallow_jax'
MAX_LINES = 400

# The ground: none of these imports another of ours.
GROUND = (
  'losses',
  'metrics',
  'optimizer',
  'storage',
  'metric_writer',
  'config_values',
  'uncertainty',
  'size_factor',
  'errors',
  'target_names',
  'learning_rates',
  'mapped_logits',
  'parallel',
)
# One step up: these use storage alone.
ON_STORAGE = ('logit_manifest', 'run_guard', 'curves')
# What may be imported by those who must not need JAX.
WITHOUT_JAX = {
  'storage',
  'uncertainty',
  'comparison',
  'curves',
  'predictions',
  'size_factor',
  'config_values',
  'sweep_settings',
  'sweeps',
  'results',
  'label_placement',
  'plotting',
  'figures',
  'sweep_figures',
  'report_tables',
  'target_names',
  'phone_errors',
  'confusion_figure',
  'recognition_report',
}


def module_name(path):
  """data/cifar.py -> `data.cifar`, data/__init__.py -> `data`."""
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


PATHS = [path for path in PACKAGE.rglob('*.py') if 'configs' not in path.parts]
FILES = {module_name(path): path for path in PATHS}
MODULES = sorted(FILES)


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
  """The modules of ours that a module imports, longest name first: `experiment.Experiment` too."""
  found = set()
  for dotted in imported(name):
    parts = dotted.split('.')
    if parts[0] != PACKAGE.name:
      continue
    while (inner := '.'.join(parts[1:])) not in FILES:
      parts.pop()
    found.add(inner)
  return found


def importers(package):
  """The modules that import a package of others, or anything in it."""
  return {
    name
    for name in MODULES
    if any(f'{dotted}.'.startswith(f'{package}.') for dotted in imported(name))
  }


def is_inside(name, folder):
  return f'{name}.'.startswith(f'{folder}.')


def test_the_files_are_found():
  assert {'', 'main', 'pipeline', 'train', 'data', 'data.cifar', 'models.layers'} <= set(MODULES)
  assert 'losses' in ours('step')
  assert 'data.dataset' in ours('step')
  assert 'tensorflow_datasets' in imported('data.tfds_source')  # inside a function


@pytest.mark.parametrize('name', GROUND)
def test_the_ground_stands_on_nothing_of_ours(name):
  assert ours(name) == set()


@pytest.mark.parametrize('name', ON_STORAGE)
def test_files_that_are_kept_stand_on_storage_alone(name):
  assert ours(name) <= {'storage'}


def test_several_processes_stand_on_the_guard_of_one_alone():
  assert ours('processes') <= {'run_guard'}


def test_checkpoints_stand_on_storage_and_what_processes_agree_on():
  assert ours('checkpoint') <= {'processes', 'storage'}


def test_the_store_stands_on_its_manifest_its_rows_and_storage_alone():
  assert ours('logit_store') <= {'logit_manifest', 'mapped_logits', 'storage'}


@pytest.mark.parametrize('name', [name for name in MODULES if is_inside(name, 'data')])
def test_data_stand_on_data_speech_and_storage_alone(name):
  others = {other for other in ours(name) if not is_inside(other, 'data')}
  assert {other for other in others if not is_inside(other, 'speech')} <= {'storage', 'errors'}


@pytest.mark.parametrize('name', [name for name in MODULES if is_inside(name, 'speech')])
def test_speech_stands_on_speech_and_storage_alone(name):
  assert {other for other in ours(name) if not is_inside(other, 'speech')} <= {'storage', 'errors'}


@pytest.mark.parametrize('name', [name for name in MODULES if is_inside(name, 'models')])
def test_models_stand_on_models_alone(name):
  assert {other for other in ours(name) if not is_inside(other, 'models')} == set()


@pytest.mark.parametrize(
  'name', ['report', 'report_tables', 'figures', 'sweep_figures', 'label_placement']
)
def test_the_report_reads_files_only(name):
  assert ours(name) <= WITHOUT_JAX - {name}
  assert not imported_at_all(name) & {'jax', 'flax', 'optax', 'orbax'}


def imported_at_all(name):
  """The first names of all that a module imports, itself or through modules of ours."""
  seen, todo = set(), {name}
  while todo:
    seen |= todo
    todo = set().union(*(ours(each) for each in todo)) - seen
  return {dotted.split('.')[0] for each in seen for dotted in imported(each)}


def test_nobody_imports_configs():
  assert importers('configs') | importers(f'{PACKAGE.name}.configs') == set()


def test_one_file_knows_tensorflow_datasets():
  assert importers('tensorflow_datasets') == {'data.tfds_source'}


def test_one_file_knows_orbax():
  assert importers('orbax') == {'checkpoint'}


def test_one_file_knows_the_mesh():
  assert importers('jax.sharding') <= {'parallel'}
  who = {name for name in MODULES if 'jax.sharding' in FILES[name].read_text()}
  assert who == {'parallel', 'checkpoint'}  # the second places what it reads


def test_one_file_knows_the_other_processes():
  assert importers('jax.experimental.multihost_utils') == {'processes'}


def test_nobody_knows_tensorflow():
  assert importers('tensorflow') | importers('tensorboard') | importers('clu') == set()


def test_there_is_no_cycle():
  graphlib.TopologicalSorter({name: ours(name) - {name} for name in MODULES}).prepare()


@pytest.mark.parametrize('name', MODULES)
def test_no_file_needs_a_map(name):
  assert len(FILES[name].read_text().splitlines()) <= MAX_LINES

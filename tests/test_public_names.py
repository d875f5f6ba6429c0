"""`import shallow_jax`: a few names, light until they are used."""

import ast
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import shallow_jax
from shallow_jax.pipeline import run as run_lib
from shallow_jax.settings import defaults

FILE = pathlib.Path(shallow_jax.__file__)


def test_nothing_is_imported_before_it_is_used():
  code = 'import sys, shallow_jax; print(*dir(shallow_jax)); print(*sys.modules)'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=FILE.parents[1]
  )
  names, modules = done.stdout.splitlines()
  assert {'experiment', 'run', 'variants', '__version__'} <= set(names.split())
  assert not set(modules.split()) & {'jax', 'flax', 'numpy', 'matplotlib', 'ml_collections'}
  assert [name for name in modules.split() if name.startswith('shallow_jax')] == ['shallow_jax']


def test_the_names_are_what_they_stand_for():
  assert shallow_jax.experiment is defaults.experiment
  assert shallow_jax.variants is defaults.variants
  assert shallow_jax.run is run_lib.run


def test_another_name_is_refused_as_of_any_module():
  with pytest.raises(AttributeError, match="module 'shallow_jax' has no attribute 'runn'"):
    shallow_jax.runn  # noqa: B018


def test_no_module_takes_a_names_place():
  """An import of shallow_jax.run, say, would set the attribute `run` to a module."""
  assert not {module.name for module in pkgutil.iter_modules(shallow_jax.__path__)} & set(
    shallow_jax.__all__
  )


def test_type_checkers_see_the_same_names():
  imports = [
    node
    for node in ast.walk(ast.parse(FILE.read_text()))
    if isinstance(node, ast.ImportFrom) and node.module.startswith('shallow_jax')
  ]
  seen = {alias.asname: node.module for node in imports for alias in node.names}
  assert seen == {name: getattr(shallow_jax, name).__module__ for name in shallow_jax.__all__}

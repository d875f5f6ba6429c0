"""What a user can put right is told in one line: every error class of the package says so."""

import ast
import pathlib

from shallow_jax.runtime import errors

PACKAGE = pathlib.Path(errors.__file__).parents[1]


def test_every_public_error_is_an_expected_one():
  found = {
    node.name: [ast.unparse(base).removeprefix('errors.') for base in node.bases]
    for path in PACKAGE.rglob('*.py')
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ClassDef) and node.name.endswith('Error') and node.name[0] != '_'
  }
  assert found.pop('ExpectedError') == ['Exception']
  assert len(found) >= 11
  assert all(bases[0] == 'ExpectedError' for bases in found.values()), found

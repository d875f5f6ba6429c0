"""Checkpoints that can't be wrong unnoticed. The one file that knows Orbax.

Orbax keeps no checksum of parameter data, so a manifest with the sha256 of every file lies beside
each step and is verified before Orbax opens one of them. A step without a manifest is unfinished.
"""

from collections.abc import Mapping
import contextlib
import logging
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from shallow_jax.runtime import errors
from shallow_jax.runtime import processes
from shallow_jax.runtime import storage

_log = logging.getLogger(__name__)


class CheckpointError(errors.ExpectedError, ValueError):
  """A checkpoint that can't be used; its message is one line that names file or field."""


def save(
  folder: pathlib.Path, step: int, tree: Any, *, notes: Mapping[str, Any], keep: int
) -> None:
  """Saves a tree of arrays as `folder/<step>`; keeps the newest `keep` steps up to this one.

  A later step is of a training that was given up, and is dropped.
  Of several processes each writes what its devices hold, and the first one the manifest.
  """
  path = folder / str(step)
  if processes.is_first():
    _remove(folder, step)
  processes.meet('an older checkpoint of this step is gone')
  ocp.save(str(path.absolute()), tree)
  processes.meet('the checkpoint is written')
  if processes.is_first():
    files = {
      str(file.relative_to(path)): storage.sha256_file(file)
      for file in sorted(path.rglob('*'))
      if file.is_file()
    }
    manifest = {'step': step, 'files': files, 'arrays': _description(tree), 'notes': dict(notes)}
    storage.write_sealed_json(_manifest_path(folder, step), manifest)
    kept = [each for each in steps(folder) if each <= step][:keep]
    for other in steps(folder):
      if other not in kept:
        _remove(folder, other)
  processes.meet('the checkpoint has its manifest')


def remove_all(folder: pathlib.Path) -> None:
  """Removes every step of a folder, finished or not, and the folder."""
  for step in steps(folder):
    _remove(folder, step)
  shutil.rmtree(folder, ignore_errors=True)


def steps(folder: pathlib.Path) -> list[int]:
  """The finished steps of a folder, newest first; whether they verify is not looked at."""
  manifests = folder.glob('*.manifest.json')
  return sorted((int(path.name.split('.')[0]) for path in manifests), reverse=True)


def newest_notes(folder: pathlib.Path) -> dict[str, Any] | None:
  """The notes of the newest step, None where there is none; its arrays are not looked at."""
  for step in steps(folder):
    with contextlib.suppress(storage.StorageError):  # restore_newest names what is damaged
      return storage.read_sealed_json(_manifest_path(folder, step))['notes']
  return None


def restore_newest(folder: pathlib.Path, template: Any) -> tuple[Any, dict[str, Any]] | None:
  """The newest step that verifies and its notes, or None where there is no step at all.

  The step is a tree like `template` (arrays or jax.ShapeDtypeStruct). Each array comes to where the
  template's lies; of a jax.ShapeDtypeStruct to one device. Where it lay when it was saved does not
  matter. Of several processes the first one verifies and decides for all.

  A damaged step is passed over with a warning. A folder in which no step verifies raises
  CheckpointError, and so does a step whose arrays are not the template's.
  """
  with processes.refusing_together(CheckpointError):
    choice = _choice(folder, _description(template)) if processes.is_first() else None
  choice = processes.agree(choice)
  if choice is None:
    return None
  path = folder / str(choice['step'])
  return ocp.load(str(path.absolute()), jax.tree.map(_abstract, template)), choice['notes']


def _choice(folder: pathlib.Path, arrays: Mapping[str, str]) -> dict[str, Any] | None:
  """The `step` to restore and its `notes`; None where there is none."""
  damage = ''
  for step in steps(folder):
    try:
      manifest = _verified(folder, step)
    except storage.StorageError as error:
      damage = str(error)
      _log.warning('%s; trying an older checkpoint', damage)
      continue
    different = storage.differences(manifest['arrays'], arrays)
    if different:
      named = '; '.join(different[:3])
      raise CheckpointError(f'{folder / str(step)} holds another network: {named}')
    return {'step': step, 'notes': manifest['notes']}
  if damage:
    start_again = f'no older checkpoint is left: delete {folder.parent} to start again'
    raise CheckpointError(f'{damage}; {start_again}')
  return None


def _verified(folder: pathlib.Path, step: int) -> dict[str, Any]:
  """The manifest of a step whose files are what it says; else raises storage.StorageError."""
  manifest, path = storage.read_sealed_json(_manifest_path(folder, step)), folder / str(step)
  for name, sha256 in manifest['files'].items():
    file = path / name
    if not file.is_file():
      raise storage.StorageError(f'{file}: missing from the checkpoint')
    if storage.sha256_file(file) != sha256:
      raise storage.StorageError(f'{file}: damaged, its sha256 is not the one that was written')
  return manifest


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  sharding = leaf.sharding if isinstance(leaf, jax.Array) else here
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _description(tree: Any) -> dict[str, str]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  names = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves]
  kinds = [f'{np.dtype(leaf.dtype)}{list(leaf.shape)}' for _, leaf in leaves]
  return dict(zip(names, kinds, strict=True))


def _manifest_path(folder: pathlib.Path, step: int) -> pathlib.Path:
  return folder / f'{step}.manifest.json'


def _remove(folder: pathlib.Path, step: int) -> None:
  # The manifest goes first: what has none is never taken for a checkpoint.
  _manifest_path(folder, step).unlink(missing_ok=True)
  shutil.rmtree(folder / str(step), ignore_errors=True)

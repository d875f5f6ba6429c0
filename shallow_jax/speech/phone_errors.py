"""The phone errors of each utterance, kept beside a network's result: intervals, two nets in pairs.

<workdir>/<network>/phone_errors.npz
  validation, test     int32 [seeds, conventions, utterances, kinds], see CONVENTIONS and KINDS;
                       -1 in all of a diverged seed
  <set>_utterances     their names, <set>_speakers who speaks them
  confusion            int64 [seeds, classes + 1, classes + 1] on test: rows: the reference's class,
                       then insertions; columns: the hypothesis's class, then deletions
  classes              their names
"""

from collections.abc import Mapping, Sequence
import dataclasses
import io
import pathlib
from typing import Any
import zipfile

import numpy as np

from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.speech import bootstrap
from shallow_jax.speech import scoring

CONVENTIONS = scoring.CONVENTIONS
KINDS = tuple(field.name for field in dataclasses.fields(scoring.Counts))
ERRORS = KINDS[:-1]
DIVERGED = -1
STRICT = CONVENTIONS.index('strict')

Arrays = dict[str, np.ndarray]


def save(
  workdir: pathlib.Path,
  network: str,
  seeds: Sequence[Mapping[str, np.ndarray] | None],
  described: Mapping[str, Any],
) -> None:
  """Writes a network's phone errors.

  Args:
    workdir: of the run.
    network: whose they are.
    seeds: 'validation', 'test' and 'confusion' of each, without the seeds' axis; None: it diverged.
    described: the other arrays of the file.
  """
  known = next((each for each in seeds if each is not None), None)
  if known is None:
    return
  arrays: dict[str, Any] = {
    name: np.stack([np.full_like(known[name], DIVERGED) if s is None else s[name] for s in seeds])
    for name in known
  }
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays, **described)
  storage.write_bytes(workdir / network / workdir_lib.PHONE_ERRORS, buffer.getvalue())


def read(
  workdir: pathlib.Path, network: str, per: Sequence[float | None] | None = None
) -> Arrays | None:
  """What `save` wrote; None where there is no such file.

  Args:
    workdir: of the run.
    network: whose phone errors to read.
    per: the seeds' strict rates on test, as the result states them; None: it is not compared.

  Raises:
    storage.StorageError: the file is damaged, or not that of these rates.
  """
  path = workdir / network / workdir_lib.PHONE_ERRORS
  if not path.exists():
    return None
  try:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
      found = {name: file[name] for name in file}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise storage.StorageError(f'{path}: could not be read: {error}') from error
  if per is not None:
    _check(path, found, per)
  return found


def _check(path: pathlib.Path, found: Arrays, per: Sequence[float | None]) -> None:
  counts = found['test'][:, STRICT]
  if len(counts) != len(per):
    raise storage.StorageError(f'{path}: {len(counts)} seeds instead of {len(per)}')
  for seed, expected in enumerate(per):
    if expected is not None and abs(rate(counts[seed]) - expected) > 1e-6:
      raise storage.StorageError(
        f'{path}: seed {seed} has a phone error rate of {rate(counts[seed]):.4f} %, its result '
        f'says {expected:.4f} %; delete its result.json to evaluate it again'
      )


def known(counts: np.ndarray) -> np.ndarray:
  """Which seeds did not diverge, bool [seeds]."""
  return (counts != DIVERGED).all(axis=(1, 2, 3))


def rate(counts: np.ndarray) -> float:
  """The phone error rate in per cent, of counts [utterances, kinds]."""
  return scoring.pooled(_units(counts)).rate


def share(counts: np.ndarray, kind: str) -> float:
  """One of ERRORS in per cent of the reference's phones, of counts [utterances, kinds]."""
  total = scoring.pooled(_units(counts))
  return 100.0 * getattr(total, kind) / total.length


def interval(counts: Sequence[np.ndarray]) -> list[float] | None:
  """The 95 % interval of the strict rate over utterances, pooled over seeds; None of no seed.

  Args:
    counts: of each seed that did not diverge, [conventions, utterances, kinds].
  """
  return list(bootstrap.interval(_pooled(counts))) if len(counts) else None


def interval_of_splits(splits: Sequence[Arrays], name: str) -> list[float] | None:
  """`interval` on the set `name` of what `read` returned for several splits."""
  units = [unit for each in splits for unit in _pooled(each[name][known(each[name])])]
  return list(bootstrap.interval(units)) if units else None


def by_speaker(counts: Sequence[np.ndarray], speakers: Sequence[str]) -> dict[str, float]:
  """Each speaker's strict rate in per cent, pooled over seeds; `counts` as in `interval`."""
  if not len(counts):
    return {}
  found = scoring.per_speaker(_pooled(counts), speakers)
  return {name: each.rate for name, each in found.items()}


def difference(first: Mapping[str, Arrays], second: Mapping[str, Arrays]) -> dict[str, Any] | None:
  """Compares two networks on the test utterances: `first` less `second`, in points.

  Seed i of one stands against seed i of the other; utterances are drawn anew for both together.

  Args:
    first: what `read` returned, by split.
    second: the same of the other network.

  Returns:
    `value`, `low` and `high` (95 % interval), `share_better`: the share of the draws in which
    `second` makes fewer errors, and `pairs`; None if there is no pair of seeds.
  """
  units: list[list[scoring.Counts]] = [[], []]
  pairs = 0
  for split in [split for split in first if split in second]:
    both = [first[split]['test'], second[split]['test']]
    both = [counts[: min(map(len, both))] for counts in both]
    paired = known(both[0]) & known(both[1])
    pairs += int(paired.sum())
    for side, counts in zip(units, both, strict=True):
      side += _pooled(counts[paired])
  if not pairs:
    return None
  found = bootstrap.difference(units[1], units[0])
  return {
    'value': found.value,
    'low': found.low,
    'high': found.high,
    'share_better': 1.0 - found.share_better,
    'pairs': pairs,
  }


def _pooled(counts: Sequence[np.ndarray] | np.ndarray) -> list[scoring.Counts]:
  """Each utterance's strict counts, added over seeds; none of no seed."""
  if not len(counts):
    return []
  return _units(np.sum([each[STRICT] for each in counts], axis=0))


def _units(counts: np.ndarray) -> list[scoring.Counts]:
  return [scoring.Counts(*map(int, row)) for row in counts]

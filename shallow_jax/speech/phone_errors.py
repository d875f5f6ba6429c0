"""The phone errors of each utterance, kept beside a network's result: intervals, two nets in pairs.

<workdir>/<network>/phone_errors.npz
  validation, test     int32 [seeds, conventions, utterances, kinds], see `scoring`'s CONVENTIONS
                       and KINDS; -1 in all of a diverged seed
  <set>_utterances     their names, <set>_speakers who speaks them
  confusion            int64 [seeds, classes + 1, classes + 1] on test: rows: the reference's class,
                       then insertions; columns: the hypothesis's class, then deletions
  classes              their names

How far a rate may be off because other utterances were drawn: a bootstrap (Bisani & Ney 2004).
Utterances are drawn with replacement, as many as there are, 10,000 times.
"""

from collections.abc import Mapping, Sequence
import io
import pathlib
from typing import Any
import zipfile

import numpy as np
from scipy import stats

from shallow_jax.runtime import errors
from shallow_jax.runtime import storage
from shallow_jax.runtime import workdir as workdir_lib
from shallow_jax.speech import scoring

CONVENTIONS = scoring.CONVENTIONS
ERRORS = scoring.KINDS[:-1]
DIVERGED = -1
STRICT = CONVENTIONS.index('strict')

_SAMPLES = 10_000
_AT_ONCE = 250  # samples
_PERCENTILES = (2.5, 97.5)

Arrays = dict[str, np.ndarray]


def save(
  workdir: pathlib.Path,
  network: str,
  seeds: Sequence[Mapping[str, np.ndarray] | None],
  described: Mapping[str, Any],
) -> None:
  """Writes a network's phone errors.

  Args:
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

  `per` are the seeds' strict rates on test, as the result states them; None: it is not compared.

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
  """The phone error rate in per cent, of counts [utterances, kinds].

  Raises:
    DataError: no phone in the references.
  """
  wrong, lengths = _wrong_and_lengths(counts)
  return 100.0 * float(wrong.sum()) / float(lengths.sum())


def share(counts: np.ndarray, kind: str) -> float:
  """One of ERRORS in per cent of the reference's phones, of counts [utterances, kinds]."""
  _, lengths = _wrong_and_lengths(counts)
  return 100.0 * float(counts[:, ERRORS.index(kind)].sum()) / float(lengths.sum())


def interval(counts: Sequence[np.ndarray]) -> list[float] | None:
  """The 95 % interval of the strict rate over utterances, pooled over seeds; None of no seed.

  Args:
    counts: of each seed that did not diverge, [conventions, utterances, kinds].
  """
  return _interval(_pooled(counts)) if len(counts) else None


def interval_of_runs(runs: Sequence[Arrays], name: str) -> list[float] | None:
  """`interval` on the set `name` of what `read` returned for several runs."""
  kept = [each[name][known(each[name])] for each in runs]
  pooled = [_pooled(counts) for counts in kept if len(counts)]
  return _interval(np.concatenate(pooled)) if pooled else None


def by_speaker(counts: Sequence[np.ndarray], speakers: Sequence[str]) -> dict[str, float]:
  """Each speaker's strict rate in per cent, pooled over seeds; `counts` as in `interval`."""
  if not len(counts):
    return {}
  pooled, speaker_of = _pooled(counts), np.array(speakers)
  return {name: rate(pooled[speaker_of == name]) for name in sorted(set(speakers))}


def difference(first: Mapping[str, Arrays], second: Mapping[str, Arrays]) -> dict[str, Any] | None:
  """Compares two networks on the test utterances: `first` less `second`, in points.

  Seed i of one stands against seed i of the other; utterances are drawn anew for both together.

  Args:
    first: what `read` returned, by run.
    second: the same of the other network.

  Returns:
    `value`, `low` and `high` (95 % interval), `share_better`: the share of the draws in which
    `second` makes fewer errors, equally many counting half, and `pairs`; None if there is no pair
    of seeds.

  Raises:
    DataError: the two have other references, or no phone in them.
  """
  pooled = []
  pairs = 0
  for run in [run for run in first if run in second]:
    one, other = first[run]['test'], second[run]['test']
    count = min(len(one), len(other))
    paired = known(one[:count]) & known(other[:count])
    if paired.any():
      pooled.append((_pooled(one[:count][paired]), _pooled(other[:count][paired])))
      pairs += int(paired.sum())
  if not pairs:
    return None
  (wrong, lengths), (others_wrong, others_lengths) = (
    _wrong_and_lengths(np.concatenate(side)) for side in zip(*pooled, strict=True)
  )
  if not np.array_equal(lengths, others_lengths):
    raise errors.DataError(
      f'two systems with references of {others_lengths.sum()} and {lengths.sum()} phones, '
      'expected the same utterances in the same order'
    )
  more = wrong - others_wrong
  drawn = _drawn(more, lengths)
  low, high = np.percentile(drawn, _PERCENTILES)
  return {
    'value': 100.0 * float(more.sum() / lengths.sum()),
    'low': float(low),
    'high': float(high),
    'share_better': 1.0 - float(np.mean(drawn < 0) + np.mean(drawn == 0) / 2),
    'pairs': pairs,
  }


def _pooled(counts: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
  """Each utterance's strict counts, added over seeds: int64 [utterances, kinds]."""
  return np.stack([each[STRICT] for each in counts]).sum(axis=0)


def _wrong_and_lengths(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Each utterance's errors of all kinds and its reference's phones, of [utterances, kinds]."""
  wrong, lengths = counts[:, :-1].sum(axis=1), counts[:, -1]
  if not lengths.sum():
    raise errors.DataError('a reference of 0 phones has no error rate, expected 1 phone or more')
  return wrong, lengths


def _interval(counts: np.ndarray) -> list[float]:
  return np.percentile(_drawn(*_wrong_and_lengths(counts)), _PERCENTILES).tolist()


def _drawn(wrong: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  """Errors in per cent of phones [samples], over the utterances that are drawn for each sample."""

  def share_of_drawn(wrong: np.ndarray, lengths: np.ndarray, axis: int) -> np.ndarray:
    # At least 1: utterances without a phone may be all that were drawn.
    return 100.0 * wrong.sum(axis) / np.maximum(lengths.sum(axis), 1)

  if len(wrong) == 1:  # which SciPy refuses; each draw is that one
    return share_of_drawn(wrong[None], lengths[None], axis=1)
  return stats.bootstrap(
    (wrong, lengths),
    share_of_drawn,
    n_resamples=_SAMPLES,
    batch=_AT_ONCE,
    paired=True,
    vectorized=True,
    method='percentile',
    rng=np.random.default_rng(0),
  ).bootstrap_distribution

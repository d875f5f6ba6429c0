"""The report's part on phones: how they were decoded, by which convention scored, who was heard."""

from collections.abc import Iterable, Mapping
from typing import Any

from shallow_jax.report import comparison
from shallow_jax.report import tables
from shallow_jax.report import texts

MOST_NETWORKS = 6  # beside each other in the table of speakers


def text(results: Mapping[str, Any]) -> str:
  """All of it; '' where no network recognises phones."""
  tests = {name: results['networks'][name]['metrics']['test'] for name in results['order']}
  rates = {name: test['per'] for name, test in tests.items() if test['per'] is not None}
  if not rates:
    return ''
  sections = [
    '## Phones',
    _NOTE,
    tables.table([_conventions_row(name, per) for name, per in rates.items()]),
    _edge_text(rates),
    _alignment_text(results['networks']),
    '### Phone error rate by speaker, %',
    _speakers_table(results['roles'], rates),
  ]
  return '\n\n'.join(section for section in sections if section)


_NOTE = (
  'Phone error rate: 100 (substitutions + deletions + insertions) / phones of the reference, '
  'pooled over the test set. Strict: silence is scored like a phone. Optional: a silence of the '
  'reference may be missing. Removed: silence is taken off both sides. Interval: 95 %, test '
  'utterances drawn anew with replacement, seeds pooled. The scales of acoustics, bigram and '
  'insertions are chosen on validation by the strict rate. Frame error is against the thirds of '
  "the corpus's segments, on test always, whatever a network learned from."
)


def _conventions_row(name: str, per: Mapping[str, Any]) -> tables.Row:
  return {
    'network': name,
    'strict %': texts.summary_text(per),
    '95 % interval': texts.interval_text(per['interval']),
    'silence optional %': texts.summary_text(per['optional_silence']),
    'silence removed %': texts.summary_text(per['without_silence']),
    'substitutions %': texts.summary_text(per['substitutions']),
    'deletions %': texts.summary_text(per['deletions']),
    'insertions %': texts.summary_text(per['insertions']),
    'acoustic / lm / insertion': _scales_text(per['scales']),
  }


def _scales_text(scales: Iterable[Mapping[str, float] | None]) -> str:
  """The scales of all seeds, equal ones once."""
  known = [
    f'{each["acoustic"]:g} / {each["lm"]:g} / {each["insertion"]:g}' for each in scales if each
  ]
  return '; '.join(dict.fromkeys(known)).replace('-', '−') or '–'


def _edge_text(rates: Mapping[str, Mapping[str, Any]]) -> str:
  named = '; '.join(
    f'{name} ({", ".join(per["at_edge"])})' for name, per in rates.items() if per['at_edge']
  )
  if not named:
    return ''
  return f'At the edge of the values that were tried, so that others may be better: {named}.'


def _alignment_text(networks: comparison.Entries) -> str:
  """What each alignment changed; '' where all networks learn from the corpus's segments."""
  learners: dict[str, list[str]] = {}
  for name, entry in networks.items():
    if entry.get('alignment'):
      learners.setdefault(entry['alignment']['by'], []).append(name)
  if not learners:
    return ''
  rows = [
    {
      'labels aligned by': aligner,
      'learned from by': ', '.join(names),
      'frames changed %': texts.number(found['changed'], '.1f'),
      'labels begin so far off, frames': texts.number(found['shift'], '.2f'),
      'frames in the three states %': ' / '.join(f'{share:.0f}' for share in found['shares']),
      'utterances too short': str(sum(found['kept'].values())),
    }
    for aligner, names in learners.items()
    for found in [networks[names[-1]]['alignment']]
  ]
  return f'### Realigned labels\n\n{tables.table(rows)}\n\n{_ALIGNMENT_NOTE}'


_ALIGNMENT_NOTE = (
  'Frames changed: of train, from the labels that the aligning network learned from. Beginnings: '
  "the mean distance from the corpus's. Students are named with the labels that their teachers "
  "learned from. Curves of training show a network's frame error against its own labels."
)


def _speakers_table(roles: comparison.Roles, rates: Mapping[str, Mapping[str, Any]]) -> str:
  chosen = [roles[role] for role in ('headline', 'best_on_labels', 'baseline', 'teacher')]
  chosen = [name for name in dict.fromkeys(chosen) if name in rates]
  names = chosen if roles['headline'] in chosen else list(rates)[:MOST_NETWORKS]
  by_name = {name: rates[name]['by_speaker'] for name in names}
  speakers = sorted({speaker for each in by_name.values() for speaker in each})
  rows = [
    {'speaker': speaker}
    | {name: texts.number(found.get(speaker), '.1f') for name, found in by_name.items()}
    for speaker in speakers
  ]
  return tables.table(rows)

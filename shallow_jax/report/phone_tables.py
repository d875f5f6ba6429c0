"""The report's part on phones: how they were decoded, by which convention scored, who was heard."""

from collections.abc import Iterable, Mapping
from typing import Any

from shallow_jax.report import tables

MOST_NETWORKS = 6  # beside each other in the table of speakers

Entry = Mapping[str, Any]


def text(results: Mapping[str, Any]) -> str:
  """All of it; '' where no network recognises phones."""
  entries = {
    name: entry
    for name in results['order']
    if (entry := results['networks'][name])['metrics']['test']['per'] is not None
  }
  if not entries:
    return ''
  sections = [
    '## Phones',
    _NOTE,
    _conventions_table(entries),
    _edge_text(entries),
    _alignment_text(results['networks']),
    '### Phone error rate by speaker, %',
    _speakers_table(results, entries),
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


def _conventions_table(entries: Mapping[str, Entry]) -> str:
  heads = (
    *('network', 'strict %', '95 % interval', 'silence optional %', 'silence removed %'),
    *('substitutions %', 'deletions %', 'insertions %', 'acoustic / lm / insertion'),
  )
  rows = [
    _conventions_row(name, entry['metrics']['test']['per']) for name, entry in entries.items()
  ]
  return tables.aligned_table(heads, rows)


def _conventions_row(name: str, per: Entry) -> list[str]:
  keys = ('optional_silence', 'without_silence', 'substitutions', 'deletions', 'insertions')
  interval = per['interval']
  return [
    name,
    tables.summary_text(per),
    '–' if interval is None else f'{interval[0]:.2f} – {interval[1]:.2f}',
    *(tables.summary_text(per[key]) for key in keys),
    _scales_text(per['scales']),
  ]


def _scales_text(scales: Iterable[Mapping[str, float] | None]) -> str:
  """The scales of all seeds, equal ones once."""
  texts = [
    f'{each["acoustic"]:g} / {each["lm"]:g} / {each["insertion"]:g}' for each in scales if each
  ]
  return '; '.join(dict.fromkeys(texts)).replace('-', '−') or '–'


def _edge_text(entries: Mapping[str, Entry]) -> str:
  at_edge = {
    name: parts for name, e in entries.items() if (parts := e['metrics']['test']['per']['at_edge'])
  }
  if not at_edge:
    return ''
  named = '; '.join(f'{name} ({", ".join(parts)})' for name, parts in at_edge.items())
  return f'At the edge of the values that were tried, so that others may be better: {named}.'


def _alignment_text(networks: Mapping[str, Entry]) -> str:
  """What each alignment changed; '' where all networks learn from the corpus's segments."""
  found: dict[str, Entry] = {}
  learners: dict[str, list[str]] = {}
  for name, entry in networks.items():
    if entry.get('alignment'):
      found[entry['alignment']['by']] = entry['alignment']
      learners.setdefault(entry['alignment']['by'], []).append(name)
  if not found:
    return ''
  heads = (
    *(
      'labels aligned by',
      'learned from by',
      'frames changed %',
      'labels begin so far off, frames',
    ),
    *('frames in the three states %', 'utterances too short'),
  )
  rows = [
    [
      aligner,
      ', '.join(learners[aligner]),
      tables.number(each['changed'], '.1f'),
      tables.number(each['shift'], '.2f'),
      ' / '.join(f'{share:.0f}' for share in each['shares']),
      str(sum(each['kept'].values())),
    ]
    for aligner, each in found.items()
  ]
  table = tables.aligned_table(heads, rows)
  return f'### Realigned labels\n\n{table}\n\n{_ALIGNMENT_NOTE}'


_ALIGNMENT_NOTE = (
  'Frames changed: of train, from the labels that the aligning network learned from. Beginnings: '
  "the mean distance from the corpus's. Students are named with the labels that their teachers "
  "learned from. Curves of training show a network's frame error against its own labels."
)


def _speakers_table(results: Mapping[str, Any], entries: Mapping[str, Entry]) -> str:
  roles = results['roles']
  chosen = [roles[role] for role in ('headline', 'best_on_labels', 'baseline', 'teacher')]
  chosen = [name for name in dict.fromkeys(chosen) if name in entries]
  names = chosen if roles['headline'] in chosen else list(entries)[:MOST_NETWORKS]
  rates = {name: entries[name]['metrics']['test']['per']['by_speaker'] for name in names}
  speakers = sorted({speaker for each in rates.values() for speaker in each})
  rows = [
    [speaker, *(tables.number(rates[name].get(speaker), '.1f') for name in names)]
    for speaker in speakers
  ]
  return tables.aligned_table(('speaker', *names), rows)

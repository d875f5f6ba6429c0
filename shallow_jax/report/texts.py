"""The texts in the report's cells, sentences and pictures: numbers, intervals, times, commands."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from shallow_jax.report import comparison


def seeds_text(entry: comparison.Entry) -> str:
  """How many seeds, and of how many splits if there are several."""
  splits = f'{len(entry["splits"])} × ' if 'splits' in entry else ''
  return f'{splits}{len(entry["seeds"])}'


def error_text(entry: comparison.Entry) -> str:
  """Mean and standard deviation of the metric that is compared."""
  return summary_text(comparison.test_error(entry))


def summary_text(found: Mapping[str, Any]) -> str:
  """Mean and standard deviation in per cent, without the sign."""
  if found['mean'] is None:
    return 'diverged'
  return f'{found["mean"]:.2f}{plus_minus(found["std"])}'


def plus_minus(spread: float | None) -> str:
  """What stands after a mean, or a difference; nothing where no spread is known."""
  return '' if spread is None else f' ± {spread:.2f}'


def interval_text(interval: Sequence[float] | None) -> str:
  """An interval of an error."""
  return '–' if interval is None else f'{interval[0]:.2f} – {interval[1]:.2f}'


def factor_text(found: Mapping[str, Any]) -> str:
  """A factor in size, or which side of the measured sizes it lies on."""
  text = f'{found["factor"]:.2g}'
  notes = {
    'more than': f'> {text} (not reached within the measured sizes)',
    'at most': f'≤ {text} (by the smallest measured)',
  }
  return notes.get(found['bound'], text)


def factor_interval_text(interval: Sequence[float | None] | None) -> str:
  """The interval of a factor; an end may lie beyond the measured sizes."""
  if interval is None:
    return '–'
  low, high = interval
  if low is None:
    return 'beyond the measured sizes'
  return f'{low:.2g} – {"beyond the measured sizes" if high is None else f"{high:.2g}"}'


def duration(seconds: float) -> str:
  """Wall time in at most two units; a dash for what took none of its own."""
  if not seconds:
    return '–'
  if seconds < 60:
    return f'{seconds:.0f} s'
  hours, minutes = divmod(round(seconds / 60), 60)
  return f'{hours} h {minutes:02} min' if hours else f'{minutes} min'


def paper_text(entry: comparison.Entry) -> str:
  """The paper's value with its source."""
  paper = entry['paper']
  return f'{paper["value"]:g} ({paper["source"]})' if paper else '–'


def flags_text(entry: comparison.Entry) -> str:
  """Which seeds collapsed or diverged."""
  raised = {flag: seeds for flag, seeds in entry['flags'].items() if seeds}
  return '; '.join(f'{flag}: {", ".join(map(str, seeds))}' for flag, seeds in raised.items())


def command_text(command: str) -> str:
  """A command as it was given, without where this machine has its programs."""
  program, _, arguments = command.partition(' ')
  known = {'main.py': 'python -m shallow_jax.main', 'shallow-jax': 'shallow-jax'}
  return f'{known.get(pathlib.PurePath(program).name, program)} {arguments}'.strip()


def per_cent(share: float | None) -> str:
  """A share, a dash where there is none."""
  return '–' if share is None else f'{100 * share:.0f} %'.replace('-', '−')


def in_brackets(share: float | None) -> str:
  """A share after what it is of; nothing where there is none."""
  return '' if share is None else f' ({per_cent(share)})'


def number(value: float | None, form: str) -> str:
  """A number with a minus sign that is one, a dash where there is none."""
  return '–' if value is None else format(value, form).replace('-', '−')


def short_count(value: float) -> str:
  """A number in a few characters: 0.5, 950, 66.6k, 3.93M."""
  for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if value >= max(0.9995 * size, 1e4):  # 999,900 is 1M, and four digits are short enough
      return f'{value / size:.3g}{unit}'
  return f'{value:.3g}' if value < 10 else f'{value:,.0f}'

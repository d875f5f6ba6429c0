"""launch/benchmark.py: what is counted, what is timed in turn, and that it runs from end to end."""

import json
import pathlib
import subprocess
import sys

import pytest

from launch.benchmarks import nets
from launch.benchmarks import ours
from launch.benchmarks import rounds
from launch.benchmarks import table

REPOSITORY = pathlib.Path(__file__).parents[2]
RESULTS = REPOSITORY / 'configs' / 'results' / 'benchmarks'
BATCH = 8


def test_a_students_step_is_counted_as_its_products_by_hand():
  pixels, rank, hidden, classes = 3072, 40, 2000, 10
  notes, _ = ours.student(nets.image_student(hidden, rank), BATCH)
  forward = pixels * rank + rank * hidden + hidden * classes
  backward = 2 * forward - pixels * rank + hidden  # none of the input; that of the biases
  assert notes['gflop'] == pytest.approx(2e-9 * BATCH * (forward + backward))
  assert notes['architecture'] == '40L-2k'


def test_a_teachers_convolutions_are_counted_too():
  net = dict(nets.TEACHER, model=dict(name='cnn', features=(4,), dense=(7,)))
  notes, _ = ours.teacher(net, BATCH)
  convolution = 32 * 32 * 25 * 3 * 4
  dense = 15 * 15 * 4 * 7 + 7 * 10
  # The kernel's gradient is a loop of products, as many as the convolution's.
  expected = 2e-9 * BATCH * (2 * convolution + 3 * dense)
  assert notes['gflop'] == pytest.approx(expected)


def test_contenders_are_timed_in_turn_in_processes_of_their_own(tmp_path):
  arguments = dict(parent=str(tmp_path), num_examples=1000)
  with rounds.workers({'store': ('launch.benchmarks.stores:store', arguments)}, cores=1) as running:
    assert running['store'].notes['bytes_a_record']['top-k records'] == 55
    times = rounds.compare(running, rounds=3, seconds=0.001)
  assert len(times['store verify']['all']['cpu_ms']) == 3
  assert all(each['wall_ms'] > 0 for each in times.values())


def test_a_peer_that_is_not_installed_is_named():
  with rounds.workers({'none': ('launch.benchmarks.no_such_module:call', {})}) as running:
    assert 'no_such_module' in running['none'].missing
    assert rounds.compare(running, rounds=1, seconds=0.001) == {}


def test_a_worker_that_fails_ends_the_benchmark(tmp_path):
  arguments = dict(parent=str(tmp_path), num_examples=0)
  with (
    pytest.raises(RuntimeError, match='a worker ended with code 1'),
    rounds.workers({'bad': ('launch.benchmarks.stores:store', arguments)}),
  ):
    pass


def test_a_ratio_is_of_medians_and_its_range_of_rounds():
  times = {
    'slow': {'wall_ms': 6.0, 'all': {'wall_ms': [4.0, 6.0, 9.0]}},
    'fast': {'wall_ms': 3.0, 'all': {'wall_ms': [4.0, 3.0, 3.0]}},
  }
  found = rounds.ratio(times, 'slow', 'fast', 'wall')
  assert found == {'ratio': 2.0, 'least': 1.0, 'greatest': 3.0}


def test_the_tables_of_the_readme_are_those_of_the_published_run():
  found = json.loads((RESULTS / 'benchmark.json').read_text())
  page = (REPOSITORY / 'README.md').read_text()
  shown = page.partition(table.BEGIN)[2].partition(table.END)[0].strip()
  assert shown == table.markdown(found)
  assert found['students']['provenance']['command'] in page


@pytest.mark.parametrize('old', ['STALE\n', ''])
def test_the_tables_are_written_between_their_lines(tmp_path, old):
  page = tmp_path / 'page.md'
  page.write_text(f'before\n{table.BEGIN}\n{old}{table.END}\nafter\n')
  table.main(str(RESULTS / 'benchmark.json'), str(page))
  text = page.read_text()
  assert text.startswith(f'before\n{table.BEGIN}\n| ')
  assert text.endswith(f' at most.\n{table.END}\nafter\n')
  assert 'STALE' not in text


BAD_INPUT = {
  'an unknown part': (['--parts=memory,bogus'], "'memory,bogus': expected some of students"),
  'no part': (['--parts='], "'': expected some of students"),
  'an unknown net': (['--students=bogus'], "'bogus': expected some of 3072-1200L-2k"),
  'no round': (['--rounds=0'], '0 is not a positive integer'),
  'a word': (['memory'], "'memory' is no flag"),
  'another file': (['--output=setup.cfg'], '--output=setup.cfg: '),
  'nothing to draw': (['--parts=memory', '--figure=x.png'], '--figure=x.png: it shows students'),
}


@pytest.mark.parametrize(('flags', 'expected'), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_refused_before_anything_is_measured(flags, expected):
  command = [sys.executable, 'launch/benchmark.py', *flags]
  done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
  assert done.returncode == 1
  assert expected in done.stdout + done.stderr
  assert 'Traceback' not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_benchmark_runs_writes_and_draws(tmp_path):
  command = [sys.executable, 'launch/benchmark.py', '--parts=students,start', '--rounds=1']
  command += ['--seconds=0.01', '--students=3072-1200L-2k', '--batch_size=16']
  command += [f'--output={tmp_path}/found.json', f'--figure={tmp_path}/found.png']
  subprocess.run(command, cwd=REPOSITORY, check=True, timeout=300)
  found = json.loads((tmp_path / 'found.json').read_text())
  assert found['students']['found']['3072-1200L-2k']['ratios']['of the roofline']['ratio'] > 0
  assert len(found['start']['found']['seconds']['warm']) == 1
  assert found['students']['provenance']['command'].startswith('launch/benchmark.py')
  assert (tmp_path / 'found.png').read_bytes().startswith(b'\x89PNG')

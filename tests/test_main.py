"""The command: what goes in wrong comes out as one line."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DIGITS = f'--config={ROOT}/configs/digits.py:smoke'


def shallow_jax(*arguments, cwd=ROOT):
  return subprocess.run(
    [sys.executable, '-m', 'shallow_jax.main', *arguments],
    cwd=cwd,
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
  )


BAD_INPUT = {
  'a typo in a key': (
    [DIGITS, '--config.networks.mimic.optimiser.learning_rate=0.1'],
    'mean "optimizer"',
  ),
  'a typo in a network': ([DIGITS, '--config.networks.mimc.seeds=1'], 'mean "mimic"'),
  'a typo in a flag': ([DIGITS, '--workdr=x'], 'workdir'),
  'a wrong type': ([DIGITS, '--config.networks.mimic.seeds=many'], 'seeds'),
  'an unknown variant': ([DIGITS.replace('smoke', 'smok')], "did you mean 'smoke'"),
  'an unknown network': ([DIGITS, '--only=mimick'], "did you mean 'mimic'"),
  'no such config': (['--config=configs/digit.py'], 'digit.py'),
  'a batch larger than the data': (
    [DIGITS, '--config.networks.cnn.batch_size=1000'],
    '400 examples',
  ),
  'a bottleneck wider than the layer': (
    [DIGITS, '--config.networks.mimic.model.bottleneck=65'],
    '65 is wider',
  ),
  'no data': ([f'--config={ROOT}/configs/cifar10.py'], 'data_dir'),
  'data in a bucket': (
    [f'--config={ROOT}/configs/cifar10.py', '--config.data.data_dir=gs://bucket/data'],
    "config.data.data_dir: expected a folder or file of this machine, not 'gs://bucket/data'",
  ),
  'an unknown command': (['rum'], "did you mean 'run'"),
}


@pytest.mark.parametrize(('arguments', 'expected'), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_one_line_and_leaves_nothing(arguments, expected, tmp_path):
  workdir = tmp_path / 'run'
  done = shallow_jax(*arguments, f'--workdir={workdir}')
  lines = done.stderr.strip().splitlines()
  assert done.returncode not in (0, -signal.SIGSEGV)
  assert expected in lines[-1]
  assert 'Traceback' not in done.stderr
  assert len(lines) == 1
  assert not any(path.is_dir() for path in workdir.glob('*'))


@pytest.mark.parametrize('command', [('run', DIGITS), ('report',)])
def test_a_workdir_in_a_bucket_is_one_line_and_leaves_nothing(command, tmp_path):
  done = shallow_jax(*command, '--workdir=gs://bucket/run', cwd=tmp_path)
  assert done.returncode == 1
  assert done.stderr == (
    "shallow-jax: workdir: expected a folder or file of this machine, not 'gs://bucket/run'; "
    'a bucket must be mounted as a folder first (launch/README.md)\n'
  )
  assert list(tmp_path.iterdir()) == []


REFUSED = {
  'nothing to verify': (['verify'], 'verify: expected a folder'),
  'an empty folder to verify': (['verify', ''], 'verify: expected a folder'),
  'a flag that verify does not read': (['verify', 'x', '--workdir=y'], '--workdir: not of verify'),
  'a stray word': (['run', 'x', DIGITS, '--workdir=y'], "run: 'x' belongs to no flag"),
  'a stray word of report': (['report', 'x', '--workdir=y'], "report: 'x' belongs to no flag"),
  'a flag that report does not read': (['report', '--workdir=y', '--only=a'], '--only: not of'),
  'an empty workdir': ([DIGITS, '--workdir='], 'expected --workdir=FOLDER'),
  'an empty only': ([DIGITS, '--workdir=y', '--only='], '--only=: expected NETWORK'),
  'an empty name in only': ([DIGITS, '--workdir=y', '--only=cnn,,mimic'], '--only=cnn,,mimic: '),
  'an empty config': (['--config=', '--workdir=y'], '--config=: no such file'),
  'an empty address': ([DIGITS, '--workdir=y', '--coordinator_address='], 'expected HOST:PORT'),
  'a process without others': ([DIGITS, '--workdir=y', '--process_id=1'], '--process_id: expected'),
  'the home of nobody': (['report', '--workdir=~nobody-7/y'], 'no such home folder'),
}


@pytest.mark.parametrize(('arguments', 'expected'), REFUSED.values(), ids=REFUSED.keys())
def test_a_flag_or_word_that_says_nothing_is_one_line(arguments, expected, tmp_path):
  done = shallow_jax(*arguments, cwd=tmp_path)
  assert done.returncode == 1
  assert len(done.stderr.splitlines()) == 1
  assert expected in done.stderr
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('arguments', [['report', '--workdir=~/run'], ['verify', '~/run']])
def test_a_tilde_is_the_home_folder(arguments, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  done = shallow_jax(*arguments, cwd=tmp_path)
  assert done.returncode == 1
  assert str(tmp_path / 'home' / 'run') in done.stderr
  assert not (tmp_path / '~').exists()


def test_a_config_may_lie_in_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  done = shallow_jax('run', '--config=~/own.py:smoke', '--workdir=x', cwd=tmp_path)
  assert done.stderr == f'shallow-jax: --config={tmp_path}/own.py:smoke: no such file\n'


NOT_RUN = {
  'help': ['--help'],
  'help beside a config': [DIGITS, '--help'],
  'an unknown command': ['rnu'],
  'an unknown command beside a config': ['rnu', DIGITS, '--workdir=x'],
  'an unknown flag': ['--workdr=x'],
  'an unknown flag beside a config': [DIGITS, '--workdr=x'],
  'no config': ['run', '--workdir=x'],
  'no such config': ['--config=configs/digit.py', '--workdir=x'],
  'no workdir': ['report'],
}


@pytest.mark.parametrize('arguments', NOT_RUN.values(), ids=NOT_RUN.keys())
def test_what_does_not_run_waits_for_nothing_heavy(arguments):
  done = subprocess.run(
    [sys.executable, '-X', 'importtime', '-m', 'shallow_jax.main', *arguments],
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
  )
  assert done.returncode == 1
  assert 'Traceback' not in done.stderr
  lines = [line for line in done.stderr.splitlines() if line.startswith('import time:')]
  imported = {line.rpartition('|')[2].strip().partition('.')[0] for line in lines}
  assert 'ml_collections' in imported
  assert not imported & {'jax', 'flax', 'orbax', 'optax', 'numpy', 'scipy', 'matplotlib'}


def test_help_of_the_console_script_shows_commands_and_flags(tmp_path):
  script = tmp_path / 'shallow-jax'
  script.write_text('from shallow_jax.main import entry_point\nentry_point()\n')
  shown = [
    subprocess.run(
      [sys.executable, *program, '--help'],
      capture_output=True,
      text=True,
      check=False,
      env=os.environ | {'PYTHONPATH': str(ROOT)},
    ).stdout
    for program in (['-m', 'shallow_jax.main'], [script])
  ]
  for text in shown:
    assert 'shallow-jax verify' in text
    flags = set(re.findall(r'^  --(?:\[no\])?(\w+)', text, re.MULTILINE))
    assert flags == {
      *('config', 'workdir', 'only', 'stage'),
      *('coordinator_address', 'num_processes', 'process_id', 'distributed'),
    }


def test_a_workdir_that_cannot_be_written(tmp_path):
  file = tmp_path / 'file'
  file.write_text('')
  done = shallow_jax(DIGITS, f'--workdir={file}/run')
  assert done.returncode == 1
  assert str(file) in done.stderr.splitlines()[-1]
  assert 'Traceback' not in done.stderr


def test_run_stop_continue_report_and_verify(tmp_path):
  """A first SIGTERM saves and ends with 143; the same command goes on; verify reads the stores."""
  workdir = tmp_path / 'a folder with spaces'
  command = [sys.executable, '-m', 'shallow_jax.main', DIGITS, f'--workdir={workdir}']
  process = subprocess.Popen(
    command, stderr=subprocess.PIPE, text=True, env=os.environ | {'PYTHONPATH': str(ROOT)}
  )
  while not (workdir / 'cnn' / 'seed-0').exists():
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.1)
  second = shallow_jax(DIGITS, f'--workdir={workdir}')
  assert second.returncode == 1
  assert f'in use by pid {process.pid}' in second.stderr
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 143
  assert 'the same command goes on from there' in errors

  done = shallow_jax(DIGITS, f'--workdir={workdir}', '--only=mimic')
  assert done.returncode == 0, done.stderr
  assert re.search(r'mimic .*32L-2k', done.stdout)
  results = json.loads((workdir / 'report' / 'results.json').read_text())
  assert set(results['networks']) == {'cnn', 'teacher', 'mimic'}

  (workdir / 'report' / 'report.md').unlink()
  assert shallow_jax('report', f'--workdir={workdir}').returncode == 0
  assert (workdir / 'report' / 'report.md').exists()

  store = workdir / 'teacher' / 'logits' / 'train'
  assert '400 x 10 logits' in shallow_jax('verify', str(store)).stdout
  (store / 'shard-00001-of-00004.npy').unlink()
  damaged = shallow_jax('verify', str(store))
  assert damaged.returncode == 1
  assert 'shard-00001-of-00004.npy' in damaged.stderr


ENVIRONMENTS = {
  'no GPU': ('JAX_PLATFORMS', 'cuda'),
  'no such platform': ('JAX_PLATFORMS', 'nonsense'),
  'no number': ('JAX_NUM_CPU_DEVICES', 'two'),
}


@pytest.mark.parametrize(('name', 'value'), ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_what_jax_refuses_is_one_line_before_any_work(name, value, tmp_path, monkeypatch):
  monkeypatch.setenv(name, value)
  done = shallow_jax(DIGITS, f'--workdir={tmp_path}/run')
  assert done.returncode == 1
  assert len(done.stderr.splitlines()) == 1
  assert name.lower() in done.stderr.lower()
  assert value in done.stderr
  assert list(tmp_path.iterdir()) == []

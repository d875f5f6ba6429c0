"""Several processes on loopback: the results of one, one voice, and one end."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import two_networks

from shallow_jax import checkpoint
from shallow_jax import defaults
from shallow_jax import experiment as experiment_lib
from shallow_jax import pipeline
from shallow_jax import processes

REPOSITORY = pathlib.Path(__file__).parents[1]
CONFIG = REPOSITORY / 'tests' / 'two_networks.py'
TIMEOUT = 300  # seconds; it takes 15 on two idle cores
TOLERANCE = 1e-5  # relative to an array's largest value


def start(workdir, *flags, config=CONFIG):
  """Two processes of two devices each."""
  command = [sys.executable, str(REPOSITORY / 'launch' / 'local.py'), '--num-processes=2']
  command += ['--devices-per-process=2', '--', f'--config={config}', f'--workdir={workdir}', *flags]
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process, timeout=TIMEOUT):
  """What it printed from here on, once it has ended; its exit code is `process.returncode`."""
  with process:
    try:
      return process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
      process.terminate()
      raise


def wait_for(process, text, timeout=TIMEOUT):
  """Reads lines until one has the text."""
  deadline, lines = time.monotonic() + timeout, []
  while time.monotonic() < deadline:
    lines.append(process.stdout.readline())
    if text in lines[-1]:
      return
    assert lines[-1], f'ended without saying {text!r}: {"".join(lines)}'
  finish(process, timeout=0)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """The workdir of a run by one process on one device."""
  workdir = tmp_path_factory.mktemp('alone')
  pipeline.run(two_networks.get_config(), workdir)
  return workdir


@pytest.fixture(scope='module')
def together(alone, tmp_path_factory):
  """A run by two processes that finds a trained teacher, and what was printed."""
  workdir = tmp_path_factory.mktemp('together') / 'run'
  shutil.copytree(alone, workdir)
  shutil.rmtree(workdir / 'mimic')
  shutil.rmtree(workdir / 'cnn' / 'seed-0' / 'logits')
  process = start(workdir)
  printed = finish(process)
  assert process.returncode == 0, printed
  return workdir, printed


def files(folder, pattern):
  return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


def test_two_processes_store_the_bytes_of_one(alone, together):
  for name in ('train', 'unlabelled', 'validation'):
    stores = [workdir / 'cnn' / 'seed-0' / 'logits' / name for workdir in (alone, together[0])]
    ours, theirs = (files(store, '*') for store in stores)
    assert ours == theirs
    assert len(ours) > 2  # a manifest and several shards


def member(workdir, network):
  config = defaults.plain(two_networks.get_config())
  experiment = pipeline.prepare(config, workdir)
  return experiment_lib.load_member(experiment, network, 0).variables


def test_two_processes_train_what_one_trains(alone, together):
  pairs = zip(
    jax.tree.leaves(member(alone, 'mimic')),
    jax.tree.leaves(member(together[0], 'mimic')),
    strict=True,
  )
  for one, two in pairs:
    np.testing.assert_allclose(two, one, rtol=0, atol=TOLERANCE * np.abs(one).max())


def test_the_first_process_speaks_for_both(alone, together):
  workdir, printed = together
  metrics = [
    (run / 'mimic' / 'seed-0' / 'metrics.jsonl').read_text().splitlines()
    for run in (alone, workdir)
  ]
  assert len(metrics[0]) == len(metrics[1]) == 4
  assert not [line for line in printed.splitlines() if line.startswith('[1] mimic')]
  assert printed.count('Report and figures') == 1
  result = json.loads((workdir / 'mimic' / 'result.json').read_text())
  mesh = result['provenance']['mesh']
  assert mesh == dict(devices=4, processes=2, data=4, model=1, compile='jit')


LONG = [
  '--only=cnn',
  '--config.networks.cnn.num_steps=100000',
  '--config.networks.cnn.evaluate_every_steps=1000',
  '--config.networks.cnn.checkpoint_every_steps=1000',
]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path):
  process = start(tmp_path, *LONG)
  wait_for(process, 'step')
  os.kill(pid_of(process.pid, 1), signal.SIGTERM)
  printed = finish(process)
  assert process.returncode == 128 + signal.SIGTERM, printed
  (step,) = checkpoint.steps(tmp_path / 'cnn' / 'seed-0' / 'checkpoints')
  for index in (0, 1):
    assert f'[{index}] shallow-jax: stopped by SIGTERM: cnn/seed-0 at step {step};' in printed


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_bits_of_an_uninterrupted_one(tmp_path):
  flags = ['--only=cnn', '--stage=train', '--config.networks.cnn.num_steps=200']
  flags += ['--config.networks.cnn.evaluate_every_steps=50']
  whole = start(tmp_path / 'whole', *flags)
  printed = finish(whole)
  assert whole.returncode == 0, printed
  stopped = start(tmp_path / 'stopped', *flags)
  wait_for(stopped, 'digits: train 400')  # about to train
  stopped.send_signal(signal.SIGTERM)
  printed = finish(stopped)
  assert stopped.returncode == 128 + signal.SIGTERM, printed
  resumed = start(tmp_path / 'stopped', *flags)
  printed = finish(resumed)
  assert resumed.returncode == 0, printed
  records = [
    experiment_lib.read_trained(tmp_path / run / 'cnn' / 'seed-0') for run in ('whole', 'stopped')
  ]
  assert records[0]['weights_sha256'] == records[1]['weights_sha256']


@pytest.mark.slow
def test_the_death_of_one_process_ends_the_other(tmp_path):
  process = start(tmp_path, *LONG)
  wait_for(process, 'step')
  os.kill(pid_of(process.pid, 1), signal.SIGKILL)
  finish(process, timeout=60)
  assert process.returncode == 128 + signal.SIGKILL


def pid_of(launcher, index):
  """The process number `index` that a launcher has started."""
  children = pathlib.Path(f'/proc/{launcher}/task/{launcher}/children').read_text().split()
  (pid,) = [
    int(child)
    for child in children
    if f'--process_id={index}' in pathlib.Path(f'/proc/{child}/cmdline').read_text()
  ]
  return pid


@pytest.mark.slow
def test_a_mistake_in_the_config_is_one_line_of_each_process(tmp_path):
  process = start(tmp_path, '--config.networks.cnn.batch_size=30')
  printed = finish(process)
  assert process.returncode == 1
  assert 'shallow-jax: config.networks.cnn.batch_size: 30 does not divide by the 4' in printed
  assert 'Traceback' not in printed


def test_work_is_shared_in_rounds(monkeypatch):
  monkeypatch.setattr(processes.jax, 'process_count', lambda: 2)
  assert processes.shares(['a', 'b', 'c']) == [{0: 'a', 1: 'b'}, {0: 'c'}]
  assert processes.shares([]) == []


@pytest.mark.parametrize('numbers', [(2, 2), (2, -1)])
def test_a_process_id_out_of_range_is_refused(numbers):
  with pytest.raises(processes.ProcessesError, match=r'--num_processes=2 --process_id='):
    processes.start('127.0.0.1:1234', *numbers)


def test_an_address_without_a_port_is_refused():
  with pytest.raises(processes.ProcessesError, match='expected HOST:PORT'):
    processes.start('localhost', 2, 0)

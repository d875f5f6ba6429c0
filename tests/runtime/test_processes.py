"""Several processes on loopback: the results of one, one voice, and one end."""

import concurrent.futures
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import jax
from made_up import two_networks
import numpy as np
import pytest

from shallow_jax.data import dataset as dataset_lib
from shallow_jax.logits import manifest as logit_manifest
from shallow_jax.logits import predict
from shallow_jax.logits import store as logit_store
from shallow_jax.pipeline import run as run_lib
from shallow_jax.pipeline import trained
from shallow_jax.runtime import checkpoint
from shallow_jax.runtime import processes
from shallow_jax.settings import defaults
from shallow_jax.training import feed as feed_lib

REPOSITORY = pathlib.Path(__file__).parents[2]
CONFIG = REPOSITORY / 'tests' / 'made_up' / 'two_networks.py'
TIMEOUT = 300  # seconds; it takes 15 on two idle cores
TOLERANCE = 1e-5  # relative to an array's largest value


def start(workdir, *flags, config=CONFIG):
  """Two processes of four devices each."""
  command = [sys.executable, str(REPOSITORY / 'launch' / 'local.py'), '--num-processes=2']
  command += ['--devices-per-process=4', '--', f'--config={config}', f'--workdir={workdir}', *flags]
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
  run_lib.run(two_networks.get_config(), workdir)
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
  experiment = run_lib.prepare(config, workdir)
  return trained.load_member(experiment, network, 0).variables


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
  assert mesh == dict(devices=8, processes=2, data=8, model=1, compile='jit')


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
    trained.read_trained(tmp_path / run / 'cnn' / 'seed-0') for run in ('whole', 'stopped')
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
  assert 'shallow-jax: config.networks.cnn.batch_size: 30 does not divide by the 8' in printed
  assert 'Traceback' not in printed


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['all', 'train'])  # the first verifies alone, then both together
@pytest.mark.parametrize('shard', [0, 1])  # whose turn is it?
@pytest.mark.parametrize('damage', ['changed', 'shortened', 'removed'])
def test_a_damaged_store_is_one_line_of_each_process(alone, tmp_path, stage, shard, damage):
  workdir = shutil.copytree(alone, tmp_path / 'run')
  shutil.rmtree(workdir / 'mimic')
  logits = workdir / 'cnn' / 'seed-0' / 'logits' / 'unlabelled'
  (path,) = logits.glob(f'shard-0000{shard}-of-*.npy')
  data = path.read_bytes()
  path.write_bytes(data[:-1] + (b'!' if damage == 'changed' else b''))
  if damage == 'removed':
    path.unlink()
  process = start(workdir, f'--stage={stage}')
  printed = finish(process)
  assert process.returncode == 1
  for index in (0, 1):
    (line,) = [line for line in printed.splitlines() if line.startswith(f'[{index}] shallow-jax:')]
    assert path.name in line
  assert 'Traceback' not in printed


def test_work_is_shared_in_rounds(monkeypatch):
  monkeypatch.setattr(processes.jax, 'process_count', lambda: 2)
  assert processes.shares(['a', 'b', 'c']) == [{0: 'a', 1: 'b'}, {0: 'c'}]
  assert processes.shares([]) == []


class RefusalError(Exception):
  """What a process may find wrong."""


class AnotherError(RefusalError):
  """And another one."""


class Coordinator:
  """The coordination service of `count` processes that are threads here."""

  def __init__(self, count):
    self.barrier, self.values, self.names = threading.Barrier(count), {}, []

  def wait_at_barrier(self, name, timeout_ms):
    self.names.append(name)
    del timeout_ms
    self.barrier.wait(10)

  def key_value_set(self, key, value):
    assert key not in self.values
    self.values[key] = value

  def blocking_key_value_get(self, key, timeout_ms):
    del timeout_ms
    return self.values[key]


class Counts(threading.local):
  """The numbers of each thread's meetings."""

  def __init__(self):
    self.count = itertools.count()

  def __next__(self):
    return next(self.count)


@pytest.fixture
def in_each(monkeypatch):
  """Runs `work(index)` in two processes, which are threads here; gives what each returned."""
  mine, coordinator = threading.local(), Coordinator(2)
  monkeypatch.setattr(processes, 'are_several', lambda: hasattr(mine, 'index'))
  replaced = dict(
    jax=types.SimpleNamespace(process_index=lambda: mine.index, process_count=lambda: 2),
    distributed=types.SimpleNamespace(global_state=types.SimpleNamespace(client=coordinator)),
    _MEETINGS=Counts(),
  )
  for name, value in replaced.items():
    monkeypatch.setattr(processes, name, value)

  def begin(index, work):
    mine.index = index
    return work(index)

  def run(work):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      futures = [pool.submit(begin, index, work) for index in range(2)]
      return [future.result(timeout=60) for future in futures]

  run.coordinator = coordinator
  return run


@pytest.mark.parametrize(
  'values', [(True, False), (False, True), ({'loss': 0.1 + 0.2}, {}), (None, {'step': 3})]
)
def test_all_get_the_value_of_the_first(in_each, values):
  assert in_each(lambda index: processes.agree(values[index])) == [values[0]] * 2


def test_a_number_that_is_none_is_agreed_on_too(in_each):
  found = in_each(lambda index: processes.agree([float('nan'), float('inf')][index]))
  assert all(np.isnan(found))


def test_meetings_of_one_name_are_told_apart(in_each):
  def work(index):
    processes.agree(index)
    processes.meet('here')
    processes.meet('here')

  in_each(work)
  names = in_each.coordinator.names
  assert len(names) == 2 * len(set(names)) == 6


@pytest.mark.parametrize(('refusing', 'heard'), [((0,), 0), ((1,), 1), ((0, 1), 0)])
def test_what_one_refuses_all_refuse_in_its_words(in_each, refusing, heard):
  kinds = [RefusalError, AnotherError]

  def work(index):
    with (
      pytest.raises(RefusalError) as error,
      processes.refusing_together(RefusalError, AnotherError),
    ):
      if index in refusing:
        raise kinds[index](f'process {index} found a damaged file')
    return type(error.value), str(error.value)

  assert in_each(work) == [(kinds[heard], f'process {heard} found a damaged file')] * 2


def test_where_none_refuses_all_go_on(in_each):
  def work(index):
    with processes.refusing_together(RefusalError):
      found = index
    return found

  assert in_each(work) == [0, 1]


def test_a_process_alone_refuses_by_itself():
  with pytest.raises(RefusalError, match='of its own'), processes.refusing_together(RefusalError):
    raise RefusalError('of its own')


def test_the_missing_shards_are_those_that_the_first_misses(tmp_path, in_each):
  spec = logit_manifest.Spec(1, 5, ('a', 'b'), '', 'float32', 2, {})
  shards = spec.shards()
  for index, there in enumerate([shards[:1], shards[1:]]):
    logit_store.missing_shards(tmp_path / str(index), spec)
    for shard in there:
      logits = np.zeros(spec.shape(shard))
      logit_store.write_shard(tmp_path / str(index), spec, shard, logits)
  found = in_each(lambda index: predict.missing_shards(tmp_path / str(index), spec))
  assert found == [shards[1:]] * 2


def saved(folder, *steps):
  """Checkpoints of one array each, which is full of the step's number."""
  for step in steps:
    checkpoint.save(folder, step, {'x': np.full(3, step)}, notes={'of': step}, keep=9)


def damage(folder, step):
  path = next(path for path in (folder / str(step)).rglob('*') if path.is_file())
  path.write_bytes(path.read_bytes() + b'!')


@pytest.mark.parametrize('damaged_for', [0, 1])
def test_the_first_process_decides_which_checkpoint_all_go_on_from(
  tmp_path, in_each, monkeypatch, damaged_for
):
  """The folder is seen otherwise by the two: the newest step's file is damaged for one of them."""
  saved(tmp_path / 'whole', 5, 6)
  shutil.copytree(tmp_path / 'whole', tmp_path / 'damaged')
  damage(tmp_path / 'damaged', 6)
  monkeypatch.setattr(checkpoint.ocp, 'load', lambda path, abstract: pathlib.Path(path).name)

  def restored(index):
    folder = tmp_path / ('damaged' if index == damaged_for else 'whole')
    return checkpoint.restore_newest(folder, {'x': np.zeros(3, int)})

  step = 5 if damaged_for == 0 else 6
  assert in_each(restored) == [(str(step), {'of': step})] * 2


def test_a_checkpoint_that_the_first_refuses_all_refuse(tmp_path, in_each):
  saved(tmp_path / '0', 5)
  (tmp_path / '1').mkdir()
  damage(tmp_path / '0', 5)

  def refusal(index):
    with pytest.raises(checkpoint.CheckpointError) as error:
      checkpoint.restore_newest(tmp_path / str(index), {'x': np.zeros(3, int)})
    return str(error.value)

  first, second = in_each(refusal)
  assert first == second
  assert 'damaged, its sha256' in first


def test_where_the_first_sees_no_checkpoint_all_start_anew(tmp_path, in_each):
  saved(tmp_path / '1', 5)
  template = {'x': np.zeros(3, int)}
  found = in_each(lambda index: checkpoint.restore_newest(tmp_path / str(index), template))
  assert found == [None, None]


def test_all_compile_the_step_before_one_of_them_takes_it(in_each):
  events = []

  def work(index):
    def compile_slowly():
      time.sleep(0.1 * index)
      events.append('compiled')

    lowered = types.SimpleNamespace(compile=compile_slowly)
    feed_lib.compile_together(types.SimpleNamespace(lower=lambda *_: lowered), [])
    events.append('may be taken')

  in_each(work)
  assert events == ['compiled'] * 2 + ['may be taken'] * 2


def test_a_store_is_finished_once_every_shard_was_written_by_one(in_each, monkeypatch):
  written, count = [], 5
  spec = logit_manifest.Spec(1, count, ('a', 'b'), '', 'float32', 1, {})

  def write(*arguments):
    (shard,) = [each for each in arguments if isinstance(each, logit_manifest.Shard)]
    time.sleep(0.05 * processes.index())
    written.append((shard.index, processes.index()))

  monkeypatch.setattr(predict.logit_store, 'missing_shards', lambda *_: spec.shards())
  monkeypatch.setattr(predict.logit_store, 'finish', lambda *_, **__: written.append('finished'))
  monkeypatch.setattr(predict, '_store_shard', write)
  split = dataset_lib.Split({'label': np.zeros(count, int)})
  told = in_each(
    lambda _: predict.to_store([], None, split, [(pathlib.Path(), spec)], batch_size=1)
  )
  assert told == [None, None]
  assert sorted(written[:-1]) == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]
  assert written[-1] == 'finished'


def test_a_stop_is_asked_for_poll_by_poll_and_stays(monkeypatch):
  """jax.distributed chooses the poll, which it knows by its number."""
  monkeypatch.setattr(
    processes.multihost_utils, 'reached_preemption_sync_point', lambda poll: poll == 3
  )
  stop = processes.StopRequest()
  assert [stop.requested for _ in range(5)] == [False, False, True, True, True]
  assert stop.stopped('here').exit_code == 128 + signal.SIGTERM


@pytest.mark.parametrize('numbers', [(2, 2), (2, -1)])
def test_a_process_id_out_of_range_is_refused(numbers):
  with pytest.raises(processes.ProcessesError, match=r'--num_processes=2 --process_id='):
    processes.start('127.0.0.1:1234', *numbers)


@pytest.mark.parametrize(
  'address', ['localhost', 'localhost:', ':1234', 'localhost:http', 'a:70000']
)
def test_an_address_without_host_or_port_is_refused(address):
  with pytest.raises(processes.ProcessesError, match='expected HOST:PORT'):
    processes.start(address, 2, 0)


@pytest.fixture
def in_haste(monkeypatch, caplog):
  """Whom they wait for is told, as all is, within a second."""
  caplog.set_level('INFO')
  for name, seconds in dict(
    START_TIMEOUT_SECONDS=1.0, NAME_TIMEOUT_SECONDS=0.2, TOLD_AFTER_SECONDS=0.2, _PAUSE_SECONDS=0.1
  ).items():
    monkeypatch.setattr(processes, name, seconds)
  monkeypatch.setattr(processes, '_initialize', lambda **_: None)
  return caplog


@pytest.mark.parametrize('process_id', [0, 1])
def test_a_host_without_an_address_is_one_line(in_haste, process_id):
  with pytest.raises(processes.ProcessesError, match=r"the host 'node\.invalid' has no address"):
    processes.start('node.invalid:1234', 2, process_id)
  first = in_haste.messages[0]
  assert first == f'process {process_id}: waiting for 2 processes at node.invalid:1234'


def test_where_nobody_listens_it_is_told_before_the_end(in_haste):
  with socket.socket() as listener:  # bound, not listening
    listener.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{listener.getsockname()[1]}'
    with pytest.raises(processes.ProcessesError, match=f'{address}: nobody was there in 1'):
      processes.start(address, 2, 1)
  assert len(in_haste.messages) == 2
  assert f'process 1: {address} can not be reached yet' in in_haste.messages[1]


def test_a_first_process_that_comes_later_is_waited_for(in_haste):
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    timer = threading.Timer(0.4, listener.listen)
    timer.start()
    processes.start(f'127.0.0.1:{listener.getsockname()[1]}', 2, 1)
    timer.join()


def test_the_variable_of_slurm_that_is_missing_is_named(monkeypatch):
  def not_found():
    raise processes.ProcessesError('coordinator_address should be defined.')

  monkeypatch.setattr(processes, '_initialize', not_found)
  for name in processes._SLURM_VARIABLES:
    monkeypatch.setenv(name, '1')
  monkeypatch.delenv('SLURM_STEP_NODELIST')
  with pytest.raises(processes.ProcessesError, match='sets SLURM_STEP_NODELIST is missing'):
    processes.start_in_cluster()


def test_others_that_never_come_are_one_line_and_no_abort():
  code = """if True:
    from shallow_jax.runtime import processes
    processes.START_TIMEOUT_SECONDS = 1
    processes.start('127.0.0.1:29873', 2, 0)
  """
  command = [sys.executable, '-c', code]
  done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1].startswith('shallow-jax: the processes did not meet in 1 s')

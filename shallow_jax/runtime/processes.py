"""Several processes that run one program: their start, their meetings and their common end.

Every process runs the same command on the same workdir and does the same things in the same order:
what one decides by itself (what is finished, whether to stop) is agreed by all. The first writes
what there is once; checkpoints and the shards of a logit store are written by all.
"""

from collections.abc import Iterator, Sequence
import contextlib
import itertools
import json
import logging
import os
import pathlib
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn, TypeVar

import jax
from jax._src import distributed
from jax._src.clusters import slurm_cluster
from jax.experimental import multihost_utils

from shallow_jax.runtime import errors
from shallow_jax.runtime import run_guard

# A process that dies or loses its network ends all others within this time.
HEARTBEAT_TIMEOUT_SECONDS = 60
START_TIMEOUT_SECONDS = 300
NAME_TIMEOUT_SECONDS = 40  # a name server may know a pod that has just begun a little later
_PAUSE_SECONDS = 0.5  # before process 0 is asked again
TOLD_AFTER_SECONDS = 30  # that process 0 is not there yet
_SHUTDOWN_TIMEOUT_SECONDS = 60
_LAST_WORDS_SECONDS = 1.0  # for what all refuse together
_LOOPBACK = ('127.', 'localhost:', '[::1]:')
_MEETING_TIMEOUT_MS = 3_600_000
_MEETINGS = itertools.count()  # each has a name of its own

_SLURM_VARIABLES = (  # all that jax finds the processes by
  *('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID'),
)

_T = TypeVar('_T')


class ProcessesError(errors.ExpectedError, RuntimeError):
  """The processes can't find each other; the message is one line."""


def start(address: str, num_processes: int, process_id: int) -> None:
  """Joins the processes; returns when all are there. Before JAX's first computation.

  Args:
    address: HOST:PORT of process 0. It listens on that port of all its addresses, as its name may
      not lead to it itself; of a loopback address on that alone.

  Raises:
    ProcessesError: numbers out of range, a host that has no address, or the others did not come in
      time.
  """
  host, _, port = address.rpartition(':')
  is_port = port.isdecimal() and 0 < int(port) < 2**16
  if not 0 <= process_id < num_processes or not host or not is_port:
    raise ProcessesError(
      f'--coordinator_address={address} --num_processes={num_processes} '
      f'--process_id={process_id}: expected HOST:PORT and a process_id from 0 to num_processes - 1'
    )
  _wait_for(address, num_processes, process_id)
  _initialize(
    coordinator_address=address,
    num_processes=num_processes,
    process_id=process_id,
    coordinator_bind_address=address if address.startswith(_LOOPBACK) else None,
    cluster_detection_method='deactivate',
  )


def start_in_cluster() -> None:
  """Joins the processes that Slurm, Cloud TPU, Kubernetes or Open MPI has started.

  Raises:
    ProcessesError: none of them can be made out, or the others did not come in time.
  """
  missing = [name for name in _SLURM_VARIABLES if name not in os.environ]
  if not missing:
    number, index = (int(os.environ[name]) for name in ('SLURM_NTASKS', 'SLURM_PROCID'))
    _wait_for(slurm_cluster.SlurmCluster.get_coordinator_address(None, None), number, index)
  try:
    _initialize()
  except ProcessesError as error:
    if not missing or not any(name.startswith('SLURM_') for name in os.environ):
      raise
    names = ', '.join(missing)
    raise ProcessesError(
      f'--distributed: of the variables that srun sets {names} is missing; expected to be started '
      'by srun, as launch/slurm.sbatch does'
    ) from error


def _wait_for(address: str, num_processes: int, process_id: int) -> None:
  """Returns once process 0 listens at HOST:PORT, for process 0 once HOST has an address.

  Raises:
    ProcessesError: the name has no address, or nobody listens there in time.
  """
  logger = logging.getLogger(__name__)
  logger.info(f'process {process_id}: waiting for {num_processes} processes at {address}')
  host, _, port = address.rpartition(':')
  begin, told, is_known, reason = time.monotonic(), False, False, None
  while (waited := time.monotonic() - begin) < START_TIMEOUT_SECONDS:
    try:
      family = socket.getaddrinfo(host.strip('[]'), port, type=socket.SOCK_STREAM)[0]
      is_known = True
      if not process_id:  # which listens later
        return
      with socket.socket(family[0]) as connection:
        connection.settimeout(5)
        connection.connect(family[4])
      return
    except (socket.gaierror, UnicodeError) as error:
      if not is_known and waited > NAME_TIMEOUT_SECONDS:
        raise ProcessesError(f'{address}: the host {host!r} has no address: {error}') from error
      reason = error
    except OSError as error:
      reason = error
    if waited > TOLD_AFTER_SECONDS and not told:
      told = True
      logger.warning(f'process {process_id}: {address} can not be reached yet: {reason}')
    time.sleep(_PAUSE_SECONDS)
  raise ProcessesError(
    f'{address}: nobody was there in {START_TIMEOUT_SECONDS} s: {reason}; expected process 0 there'
  )


def _initialize(**options: Any) -> None:
  # Without it jax 0.10's loop over several processes of virtual CPU devices hangs.
  os.environ.setdefault('PJRT_NPROC', '16')
  # Of processes that don't come JAX itself tells by an abort with a stack of C++.
  watch = threading.Timer(START_TIMEOUT_SECONDS, _miss_others)
  watch.daemon = True
  watch.start()
  try:
    jax.distributed.initialize(
      initialization_timeout=int(START_TIMEOUT_SECONDS) + 60,
      heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS,
      shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT_SECONDS,
      **options,
    )
  except (RuntimeError, ValueError) as error:
    raise ProcessesError(f'the processes did not meet: {" ".join(str(error).split())}') from error
  finally:
    watch.cancel()


def _miss_others() -> None:
  line = (
    f'shallow-jax: the processes did not meet in {START_TIMEOUT_SECONDS} s; expected all of them'
  )
  print(line, file=sys.stderr, flush=True)
  os._exit(1)


def are_several() -> bool:
  """Whether this process has joined others."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
  """Whether this process writes what is written once."""
  return not are_several() or jax.process_index() == 0


def index() -> int:
  """Of this process, from 0."""
  return jax.process_index()


def count() -> int:
  """Of all processes."""
  return jax.process_count()


def shares(work: Sequence[Any]) -> list[dict[int, Any]]:
  """Parts work among the processes: rounds, in each at most one piece by the process's index."""
  starts = range(0, len(work), count())
  return [dict(enumerate(work[start : start + count()])) for start in starts]


def meet(name: str) -> None:
  """Waits until every process is here: what one wrote before, all can read after.

  At the coordination service. A sum over devices waits on CPU for 30 seconds only, less than data
  or a compilation may take: before the first one of a program all meet.
  """
  if are_several():
    meeting = f'{next(_MEETINGS)} {name}'
    _client().wait_at_barrier(meeting, _MEETING_TIMEOUT_MS)


def agree(value: _T) -> _T:
  """The first process's value, of JSON's types, in every process; all have met then."""
  if not are_several():
    return value
  key = f'shallow_jax/agreed/{next(_MEETINGS)}'
  if is_first():
    _client().key_value_set(key, json.dumps(value))
  meet('the first has said its value')
  return json.loads(_client().blocking_key_value_get(key, _MEETING_TIMEOUT_MS))


@contextlib.contextmanager
def refusing_together(*refusals: type[Exception]) -> Iterator[None]:
  """All processes meet at the block's end; what one of them refuses all refuse, in its words.

  Within the block they don't meet: one that refuses would miss the others.

  Args:
    *refusals: the exceptions of one message that the block may raise; of several processes that
      raise one that of the lowest index counts.
  """
  refused = None
  try:
    yield
  except refusals as error:
    if not are_several():
      raise
    refused = error
  if not are_several():
    return
  told = _exchange(refused and [type(refused).__name__, str(refused)])
  for name, message in filter(None, told):
    (kind,) = [refusal for refusal in refusals if refusal.__name__ == name]
    raise kind(message) from refused


def _exchange(value: Any) -> list[Any]:
  """The value of every process, of JSON's types, by index; all have met then."""
  exchange = f'shallow_jax/exchange/{next(_MEETINGS)}'
  _client().key_value_set(f'{exchange}/{index()}', json.dumps(value))
  meet('every process has said its value')
  keys = [f'{exchange}/{i}' for i in range(count())]
  said = [json.loads(_client().blocking_key_value_get(key, _MEETING_TIMEOUT_MS)) for key in keys]
  meet('every process has heard all')  # the first, who has them, may end now
  return said


def _client() -> Any:
  """Of the coordination service, which jax.distributed has started."""
  return distributed.global_state.client


class StopRequest(run_guard.StopRequest):
  """Whether any process was asked to stop: all are told at the same poll.

  jax.distributed takes SIGTERM, which comes before a preemption, and agrees on a poll to stop at
  that no process has passed. Every process polls as often as the others.
  """

  def __init__(self) -> None:
    """Begin without a request."""
    super().__init__()
    self._polls = 0

  @property
  def requested(self) -> bool:
    """Whether all save and stop now."""
    self._polls += 1
    if multihost_utils.reached_preemption_sync_point(self._polls):
      self.request(signal.SIGTERM)
    return self.signum is not None


@contextlib.contextmanager
def guard(workdir: pathlib.Path) -> Iterator[run_guard.StopRequest]:
  """Holds the workdir for all processes, and tells them when to stop.

  Raises:
    run_guard.RunGuardError: another run holds it.
  """
  if not are_several():
    with run_guard.lock(workdir), run_guard.handle_signals() as stop:
      yield stop
    return
  with contextlib.ExitStack() as held:
    with refusing_together(run_guard.RunGuardError):
      if is_first():
        held.enter_context(run_guard.lock(workdir))
    yield StopRequest()


def end(message: str) -> NoReturn:
  """Ends this process with a message and code 1.

  Among several at once: an orderly end waits for the others, which wait for this one in the midst
  of a step. They end once they miss it.
  """
  if not are_several():
    sys.exit(message)
  print(message, file=sys.stderr, flush=True)
  sys.stdout.flush()
  if is_first():
    time.sleep(_LAST_WORDS_SECONDS)  # the others end as soon as they miss the first
  os._exit(1)

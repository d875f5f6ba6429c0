"""A process of its own for each contender, as its users run it.

  python -m launch.benchmarks.worker MODULE:FUNCTION CORES '{"argument": ...}'

The function gives notes and the calls to be timed: `call(n)` does n units of work and waits for
them. A line `NAME N` on stdin asks for `call(N)`; the answer is its wall and CPU seconds.
"""

import importlib
import json
import os
import sys
import time


def main(function: str, cores: str, arguments: str) -> None:
  """Builds the calls, says which there are, and answers until stdin ends."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print is no answer
  if int(cores):
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[: int(cores)])  # before a library counts the cores
  module, _, name = function.partition(':')
  try:
    contender = importlib.import_module(module)
  except (ImportError, RuntimeError) as error:  # not installed, or not in a version that fits
    print(json.dumps({'missing': str(error)}), file=answers, flush=True)
    return
  notes, calls = getattr(contender, name)(**json.loads(arguments))
  print(json.dumps({'notes': notes, 'calls': [*calls]}), file=answers, flush=True)
  for line in sys.stdin:
    call, count = line.split()
    wall, cpu = time.perf_counter(), time.process_time()
    calls[call](int(count))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({'wall': wall, 'cpu': cpu}), file=answers, flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])

"""Memory that the C library keeps for the next step instead of giving it back.

XLA's CPU backend allocates each step's temporaries anew. glibc maps and unmaps blocks of their
size, so that the kernel has to zero every page of them again, step for step: always those of a
large block, and in other threads than the first all above 64 MB, which do not fit into a thread's
own arena. How much that costs, `launch/benchmark_experiment.py --keep_memory=false` tells beside a
run without the flag.
"""

import ctypes
import sys

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8

_KEPT_BYTES = 2**31 - 1
_GROWN_BY_BYTES = 2**28


def keep_freed_memory() -> bool:
  """Makes glibc keep freed memory in this process, up to 2 GiB; returns whether it did.

  Elsewhere than on Linux with glibc nothing happens.
  """
  if not sys.platform.startswith('linux'):
    return False
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return False
  settings = {
    _ARENA_MAX: 1,
    _MMAP_MAX: 0,
    _TRIM_THRESHOLD: _KEPT_BYTES,
    _TOP_PAD: _GROWN_BY_BYTES,
  }
  return all(mallopt(name, value) for name, value in settings.items())

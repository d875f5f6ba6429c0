"""Freed memory stays in the process: no page is zeroed twice."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from shallow_jax.runtime import host

if sys.argv[1] == 'keep':
  assert host.keep_freed_memory()
for _ in range(2):  # the first round takes the memory, the second one counts
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for _ in range(20):
    np.ones(2**26, np.uint8)  # 64 MiB: more than glibc ever keeps by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(what):
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, what], capture_output=True, text=True, check=True
  )
  return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc')
def test_freed_memory_is_used_again_without_page_faults():
  assert page_faults('keep') * 20 < page_faults('as it is')


def test_other_systems_are_left_alone(monkeypatch):
  from shallow_jax.runtime import host

  monkeypatch.setattr(sys, 'platform', 'darwin')
  assert host.keep_freed_memory() is False

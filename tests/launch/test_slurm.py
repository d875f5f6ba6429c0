"""launch/slurm.sbatch: who gets which signal, and when the job goes back to the queue."""

import os
import re
import signal
import subprocess
import time

import pytest
from support import launch_scripts

SCRIPT = 'launch/slurm.sbatch'
FLAGS = ['--config=configs/digits.py', '--workdir=runs/d', "--config.name=it's me"]
# A step that runs until it gets SIGTERM, and then saves as ours does.
RUNS_ON = 'echo $$ > "{folder}/step"; trap "exit 143" TERM; while true; do sleep 0.05; done'


def dry_run():
  return launch_scripts.bash(SCRIPT, '--dry-run', *FLAGS)


@pytest.fixture
def slurm(tmp_path):
  """Stand-ins for Slurm's commands; the job is running and its step ends well at once."""
  state(tmp_path, 'RUNNING')
  launch_scripts.stand_in(tmp_path, 'srun')
  launch_scripts.stand_in(tmp_path, 'scontrol')
  launch_scripts.stand_in(tmp_path, 'scancel', f'kill -TERM "$(cat "{tmp_path}/step")"')
  return tmp_path


def state(folder, name):
  launch_scripts.stand_in(folder, 'squeue', f'echo {name}')


def job(folder, **environment):
  """The script as Slurm runs it."""
  environment = dict(SLURM_JOB_ID='7', **environment)
  return launch_scripts.bash(SCRIPT, *FLAGS, folder=folder, **environment)


def started_job(folder):
  """The same, while its step is running."""
  launch_scripts.stand_in(folder, 'srun', RUNS_ON.format(folder=folder))
  process = subprocess.Popen(
    ['bash', SCRIPT, *FLAGS],
    cwd=launch_scripts.ROOT,
    env=launch_scripts.shell(folder) | {'SLURM_JOB_ID': '7'},
  )
  deadline = time.monotonic() + 30
  while not (folder / 'step').exists() or not (folder / 'step').read_text():
    if time.monotonic() > deadline:
      process.kill()
      raise AssertionError('its step did not start')
    time.sleep(0.02)
  return process


def test_a_dry_run_prints_exactly_this():
  done = dry_run()
  assert done.stdout == launch_scripts.golden('slurm.txt')
  assert (done.returncode, done.stderr) == (0, '')


def test_what_a_dry_run_prints_is_what_runs(slurm):
  job(slurm)
  run = [line for line in launch_scripts.calls(slurm).splitlines() if line.startswith('srun')]
  launch_scripts.stand_in(slurm, 'sbatch')
  environment = dict(SLURM_GPUS_ON_NODE='1', SLURM_CPUS_PER_TASK='1', SLURM_JOB_ID='7')
  typed = launch_scripts.bash('-c', dry_run().stdout, folder=slurm, **environment)
  assert typed.returncode == 0, typed.stderr
  submission, step, requeue = launch_scripts.calls(slurm).splitlines()
  assert [step] == run
  assert submission.split()[:2] == ['sbatch', SCRIPT]
  assert requeue.split() == ['scontrol', 'requeue', '7']


def test_the_job_is_to_be_requeued_and_told_before_its_end():
  text = (launch_scripts.ROOT / SCRIPT).read_text()
  directives = re.findall(r'^#SBATCH (.*)$', text, re.MULTILINE)
  assert {'--requeue', '--signal=B:TERM@120', '--ntasks-per-node=1'} <= set(directives)


def test_a_run_that_is_done_is_done(slurm):
  assert job(slurm).returncode == 0
  assert 'scontrol' not in launch_scripts.calls(slurm)


def test_a_run_that_fails_fails(slurm):
  launch_scripts.stand_in(slurm, 'srun', 'exit 3')
  assert job(slurm).returncode == 3
  assert 'scontrol' not in launch_scripts.calls(slurm)


# srun with two tasks, whose exit codes are given. It ends with the higher one; where it is to end
# the others once one fails, or some time after one has ended, it does so by SIGTERM.
TWO_TASKS = """
codes=({0} {1})
case "$*" in *--kill-on-bad-exit=1*) [ {0} -eq 0 ] || codes[1]=143 ;; esac
case "$*" in *--wait=0*) ;; *) codes[1]=143 ;; esac
exit $(( codes[0] > codes[1] ? codes[0] : codes[1] ))
"""


@pytest.mark.parametrize(
  ('codes', 'goes_back'),
  [((143, 143), True), ((143, 137), True), ((1, 1), False), ((1, 137), False), ((1, 0), False)],
)
def test_the_job_goes_back_if_its_tasks_have_saved_and_not_if_one_has_failed(
  codes, goes_back, slurm
):
  launch_scripts.stand_in(slurm, 'srun', TWO_TASKS.format(*codes))
  assert job(slurm).returncode == max(codes)
  assert ('scontrol requeue 7' in launch_scripts.calls(slurm)) == goes_back


def test_before_the_time_limit_the_steps_save_and_the_job_goes_back(slurm):
  """--signal=B: tells the script alone; it tells the steps, once, and waits for them."""
  process = started_job(slurm)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=30) == 143
  seen = launch_scripts.calls(slurm)
  assert seen.count('scancel --signal=TERM 7') == 1
  assert seen.count('scontrol requeue 7') == 1


def test_a_preempted_job_goes_back(slurm):
  """Slurm tells the steps, not the script."""
  process = started_job(slurm)
  os.kill(int((slurm / 'step').read_text()), signal.SIGTERM)
  assert process.wait(timeout=30) == 143
  seen = launch_scripts.calls(slurm)
  assert 'scontrol requeue 7' in seen
  assert 'scancel' not in seen


# Of the first calls of a command so many find the controller busy.
BUSY = """
touch "{folder}/{name}.busy"
if [ "$(wc -l < "{folder}/{name}.busy")" -lt {times} ]; then
  echo >> "{folder}/{name}.busy"
  echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2
  exit 1
fi
{then}
"""


def busy(folder, name, times, then=''):
  script = BUSY.format(folder=folder, name=name, times=times, then=then)
  launch_scripts.stand_in(folder, name, script)


@pytest.mark.parametrize('times', [1, 2, 99])
def test_a_queue_that_does_not_answer_at_once_keeps_no_job_from_going_back(slurm, times):
  busy(slurm, 'squeue', times, 'echo RUNNING')
  launch_scripts.stand_in(slurm, 'srun', 'exit 143')
  done = job(slurm)
  assert done.returncode == 143
  assert 'scontrol requeue 7' in launch_scripts.calls(slurm)
  assert ('squeue does not answer' in done.stderr) == (times == 99)


@pytest.mark.parametrize('times', [1, 99])
def test_nor_from_being_told_before_the_time_limit(slurm, times):
  busy(slurm, 'squeue', times, 'echo RUNNING')
  process = started_job(slurm)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=30) == 143
  seen = launch_scripts.calls(slurm)
  assert seen.count('scancel --signal=TERM 7') == 1
  assert 'scontrol requeue 7' in seen


def test_what_slurm_does_not_take_at_once_is_said_again(slurm):
  busy(slurm, 'scancel', 1, f'kill -TERM "$(cat "{slurm}/step")"')
  busy(slurm, 'scontrol', 1)
  process = started_job(slurm)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=30) == 143
  assert launch_scripts.calls(slurm).count('scontrol requeue 7') == 2


def test_a_job_is_not_lost_without_a_word(slurm):
  busy(slurm, 'scontrol', 99)
  launch_scripts.stand_in(slurm, 'srun', 'exit 143')
  done = job(slurm)
  assert done.returncode == 143
  assert 'could not be requeued; submit it again' in done.stderr


def test_a_cancelled_job_does_not_come_back(slurm):
  """scancel tells both, and the steps must not be told twice: the second signal ends them."""
  state(slurm, 'CANCELLED')
  process = started_job(slurm)
  process.send_signal(signal.SIGTERM)
  os.kill(int((slurm / 'step').read_text()), signal.SIGTERM)
  assert process.wait(timeout=30) == 143
  seen = launch_scripts.calls(slurm)
  assert 'scancel' not in seen
  assert 'scontrol' not in seen


@pytest.mark.parametrize(
  ('gpus', 'expected'), [('4', '0,1,2,3'), ('1', '0'), ('0', ''), (None, '')]
)
def test_a_task_has_all_gpus_of_its_node(gpus, expected, slurm):
  launch_scripts.stand_in(slurm, 'srun', f'echo "${{JAX_LOCAL_DEVICE_IDS:-}}" > "{slurm}/devices"')
  environment = {} if gpus is None else {'SLURM_GPUS_ON_NODE': gpus}
  assert job(slurm, **environment).returncode == 0
  assert (slurm / 'devices').read_text().strip() == expected


@pytest.mark.parametrize('cpus', ['32', None])
def test_a_task_has_the_cpus_that_were_asked_for(cpus, slurm):
  launch_scripts.stand_in(slurm, 'srun', f'echo "${{SRUN_CPUS_PER_TASK-none}}" > "{slurm}/cpus"')
  environment = {} if cpus is None else {'SLURM_CPUS_PER_TASK': cpus}
  assert job(slurm, **environment).returncode == 0
  assert (slurm / 'cpus').read_text().strip() == (cpus or 'none')


def test_the_virtual_environment_may_have_another_name(slurm):
  job(slurm, VENV='/shared/venv')
  assert '/shared/venv/bin/python -m shallow_jax.main --distributed' in launch_scripts.calls(slurm)


BAD_INPUT = {
  'no config': (['--workdir=runs/d'], '--config is missing'),
  'no workdir': (['--config=configs/digits.py'], '--workdir is missing'),
  'a workdir in a bucket': (['--config=x', '--workdir=gs://b/d'], 'gs://b/d'),
  'outside of a job': (FLAGS, 'outside of a job'),
}


@pytest.mark.parametrize(('arguments', 'expected'), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_one_line_and_calls_nothing(arguments, expected, slurm):
  done = launch_scripts.bash(SCRIPT, *arguments, folder=slurm, SLURM_JOB_ID='')
  assert (done.returncode, done.stdout) == (1, '')
  assert len(done.stderr.splitlines()) == 1
  assert expected in done.stderr
  assert launch_scripts.calls(slurm) == ''

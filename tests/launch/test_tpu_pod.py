"""launch/tpu_pod.sh: what it prints is what it runs, and a mistake is one line."""

import shlex

import pytest
from support import launch_scripts

SCRIPT = 'launch/tpu_pod.sh'
PLACE = ['--zone=us-east5-b', '--project=mine']
SLICE = ['--accelerator=v6e-16', '--spot']
NFS = ['--nfs=10.0.0.2:/share']
RUN = ['--', '--config=configs/digits.py', '--workdir=runs/d', "--config.name=it's me"]
COMMANDS = {
  'create': [*PLACE, *SLICE],
  'setup': [*PLACE, *NFS],
  'run': [*PLACE, *RUN],
  'logs': [*PLACE, '--worker=3'],
  'delete': PLACE,
  'resume': [*PLACE, *SLICE, *NFS, *RUN],
}
OTHERS = {
  'create_v5e': ['create', *PLACE, '--name=small', '--accelerator=v5litepod-16'],
  'setup_bucket': ['setup', *PLACE, '--bucket=gs://my-bucket', '--mount=/mnt/my-bucket'],
}


def dry_run(command, *flags):
  return launch_scripts.bash(SCRIPT, command, '--dry-run', *flags)


@pytest.fixture
def google(tmp_path):
  """Stand-ins for tar and for gcloud, which says a state of `states` at each look, or fails."""
  states = tmp_path / 'states'
  states.write_text('NONE\nACTIVE\n')
  then = f"""[ "$4" = describe ] || exit 0
    state=$(head -n 1 '{states}'); sed -i 1d '{states}'
    [ "$state" != NONE ] && echo "$state" """
  launch_scripts.stand_in(tmp_path, 'gcloud', then)
  launch_scripts.stand_in(tmp_path, 'tar')
  launch_scripts.stand_in(tmp_path, 'sleep')
  return tmp_path


@pytest.mark.parametrize(
  ('name', 'arguments'),
  [*((name, [name, *flags]) for name, flags in COMMANDS.items()), *OTHERS.items()],
)
def test_a_dry_run_prints_exactly_this(name, arguments):
  done = dry_run(*arguments)
  assert done.stdout == launch_scripts.golden(f'tpu_pod_{name}.txt')
  assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize('command', COMMANDS)
def test_what_a_dry_run_prints_is_what_runs(command, google):
  flags = COMMANDS[command]
  states = 'SUSPENDED\nNONE\nACTIVE\n' if command == 'resume' else 'NONE\nACTIVE\n'
  (google / 'states').write_text(states)
  assert launch_scripts.bash(SCRIPT, command, *flags, folder=google).returncode == 0
  run = launch_scripts.calls(google)
  (google / 'states').write_text(states)
  typed = launch_scripts.bash('-c', dry_run(command, *flags).stdout, folder=google)
  assert typed.returncode == 0, typed.stderr
  assert launch_scripts.calls(google) == run != ''


def test_every_flag_has_an_environment_variable():
  environment = dict(
    TPU_POD_ZONE='us-east5-b',
    TPU_POD_PROJECT='mine',
    TPU_POD_ACCELERATOR='v6e-16',
    TPU_POD_SPOT='1',
    TPU_POD_NFS='10.0.0.2:/share',
    TPU_POD_DRY_RUN='1',
  )
  done = launch_scripts.bash(SCRIPT, 'resume', *RUN, **environment)
  assert done.stdout == launch_scripts.golden('tpu_pod_resume.txt')


def remote_command(command):
  """What the last line of a dry run sends to the workers."""
  printed = dry_run(command, *COMMANDS[command]).stdout.splitlines()
  lines = [line for line in printed if not line.startswith('#')]
  return shlex.split(lines[-1])[-1].removeprefix('--command=')


def test_the_workers_shell_reads_the_flags_as_they_were_given(tmp_path):
  launch_scripts.stand_in(tmp_path, 'sudo')
  done = launch_scripts.bash('-c', remote_command('run'), folder=tmp_path, HOME='/home/me')
  assert done.returncode == 0, done.stderr
  seen = shlex.split(launch_scripts.calls(tmp_path))
  assert seen[-3:] == RUN[1:]
  assert seen[seen.index('/home/me/shallow_jax/.venv/bin/python') :][:4] == [
    '/home/me/shallow_jax/.venv/bin/python',
    '-m',
    'shallow_jax.main',
    '--distributed',
  ]


def test_setup_mounts_unless_it_is_mounted_and_stops_at_the_first_failure(tmp_path):
  for name in ('sudo', 'mkdir', 'tar', 'mountpoint'):
    launch_scripts.stand_in(tmp_path, name)
  launch_scripts.stand_in(tmp_path, 'python3', 'exit 1')
  done = launch_scripts.bash('-c', remote_command('setup'), folder=tmp_path)
  assert done.returncode == 1
  assert [line.split()[0] for line in launch_scripts.calls(tmp_path).splitlines()] == [
    'mountpoint',
    'mkdir',
    'tar',
    'python3',
  ]
  launch_scripts.stand_in(tmp_path, 'mountpoint', 'exit 1')
  launch_scripts.bash('-c', remote_command('setup'), folder=tmp_path)
  assert 'sudo mount -t nfs 10.0.0.2:/share /mnt/shallow_jax' in launch_scripts.calls(tmp_path)


def test_create_waits_until_the_slice_is_there(google):
  (google / 'states').write_text('NONE\nWAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n')
  done = launch_scripts.bash(SCRIPT, 'create', *COMMANDS['create'], folder=google)
  assert done.returncode == 0
  assert launch_scripts.calls(google).count('sleep 30') == 2


def test_create_waits_on_where_it_was_interrupted(google):
  (google / 'states').write_text('WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n')
  assert launch_scripts.bash(SCRIPT, 'create', *COMMANDS['create'], folder=google).returncode == 0
  assert 'queued-resources create' not in launch_scripts.calls(google)


@pytest.mark.parametrize(('failed_looks', 'code'), [(9, 0), (10, 1)])
def test_some_looks_in_a_row_may_fail(failed_looks, code, google):
  (google / 'states').write_text('NONE\n' + failed_looks * 'NONE\n' + 'ACTIVE\n')
  done = launch_scripts.bash(SCRIPT, 'create', *COMMANDS['create'], folder=google)
  assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
  ('command', 'states', 'expected'),
  [
    ('create', 'NONE\nFAILED\n', "shallow-jax is 'FAILED'"),
    ('create', 'NONE\n', "shallow-jax is ''"),
    ('resume', 'ACTIVE\n', "there is nothing to resume; 'run' starts"),
    ('resume', 'PROVISIONING\n', "there is nothing to resume; 'create' waits"),
  ],
)
def test_a_slice_in_another_state_is_one_line(command, states, expected, google):
  (google / 'states').write_text(states)
  done = launch_scripts.bash(SCRIPT, command, *COMMANDS[command], folder=google)
  assert done.returncode == 1
  assert expected in done.stderr.splitlines()[-1]
  assert 'delete' not in launch_scripts.calls(google)


BAD_INPUT = {
  'no command': ([], "'' is no command"),
  'an unknown command': (['crate'], "'crate' is no command"),
  'an unknown flag': (['create', '--acelerator=v4-8'], "'--acelerator=v4-8' is no flag"),
  'a flag of the run before --': (['run', *PLACE, '--workdir=x'], 'come after --'),
  'no zone': (['delete', '--project=mine'], '--zone is missing'),
  'no project': (['delete', '--zone=us-east5-b'], '--project is missing'),
  'no accelerator': (['create', *PLACE], '--accelerator is missing'),
  'an unknown accelerator': (['create', *PLACE, '--accelerator=v9-8'], 'name it by --runtime'),
  'no shared folder': (['setup', *PLACE], '--nfs or --bucket is missing'),
  'two shared folders': (['setup', *PLACE, *NFS, '--bucket=b'], 'expected only one'),
  'no config': (['run', *PLACE, '--', '--workdir=runs/d'], '--config is missing'),
  'no workdir': (['run', *PLACE, '--', '--config=configs/digits.py'], '--workdir is missing'),
  'a workdir in a bucket': (['run', *PLACE, '--', '--config=x', '--workdir=gs://b/d'], 'gs://b/d'),
  'a workdir that is not shared': (
    ['run', *PLACE, '--', '--config=x', '--workdir=/tmp/d'],
    'expected below /mnt/shallow_jax',
  ),
  'a workdir that leaves the shared folder': (
    ['run', *PLACE, '--', '--config=x', '--workdir=runs/../../d'],
    'expected a folder without ..',
  ),
  'a mount that systemd takes for two': (
    ['setup', *PLACE, *NFS, '--mount=/mnt/my bucket'],
    '--mount=/mnt/my bucket: expected an absolute folder',
  ),
  'a relative mount': (['setup', *PLACE, *NFS, '--mount=mnt'], '--mount=mnt: expected'),
  'a mount with a slash behind it': (['setup', *PLACE, *NFS, '--mount=/mnt/'], '/mnt/: expected'),
  'an incomplete resume': (['resume', *PLACE, *SLICE, *NFS], '--config is missing'),
}


@pytest.mark.parametrize(('arguments', 'expected'), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_one_line_and_calls_nothing(arguments, expected, google):
  done = launch_scripts.bash(SCRIPT, *arguments, folder=google)
  assert (done.returncode, done.stdout) == (1, '')
  assert len(done.stderr.splitlines()) == 1
  assert expected in done.stderr
  assert launch_scripts.calls(google) == ''


@pytest.mark.parametrize('name', ['TPU_POD_SPOT', 'TPU_POD_DRY_RUN'])
def test_a_switch_is_1_or_nothing(name, google):
  done = launch_scripts.bash(SCRIPT, 'delete', *PLACE, folder=google, **{name: '0'})
  assert (done.returncode, done.stderr) == (1, f'{SCRIPT}: {name}=0: expected 1, or nothing\n')
  assert launch_scripts.calls(google) == ''


def test_without_gcloud_there_is_one_line(tmp_path):
  """In a shell that finds nothing but the two programs that it needs."""
  for name in ('bash', 'dirname'):
    (tmp_path / name).symlink_to(f'/usr/bin/{name}')
  done = launch_scripts.bash(SCRIPT, 'delete', *PLACE, PATH=str(tmp_path))
  assert done.returncode == 1
  assert done.stderr == f'{SCRIPT}: no gcloud found: install it, or look at --dry-run\n'

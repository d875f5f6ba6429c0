"""launch/jobset.yaml: fields that jobset.x-k8s.io/v1alpha2 has, and numbers that agree."""

import configparser
import re
import shlex
import signal

import pytest
from support import launch_scripts
import yaml

PATH = launch_scripts.ROOT / 'launch' / 'jobset.yaml'
JOB_SETS = {
  job_set['metadata']['labels']['accelerator']: job_set
  for job_set in yaml.safe_load_all(PATH.read_text())
}
INTEGER, TEXT, FLAG, MAP = int, str, bool, dict
# The API's types, as far as they are used here; a * marks a field that must be there.
POD_FAILURE_RULE = {
  '*action': TEXT,
  'onPodConditions': [{'*type': TEXT, '*status': TEXT}],
  'onExitCodes': {'*operator': TEXT, '*values': [INTEGER]},
}
CONTAINER = {
  '*name': TEXT,
  '*image': TEXT,
  'env': [{'*name': TEXT, 'value': TEXT}],
  'command': [TEXT],
  'args': [TEXT],
  'resources': {'limits': MAP, 'requests': MAP},
  'volumeMounts': [{'*name': TEXT, '*mountPath': TEXT}],
}
POD = {
  '*containers': [CONTAINER],
  'restartPolicy': TEXT,
  'terminationGracePeriodSeconds': INTEGER,
  'nodeSelector': MAP,
  'volumes': [{'*name': TEXT, 'persistentVolumeClaim': {'*claimName': TEXT}}],
}
JOB = {
  '*template': {'metadata': MAP, '*spec': POD},
  'parallelism': INTEGER,
  'completions': INTEGER,
  'completionMode': TEXT,
  'backoffLimit': INTEGER,
  'podFailurePolicy': {'*rules': [POD_FAILURE_RULE]},
}
JOB_SET = {
  '*apiVersion': TEXT,
  '*kind': TEXT,
  '*metadata': {'*name': TEXT, 'labels': MAP, 'annotations': MAP},
  '*spec': {
    'network': {'enableDNSHostnames': FLAG, 'subdomain': TEXT, 'publishNotReadyAddresses': FLAG},
    'failurePolicy': {
      'maxRestarts': INTEGER,
      'rules': [{'*name': TEXT, '*action': TEXT, 'onJobFailureReasons': [TEXT]}],
    },
    '*replicatedJobs': [
      {'*name': TEXT, 'replicas': INTEGER, '*template': {'metadata': MAP, '*spec': JOB}}
    ],
  },
}


def faults(kind, value, where='jobset'):
  """What of `value` the API would refuse: fields missing, unknown or of another type."""
  if isinstance(kind, list):
    if not isinstance(value, list):
      return [f'{where}: expected a list']
    return [line for i, item in enumerate(value) for line in faults(kind[0], item, f'{where}.{i}')]
  if not isinstance(kind, dict):
    return [] if type(value) is kind else [f'{where}: {value!r} instead of {kind.__name__}']
  if not isinstance(value, dict):
    return [f'{where}: expected fields']
  fields = {name.removeprefix('*'): field for name, field in kind.items()}
  required = {name[1:] for name in kind if name.startswith('*')}
  lines = [f'{where}.{name}: missing' for name in sorted(required - value.keys())]
  lines += [f'{where}.{name}: unknown' for name in sorted(value.keys() - fields.keys())]
  shared = sorted(value.keys() & fields.keys())
  return lines + [
    line for name in shared for line in faults(fields[name], value[name], f'{where}.{name}')
  ]


def job(accelerator):
  [replicated] = JOB_SETS[accelerator]['spec']['replicatedJobs']
  return replicated['template']['spec']


def pod(accelerator):
  return job(accelerator)['template']['spec']


def container(accelerator):
  [only] = pod(accelerator)['containers']
  return only


def test_there_is_one_for_tpus_and_one_for_gpus():
  assert set(JOB_SETS) == {'tpu', 'gpu'}


@pytest.mark.parametrize('accelerator', JOB_SETS)
def test_the_api_has_every_field(accelerator):
  assert faults(JOB_SET, JOB_SETS[accelerator]) == []
  assert JOB_SETS[accelerator]['apiVersion'] == 'jobset.x-k8s.io/v1alpha2'
  assert JOB_SETS[accelerator]['kind'] == 'JobSet'
  assert re.fullmatch('[a-z0-9]([-a-z0-9]*[a-z0-9])?', JOB_SETS[accelerator]['metadata']['name'])


def test_a_fault_is_found():
  assert faults(JOB, {'paralelism': 2}) == [
    'jobset.template: missing',
    'jobset.paralelism: unknown',
  ]
  assert faults(JOB['podFailurePolicy'], {'rules': [{'action': 1}]}) == [
    'jobset.rules.0.action: 1 instead of str'
  ]


@pytest.mark.parametrize('accelerator', JOB_SETS)
def test_all_pods_run_at_once_and_end_together(accelerator):
  assert job(accelerator)['parallelism'] == job(accelerator)['completions'] > 1
  assert job(accelerator)['backoffLimit'] == 0


@pytest.mark.parametrize('accelerator', JOB_SETS)
def test_an_eviction_starts_all_again_and_counts_against_no_limit(accelerator):
  [rule] = JOB_SETS[accelerator]['spec']['failurePolicy']['rules']
  assert rule['action'] == 'RestartJobSetAndIgnoreMaxRestarts'
  assert rule['onJobFailureReasons'] == ['PodFailurePolicy']
  evicted, saved_with_it = job(accelerator)['podFailurePolicy']['rules']
  assert evicted['action'] == saved_with_it['action'] == 'FailJob'
  assert evicted['onPodConditions'] == [{'type': 'DisruptionTarget', 'status': 'True'}]
  assert saved_with_it['onExitCodes'] == {'operator': 'In', 'values': [128 + signal.SIGTERM]}
  assert pod(accelerator)['restartPolicy'] == 'Never'  # the API asks for it with podFailurePolicy


@pytest.mark.parametrize('accelerator', JOB_SETS)
def test_every_mount_has_its_volume(accelerator):
  mounts = {mount['name'] for mount in container(accelerator)['volumeMounts']}
  assert mounts == {volume['name'] for volume in pod(accelerator)['volumes']}


def run_lines(accelerator, tmp_path):
  """What the pod's shell calls, and with which words."""
  for name in ('pip', 'python', 'cd'):
    launch_scripts.stand_in(tmp_path, name)
  [script] = container(accelerator)['args']
  values = {variable['name']: variable['value'] for variable in container(accelerator)['env']}
  script = script.replace('cd /mnt/shallow_jax', ':')
  shell, options = container(accelerator)['command']
  assert shell == 'bash'
  done = launch_scripts.bash(options, script, folder=tmp_path, JOB_COMPLETION_INDEX='1', **values)
  assert done.returncode == 0, done.stderr
  return [shlex.split(line) for line in launch_scripts.calls(tmp_path).splitlines()]


def test_a_pod_of_a_slice_installs_for_tpus_and_lets_jax_find_the_others(tmp_path):
  install, run = run_lines('tpu', tmp_path)
  assert install[-1] == f'shallow_jax[tpu] @ git+{launch_scripts.repository()}'
  assert run[:4] == ['python', '-m', 'shallow_jax.main', '--distributed']
  assert 'google.com/tpu' in container('tpu')['resources']['limits']


def test_a_gpu_pod_knows_the_first_one_how_many_they_are_and_its_number(tmp_path):
  install, run = run_lines('gpu', tmp_path)
  name = JOB_SETS['gpu']['metadata']['name']
  [replicated] = JOB_SETS['gpu']['spec']['replicatedJobs']
  assert install[-1] == f'shallow_jax[cuda] @ git+{launch_scripts.repository()}'
  assert f'--coordinator_address={name}-{replicated["name"]}-0-0.{name}:8476' in run
  assert f'--num_processes={job("gpu")["parallelism"]}' in run
  assert '--process_id=1' in run
  assert job('gpu')['completionMode'] == 'Indexed'
  assert 'nvidia.com/gpu' in container('gpu')['resources']['limits']


def test_a_gpu_pod_finds_its_driver_and_does_not_train_without_one():
  values = {variable['name']: variable['value'] for variable in container('gpu')['env']}
  assert values['LD_LIBRARY_PATH'] == '/usr/local/nvidia/lib64'
  assert values['JAX_PLATFORMS'].split(',')[0] == 'cuda'


@pytest.mark.parametrize('accelerator', JOB_SETS)
def test_what_it_names_exists(accelerator, tmp_path):
  install, run = run_lines(accelerator, tmp_path)
  setup = configparser.ConfigParser()
  setup.read(launch_scripts.ROOT / 'setup.cfg')
  assert re.search(r'\[(\w+)\]', install[-1])[1] in setup['options.extras_require']
  [config] = [word.split('=')[1] for word in run if word.startswith('--config=')]
  assert (launch_scripts.ROOT / config).exists()
  assert any(word.startswith('--workdir=') and '://' not in word for word in run)

"""launch/colab.ipynb: a client of the package, which runs from start to end."""

import copy
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import types

import nbformat
import pytest
from support import launch_scripts
from support import shipped

HERE = launch_scripts.ROOT / 'tests'
PATH = launch_scripts.ROOT / 'launch' / 'colab.ipynb'
NOTEBOOK = nbformat.read(PATH, as_version=4)
CELLS = {cell['id']: cell for cell in NOTEBOOK.cells}


def test_it_is_a_valid_notebook_of_at_most_15_cells():
  nbformat.validate(NOTEBOOK)
  assert len(NOTEBOOK.cells) <= 15


def test_outputs_are_stripped():
  for cell in NOTEBOOK.cells:
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == []
      assert cell['execution_count'] is None


def test_its_range_of_jax_is_the_packages():
  requirements = (launch_scripts.ROOT / 'requirements.txt').read_text()
  jax = re.search(r'^jax(\S+)', requirements, re.MULTILINE)[1]
  assert f"JAX = '{jax}'" in CELLS['install']['source']


def percent(network):
  return network['metrics']['test']['error']['mean']


def minutes(*networks):
  return round(sum(network['provenance']['wall_seconds'] for network in networks) / 60)


def published(name):
  path = launch_scripts.ROOT / 'configs' / 'results' / name / 'results.json'
  return json.loads(path.read_text())['networks']


def test_its_figures_of_digits_are_the_published_ones():
  text, nets = CELLS['digits-text']['source'], published('digits_full')
  labels, mimic, teacher = (percent(nets[name]) for name in ('shallow_dropout', 'mimic', 'teacher'))
  assert (
    f'labels with dropout {labels:.1f} % errors, the mimic **{mimic:.1f} %**, '
    f'its teacher {teacher:.1f} %'
  ) in ' '.join(text.split())


def test_its_figures_of_cifar10_are_the_published_ones():
  text, nets = ' '.join(CELLS['cifar10-text']['source'].split()), published('cifar10')
  labels, mimic, teacher = (percent(nets[name]) for name in ('shallow', 'mimic', 'teacher'))
  assert nets['mimic']['architecture'] in text
  assert f'{nets["mimic"]["parameters"]["weights"] / 1e6:.1f} million weights' in text
  assert f'{minutes(*nets.values())} minutes on two CPU cores' in text
  assert (
    f'the labels gave {labels:.1f} % errors, the mimic **{mimic:.1f} %**, '
    f'its teacher {teacher:.1f} %'
  ) in text


def test_its_figures_of_the_full_size_row_are_the_published_ones():
  text, nets = ' '.join(CELLS['row-text']['source'].split()), published('cifar10_table2_pair')
  teacher, mimic = nets['teacher_longer'], nets['mimic_64c']
  assert teacher['architecture'] in text
  assert mimic['architecture'] in text
  assert f'{mimic["parameters"]["weights"] / 1e6:.1f} million weights' in text
  assert f'took {minutes(nets["teacher"], teacher)} minutes' in text
  assert f'makes {percent(teacher):.2f} % errors' in text
  assert f'its training, {minutes(mimic)} minutes, **{percent(mimic):.2f} %**' in text
  assert f'has {teacher["paper"]["value"]} and {mimic["paper"]["value"]} %' in text
  assert f'{round(2 * mimic["bytes"], -7) / 1e6:.0f} MB' in text  # weights and their momentum


def test_the_full_size_row_is_as_long_as_it_says_and_saves_as_often():
  """The flags of its cell, on the config that it names."""
  calls = []
  changed = dict(FULL_SIZE_ROW=True, show_figures=str)
  variables('parameters', 'row', shallow_jax=lambda *flags: calls.extend(flags), **changed)
  found = re.findall(r'--config\.networks\.(\w+)\.checkpoint_every_steps=(\d+)', ' '.join(calls))
  every = {name: int(steps) for name, steps in found}
  cifar10_table2 = shipped.load('cifar10_table2')
  config = cifar10_table2.get_config('pair')
  assert calls[0] == '--config=configs/cifar10_table2.py:pair'
  steps = {name: config.networks[name].num_steps for name in config.networks}
  assert set(every) == {name for name in steps if name.startswith('mimic')}
  text = ' '.join(CELLS['row-text']['source'].split())
  assert sum(steps[name] // every[name] for name in every) == 9
  assert 'it saves nine times' in text
  assert f'({(steps["teacher"] + steps["teacher_longer"]) // cifar10_table2.EPOCH} epochs)' in text
  passes = (steps['mimic_64c'] + steps['mimic_longer']) // cifar10_table2.PASS
  assert f'({passes} passes)' in text


def test_the_configs_it_names_exist():
  configs = re.findall(
    r'--config=(configs/\w+\.py)', '\n'.join(c['source'] for c in NOTEBOOK.cells)
  )
  assert len(configs) == 3
  assert all((launch_scripts.ROOT / config).exists() for config in configs)


def variables(*cells, **changed):
  """Runs cells with some variables as they are given here; returns all."""
  found = dict(changed)
  for name in cells:
    exec(compile(CELLS[name]['source'], name, 'exec'), found)
    found.update(changed)
  return found


@pytest.fixture
def runtime(monkeypatch):
  """A Colab runtime: what is importable there, in which version, and what it was asked to run."""
  importable, called = {'jax': '0.10.2', 'jaxlib': '0.10.2'}, []
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: importable.get(name))
  monkeypatch.setattr(importlib.metadata, 'version', lambda name: importable[name])
  monkeypatch.setattr(subprocess, 'run', lambda command, check: called.append(command[1:]))
  monkeypatch.setattr(shutil, 'which', lambda name: None)
  return importable, called


def installed(called):
  """What pip was asked for: after `-m pip install --quiet`."""
  return [words[4:] for words in called if words[1] == 'pip']


def test_what_is_importable_is_not_installed(runtime):
  importable, called = runtime
  importable['shallow_jax'] = '0.1.0'
  variables('parameters', 'install')
  assert [words[0] for words in called] == ['-c']


ADDRESS = 'https://github.com/someone/shallow_jax'


def test_a_jax_that_meets_the_floor_stays_as_it_is(runtime):
  _, called = runtime
  variables('parameters', 'install', REPOSITORY=ADDRESS)
  assert installed(called) == [[f'shallow_jax[] @ git+{ADDRESS}', 'jax==0.10.2', 'jaxlib==0.10.2']]


@pytest.mark.parametrize('version', ['0.7.2', '0.13.0', None])
def test_another_jax_is_replaced_and_a_restart_asked_for(version, runtime, monkeypatch):
  importable, called = runtime
  importable['jax'] = version
  monkeypatch.setattr(shutil, 'which', lambda name: f'/usr/bin/{name}')
  with pytest.raises(SystemExit, match='Restart session'):
    variables('parameters', 'install', REPOSITORY=ADDRESS)
  assert installed(called) == [[f'shallow_jax[cuda] @ git+{ADDRESS}']]


def test_an_uploaded_zip_is_installed(runtime, tmp_path):
  _, called = runtime
  file = tmp_path / 'shallow jax-main.zip'
  file.write_bytes(b'')
  variables('parameters', 'install', REPOSITORY=str(file))
  assert (
    installed(called)[0][0] == f'shallow_jax[] @ {(tmp_path / "shallow jax-main.zip").as_uri()}'
  )


@pytest.mark.parametrize(
  'repository', ['https://github.com/OWNER/shallow_jax', '/content/absent.zip', '']
)
def test_an_address_that_leads_nowhere_is_one_line_that_says_what_to_do(repository, runtime):
  _, called = runtime
  with pytest.raises(SystemExit) as ended:
    variables('parameters', 'install', REPOSITORY=repository)
  assert repr(repository) in str(ended.value)
  assert "upload the repository's zip" in str(ended.value)
  assert '\n' not in str(ended.value)
  assert called == []


def commands(workdir, program, **changed):
  """The notebook's functions, with `program` in the place of Python."""
  python = types.SimpleNamespace(executable=str(program))
  modules = dict(sys=python, subprocess=subprocess, shutil=shutil, pathlib=pathlib)
  changed |= dict(WORKDIR=str(workdir), **modules)
  return variables('parameters', 'commands', **changed)


def test_a_cell_that_is_stopped_lets_the_run_save(tmp_path, capsys):
  """It waits until the run has said so, and ends with the run's exit code."""
  program = tmp_path / 'python'
  program.write_text(
    '#!/bin/bash\ntrap "echo saved; exit 143" TERM\necho step 1\nwhile true; do sleep 0.05; done\n'
  )
  program.chmod(0o755)

  def interrupted(*lines, **_):
    if 'step 1\n' in lines:
      raise KeyboardInterrupt
    sys.stdout.writelines(lines)

  found = commands(tmp_path, program, print=interrupted)
  with pytest.raises(SystemExit, match='143'):
    found['shallow_jax']('--config=x')
  assert capsys.readouterr().out == 'saved\n'


def test_a_run_that_fails_ends_the_cell(tmp_path):
  found = commands(tmp_path, '/bin/false')
  with pytest.raises(SystemExit, match='shallow-jax ended with 1'):
    found['shallow_jax']()


@pytest.mark.skipif(not shutil.which('setpriv'), reason='of util-linux')
def test_a_session_that_is_killed_lets_the_run_save(tmp_path):
  """The notebook's process can't say so any more: the kernel of Linux sends SIGTERM."""
  program = tmp_path / 'python'
  program.write_text(
    f"""#!/bin/bash\ntrap 'touch "{tmp_path}/saved"; exit 143' TERM\n"""
    f'touch "{tmp_path}/started"\nwhile [ -e "{tmp_path}" ]; do sleep 0.05; done\n'
  )
  program.chmod(0o755)
  code = (
    'import pathlib, sys\nfrom launch import test_colab as test\n'
    "test.commands(*map(pathlib.Path, sys.argv[1:]))['shallow_jax']()"
  )
  session = subprocess.Popen([sys.executable, '-c', code, tmp_path, program], cwd=HERE)
  wait_for(tmp_path / 'started')
  session.kill()
  session.wait(timeout=30)
  wait_for(tmp_path / 'saved')


def wait_for(path, seconds=30):
  deadline = time.monotonic() + seconds
  while not path.exists():
    assert time.monotonic() < deadline, path
    time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings('default')  # those of the notebook's programs are not ours
def test_it_runs_from_start_to_end(tmp_path, cifar_folder, monkeypatch):
  """In small, in a kernel of its own, without network."""
  import nbclient

  for name in ('IPYTHONDIR', 'JUPYTER_CONFIG_DIR', 'JUPYTER_RUNTIME_DIR'):
    monkeypatch.setenv(name, str(tmp_path / name))
  for name in ('http_proxy', 'https_proxy'):
    monkeypatch.setenv(name, 'http://127.0.0.1:9')  # nobody listens there
  monkeypatch.setenv('PIP_NO_INDEX', '1')
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  monkeypatch.setenv('PYTHONPATH', str(launch_scripts.ROOT), prepend=os.pathsep)
  notebook = copy.deepcopy(NOTEBOOK)
  changed = f"""
WORKDIR = {str(tmp_path / 'a drive')!r}
DATA = {str(cifar_folder)!r}
VARIANT = ':smoke'
FULL_SIZE_ROW = True
"""
  at = [cell['id'] for cell in notebook.cells].index('parameters')
  notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(changed))
  client = nbclient.NotebookClient(
    notebook, timeout=1800, kernel_name='python3', resources={'metadata': {'path': str(tmp_path)}}
  )
  client.execute()
  outputs = {cell['id']: cell.get('outputs', []) for cell in notebook.cells}
  for name, run, network in (
    ('digits', 'digits', 'hard_labels_l2'),
    ('cifar10', 'cifar10', 'conv_mimic'),
    ('row', 'table2_pair', 'mimic_longer'),
  ):
    text = ''.join(output.get('text', '') for output in outputs[name])
    figures = [output for output in outputs[name] if 'image/png' in output.get('data', {})]
    folder = tmp_path / 'a drive' / run / 'report' / 'figures'
    assert network in text
    assert len(figures) == len(list(folder.glob('*.png'))) > 0
  assert not any('pip' in str(output) for output in outputs['install'])

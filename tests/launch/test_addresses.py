"""The repository's address: in setup.cfg, and the same wherever else it stands."""

import json
import re
import shutil

import pytest
from support import launch_scripts
import yaml

PLACES = ('setup.cfg', 'README.md', 'launch/colab.ipynb', 'launch/jobset.yaml')


def notebook_repository(root):
  cells = json.loads((root / 'launch' / 'colab.ipynb').read_text(encoding='utf-8'))['cells']
  [parameters] = [''.join(cell['source']) for cell in cells if cell['id'] == 'parameters']
  return re.search("^REPOSITORY = '([^']+)'", parameters, re.MULTILINE)[1]


def pods_repositories(root):
  for job_set in yaml.safe_load_all((root / 'launch' / 'jobset.yaml').read_text(encoding='utf-8')):
    [replicated] = job_set['spec']['replicatedJobs']
    [container] = replicated['template']['spec']['template']['spec']['containers']
    yield from (pair['value'] for pair in container['env'] if pair['name'] == 'REPOSITORY')


def badge(root):
  line = (root / 'README.md').read_text(encoding='utf-8').splitlines()[2]
  return re.search(r'\]\(([^()]+)\)$', line)[1]


def check(root):
  """That all name the repository of setup.cfg; returns it."""
  repository = launch_scripts.repository(root)
  notebook = repository.removeprefix('https://github.com/') + '/blob/main/launch/colab.ipynb'
  assert notebook_repository(root) == repository
  assert [*pods_repositories(root)] == [repository] * 2
  assert badge(root) == f'https://colab.research.google.com/github/{notebook}'
  return repository


def test_all_name_the_repository_of_setup_cfg():
  check(launch_scripts.ROOT)


@pytest.mark.skipif('/OWNER/' not in launch_scripts.repository(), reason='the owner is known')
def test_the_readmes_command_puts_the_owner_in_everywhere(tmp_path):
  text = (launch_scripts.ROOT / 'launch' / 'README.md').read_text(encoding='utf-8')
  [command] = re.findall(r'^sed -i .*$', text, re.MULTILINE)
  (tmp_path / 'launch').mkdir()
  for name in PLACES:
    shutil.copy(launch_scripts.ROOT / name, tmp_path / name)
  done = launch_scripts.bash('-euc', f"cd '{tmp_path}'; {command.replace('NAME', 'someone')}")
  assert (done.returncode, done.stderr) == (0, '')
  assert check(tmp_path) == 'https://github.com/someone/shallow_jax'
  assert not [name for name in PLACES if '/OWNER/' in (tmp_path / name).read_text(encoding='utf-8')]


def test_the_placeholder_stands_nowhere_else():
  texts = [
    path
    for folder in ('.', 'configs', 'launch', 'shallow_jax')
    for path in (launch_scripts.ROOT / folder).iterdir()
    if path.is_file() and b'github.com/OWNER' in path.read_bytes()
  ]
  assert {str(path.relative_to(launch_scripts.ROOT)) for path in texts} <= set(PLACES)

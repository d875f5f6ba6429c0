# Sourced by quickstart.sh and test.sh: goes to the repository's root, says where the virtual
# environment is ($venv), and gives setup_venv, which makes it and installs shallow_jax into it,
# editable, when something that decides what is installed has changed.
#
#   VENV=.venv-3.12 PYTHON=python3.12 bash launch/test.sh     another environment, another Python
#
# PYTHON counts where the environment has yet to be made.
# shellcheck shell=bash

set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
venv=${VENV:-.venv}  # relative to the repository's root
# What else may reach into the environment: other environments, other places to install to.
unset PYTHONHOME PYTHONPATH PIP_PREFIX PIP_ROOT PIP_TARGET
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0

# setup_venv [EXTRA]: after it, $venv has shallow_jax and, if named, its extra (test).
setup_venv() {
  local extra=${1:-} start=$SECONDS code=0
  if _is_installed test || { [ -z "$extra" ] && _is_installed plain; }; then
    return
  fi
  if [ -e "$venv/installing" ] || ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
    _make_venv  # there is none, or it was interrupted and may hold half a package
  fi
  echo "Installing shallow_jax${extra:+ with what the tests need} into $venv" \
    "(at first 300 MB of downloads, 1.2 GB of disk, a few minutes) ..."
  rm -f "$venv"/installed-*
  touch "$venv/installing"
  "$venv/bin/python" -m pip install --quiet --editable ".${extra:+[$extra]}" || code=$?
  rm "$venv/installing"
  [ "$code" -eq 0 ] || _fail "the installation failed for the reason above; nothing was run"
  _state > "$venv/installed-${extra:-plain}"
  echo "Installed in $((SECONDS - start)) s."
}

_is_installed() {
  [ -x "$venv/bin/python" ] && [ "$(_state)" = "$(cat "$venv/installed-$1" 2> /dev/null)" ]
}

# All that decides what is installed: the Python, the place (it is editable) and these files.
_state() {
  "$venv/bin/python" -V
  pwd
  cat requirements.txt setup.cfg pyproject.toml
}

_make_venv() {
  local python=${PYTHON:-python3}
  command -v "$python" > /dev/null || _fail "no $python found; shallow_jax needs Python >= 3.11"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    _fail "$python is $("$python" -V 2>&1 | head -n 1), shallow_jax needs Python >= 3.11;" \
      "where there is one, name it: PYTHON=python3.12 bash launch/..."
  "$python" -c 'import ensurepip, venv' 2> /dev/null ||
    _fail "$python can't make virtual environments: apt-get install python3-venv"
  if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
    _fail "$venv is in the way: it is no virtual environment"
  fi
  echo "Making the virtual environment $venv with $("$python" -V) ..."
  "$python" -m venv --clear "$venv"
}

_fail() {
  echo "$0: $*" >&2
  exit 1
}

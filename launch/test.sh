#!/usr/bin/env bash
# ruff, pyrefly and pytest in the .venv of quickstart.sh; all three run, the first failure's exit
# code is the script's. Needs python3 >= 3.11 with venv, and nothing else.
#
#   bash launch/test.sh                                    the default tests
#   bash launch/test.sh -m slow                            the slow ones alone; -m "" for all
#   bash launch/test.sh tests/training -k l2               flags and files are pytest's
#   bash launch/test.sh -n 0                               in one process, not one for each core
#
# VENV and PYTHON: setup_venv.sh.
# shellcheck source=launch/setup_venv.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup_venv.sh"

code=0
failed=''
check() {
  echo "== $*"
  "$venv/bin/python" -m "$@" || fail $? "$1"
}

fail() {
  [ "$code" -ne 0 ] || code=$1
  failed+=" $2"
}

setup_venv test
check ruff check
check ruff format --check
check pyrefly check --python-interpreter-path="$venv/bin/python"
check pytest --numprocesses=logical --maxprocesses=4 "$@"
[ "$code" -eq 0 ] || echo "== FAILED:$failed" >&2
exit "$code"

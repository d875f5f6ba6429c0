#!/usr/bin/env bash
# A deep teacher, its stored logits and shallow students on real digits, from nothing: makes .venv,
# installs shallow_jax into it, runs configs/digits.py into runs/digits and prints the table.
# A second call skips what is done. Needs python3 >= 3.11 with venv, and nothing else.
#
#   bash launch/quickstart.sh [flags of shallow_jax.main, such as --only=mimic]
#
# Relative paths count from the repository's root. VENV and PYTHON: setup_venv.sh.
# shellcheck source=launch/setup_venv.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/setup_venv.sh"

setup_venv
exec "$venv/bin/python" -m shallow_jax.main \
  --config=configs/digits.py --workdir=runs/digits "$@"

#!/usr/bin/env bash
# A run on Cloud TPU, v4 to v6e, on all workers of a slice that is asked for by queued resources.
#
#   bash launch/tpu_pod.sh COMMAND [flags] [-- flags of shallow_jax.main]
#
#   create    asks for the slice, unless that was done, and waits until it is there
#   setup     on every worker: mounts the shared folder, copies this checkout, installs it
#   run       on every worker: starts the run, which goes on when the connection ends
#   logs      follows what a worker says
#   delete    gives the slice back; the shared folder stays
#   resume    after a preemption: delete, create, setup and run, with the flags of all four
#
#   --zone=ZONE            TPU_POD_ZONE         where the slice is
#   --project=PROJECT      TPU_POD_PROJECT      who pays for it
#   --accelerator=TYPE     TPU_POD_ACCELERATOR  v4-16, v5litepod-16, v5p-16, v6e-16, ... (create)
#   --runtime=VERSION      TPU_POD_RUNTIME      the workers' image; left out, the accelerator's (create)
#   --nfs=HOST:/SHARE      TPU_POD_NFS          the shared folder: an NFS share, Filestore's for instance,
#   --bucket=BUCKET        TPU_POD_BUCKET         or a bucket by gcsfuse, which the image must have; one
#                                                 of the two (setup)
#   --mount=FOLDER         TPU_POD_MOUNT        where workers have it; left out: /mnt/shallow_jax (setup, run)
#   --name=NAME            TPU_POD_NAME         of the slice; left out: shallow-jax
#   --worker=NUMBER        TPU_POD_WORKER       whose log; left out: 0, which writes the reports
#   --spot                 TPU_POD_SPOT=1       cheaper, and may be preempted at any time (create)
#   --dry-run              TPU_POD_DRY_RUN=1    only prints what would run; needs no gcloud
#
# For instance (with an agent of ssh running, first: ssh-add ~/.ssh/google_compute_engine):
#   export TPU_POD_ZONE=us-east5-b TPU_POD_PROJECT=mine TPU_POD_NFS=10.0.0.2:/share
#   bash launch/tpu_pod.sh create --accelerator=v6e-16 --spot
#   bash launch/tpu_pod.sh setup
#   bash launch/tpu_pod.sh run -- --config=configs/cifar10_table2.py --workdir=runs/table2 \
#       --config.data.data_dir=data
#   bash launch/tpu_pod.sh logs
#
# Relative folders of a run count from the shared folder, so that all workers see the same files. A
# workdir elsewhere is refused: gs:// itself is no folder. What works on a bucket, and what happens
# at a preemption: launch/README.md. It was never run on a TPU, only against a stand-in for gcloud.

set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

name=${TPU_POD_NAME:-shallow-jax}
zone=${TPU_POD_ZONE:-}
project=${TPU_POD_PROJECT:-}
accelerator=${TPU_POD_ACCELERATOR:-}
runtime=${TPU_POD_RUNTIME:-}
nfs=${TPU_POD_NFS:-}
bucket=${TPU_POD_BUCKET:-}
mount=${TPU_POD_MOUNT:-/mnt/shallow_jax}
apt_get='sudo apt-get -qq -o DPkg::Lock::Timeout=600'  # a worker that has just started updates itself
worker=${TPU_POD_WORKER:-0}
spot=${TPU_POD_SPOT:-}
dry_run=${TPU_POD_DRY_RUN:-}
unit=shallow-jax  # of systemd, on the workers
seconds_between_looks=30
failed_looks_at_most=10  # in a row

main() {
  local command=${1:-}
  case $command in
    create | setup | run | logs | delete | resume) shift ;;
    *) fail "'$command' is no command; expected create, setup, run, logs, delete or resume" ;;
  esac
  parse "$@"
  switch TPU_POD_SPOT "$spot"
  switch TPU_POD_DRY_RUN "$dry_run"
  require --zone "$zone"
  require --project "$project"
  place=(--zone="$zone" --project="$project")
  describe=(
    gcloud compute tpus queued-resources describe "$name" "${place[@]}"
    --format='value(state.state)'
  )
  [ -n "$dry_run" ] || command -v gcloud > /dev/null ||
    fail "no gcloud found: install it, or look at --dry-run"
  check_"$command"
  "$command"
}

parse() {
  run_flags=()
  while [ $# -gt 0 ]; do
    case $1 in
      --name=*) name=${1#*=} ;;
      --zone=*) zone=${1#*=} ;;
      --project=*) project=${1#*=} ;;
      --accelerator=*) accelerator=${1#*=} ;;
      --runtime=*) runtime=${1#*=} ;;
      --nfs=*) nfs=${1#*=} ;;
      --bucket=*) bucket=${1#*=} ;;
      --mount=*) mount=${1#*=} ;;
      --worker=*) worker=${1#*=} ;;
      --spot) spot=1 ;;
      --dry-run) dry_run=1 ;;
      --)
        shift
        run_flags=("$@")
        return
        ;;
      *) fail "'$1' is no flag of this script; flags of shallow_jax.main come after --" ;;
    esac
    shift
  done
}

check_create() {
  require --accelerator "$accelerator"
  runtime=${runtime:-$(usual_runtime)}
  [ -n "$runtime" ] || fail "the image for '$accelerator' is not known here: name it by --runtime"
}

usual_runtime() {
  case $accelerator in
    v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
  esac
}

create() {
  note 'The second only where the first finds none:'
  if [ -n "$dry_run" ]; then call "${describe[@]}"; fi
  if [ -n "$dry_run" ] || ! "${describe[@]}" > /dev/null 2>&1; then
    call gcloud compute tpus queued-resources create "$name" --node-id="$name" "${place[@]}" \
      --accelerator-type="$accelerator" --runtime-version="$runtime" ${spot:+--spot}
  fi
  note "Every $seconds_between_looks s, until it says ACTIVE:"
  if [ -n "$dry_run" ]; then
    call "${describe[@]}"
    return
  fi
  local state failed_looks=0
  while true; do
    if state=$("${describe[@]}"); then
      failed_looks=0
      case $state in
        ACTIVE) return ;;
        '' | FAILED | SUSPENDING | SUSPENDED) fail "$name is '$state': 'delete' and 'create' it" ;;
      esac
    else
      failed_looks=$((failed_looks + 1))
      [ "$failed_looks" -lt "$failed_looks_at_most" ] ||
        fail "$name: gcloud could not say its state; 'create' waits for it again"
    fi
    sleep "$seconds_between_looks"
  done
}

check_setup() {
  check_mount
  [ -n "$nfs" ] || [ -n "$bucket" ] ||
    fail "--nfs or --bucket is missing: the workers need a folder that they all see"
  [ -z "$nfs" ] || [ -z "$bucket" ] || fail "--nfs=$nfs and --bucket=$bucket: expected only one"
  bucket=${bucket#gs://}
}

# What systemd takes as one folder.
check_mount() {
  case $mount in
    *[!A-Za-z0-9_./-]* | */../* | */.. | */ | [!/]*)
      fail "--mount=$mount: expected an absolute folder of letters, digits, _, ., - and /" ;;
  esac
}

setup() {
  local archive=shallow_jax.tar.gz
  local install=(
    "mountpoint -q $(quoted "$mount") || { $(mount_command); }"
    'mkdir -p ~/shallow_jax'
    "tar -xzf ~/$archive -C ~/shallow_jax"
    'python3 -m pip install --quiet --user uv'
    'python3 -m uv venv --quiet --clear --python=3.12 ~/shallow_jax/.venv'
    "python3 -m uv pip install --quiet --python ~/shallow_jax/.venv \"\$HOME/shallow_jax[tpu]\""
  )
  call tar -czf "/tmp/$archive" --exclude=__pycache__ shallow_jax configs README.md LICENSE \
    requirements.txt setup.cfg pyproject.toml
  call gcloud compute tpus tpu-vm scp "/tmp/$archive" "$name:" --worker=all "${place[@]}"
  on_workers all "$(joined ' && ' "${install[@]}")"
}

# The state of files and folders is asked for anew each time (ttl 0): another worker may have
# changed them.
mount_command() {
  local folder
  folder=$(quoted "$mount")
  if [ -n "$nfs" ]; then
    joined ' && ' "$apt_get update" "$apt_get install -y nfs-common" "sudo mkdir -p $folder" \
      "sudo mount -t nfs $(quoted "$nfs") $folder" \
      "{ [ -w $folder ] || sudo chmod go+rwx $folder; }"  # a new share is root's
  else
    joined ' && ' "sudo mkdir -p $folder" "sudo chown \$(id -u) $folder" \
      "gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 $(quoted "$bucket") $folder"
  fi
}

check_run() {
  check_mount
  local flag config='' workdir=''
  for flag in ${run_flags[@]+"${run_flags[@]}"}; do
    case $flag in
      --config=*) config=${flag#*=} ;;
      --workdir=*) workdir=${flag#*=} ;;
    esac
  done
  require '-- --config' "$config"
  require '-- --workdir' "$workdir"
  case $workdir in
    *://*) fail "--workdir=$workdir: expected a folder; mount the bucket by --bucket" ;;
    .. | ../* | */.. | */../*) fail "--workdir=$workdir: expected a folder without .." ;;
    "$mount"/*) ;;
    /*) fail "--workdir=$workdir: expected below $mount, which all workers see" ;;
  esac
}

run() {
  # A unit of systemd outlives the connection. When the worker is shut down it gets SIGTERM before an
  # NFS share is unmounted; a gcsfuse mount is a process like any other and may be gone by then.
  on_workers all "sudo systemd-run --quiet --collect --unit=$unit --uid=\$(id -u) --gid=\$(id -g)\
 --setenv=HOME=\$HOME --working-directory=$(quoted "$mount")\
 --property=RequiresMountsFor=$(quoted "$mount")\
 --property=LimitMEMLOCK=infinity --property=LimitNOFILE=1048576\
 \$HOME/shallow_jax/.venv/bin/python -m shallow_jax.main --distributed $(quoted "${run_flags[@]}")"
  note "Started on all workers; 'logs' follows it."
}

check_logs() { :; }

logs() {
  on_workers "$worker" "sudo journalctl --follow --lines=100 --output=cat --unit=$unit"
}

check_delete() { :; }

delete() {
  call gcloud compute tpus queued-resources delete "$name" --force --quiet "${place[@]}"
}

check_resume() {
  check_create
  check_setup
  check_run
}

resume() {
  note 'Only where it says SUSPENDED, SUSPENDING or FAILED:'
  if [ -n "$dry_run" ]; then
    call "${describe[@]}"
  else
    local state
    state=$("${describe[@]}") || fail "$name: gcloud could not say its state; 'create' makes it"
    case $state in
      SUSPENDED | SUSPENDING | FAILED) ;;
      ACTIVE) fail "$name is '$state': there is nothing to resume; 'run' starts a run on it" ;;
      *) fail "$name is '$state': there is nothing to resume; 'create' waits for it" ;;
    esac
  fi
  delete
  create
  setup
  run
}

# on_workers NUMBER|all COMMAND: runs a line of shell on them.
on_workers() {
  call gcloud compute tpus tpu-vm ssh "$name" --worker="$1" "${place[@]}" --command="$2"
}

# Prints a command as it can be typed, and runs it unless this is a dry run.
call() {
  if [ -n "$dry_run" ]; then
    quoted "$@"
  else
    echo "+ $(quoted "$@")" >&2
    "$@"
  fi
}

# The words as the shell reads them back, on a line.
quoted() {
  local word line='' quote="'\\''"
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_@%+=:,./-]*) line+=" '${word//\'/$quote}'" ;;
      *) line+=" $word" ;;
    esac
  done
  echo "${line# }"
}

# joined SEPARATOR WORD...
joined() {
  local separator=$1 line=$2 word
  shift 2
  for word in "$@"; do
    line+=$separator$word
  done
  echo "$line"
}

note() {
  if [ -n "$dry_run" ]; then echo "# $*"; else echo "$*" >&2; fi
}

switch() {
  case $2 in
    '' | 1) ;;
    *) fail "$1=$2: expected 1, or nothing" ;;
  esac
}

require() {
  [ -n "$2" ] || fail "$1 is missing"
}

fail() {
  echo "$0: $*" >&2
  exit 1
}

main "$@"

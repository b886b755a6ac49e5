#!/usr/bin/env bash
# Deploys template.yaml to a local AWS stack, backs a table up under load, keeps a replica, kills a worker, restores to a second, compares.
# From a clean clone, with Python 3.9 or later, Rust and openssl, on Linux; no AWS account, no Docker. What it installs,
# builds and logs goes to target/deploy-tools.
#
#   tests/deploy/e2e.sh                              builds the functions for release: ten minutes or more, the first time
#   tests/deploy/e2e.sh --kills 20                   and 20 rounds, in each of which a function's process is killed
#   tests/deploy/e2e.sh --bootstraps target/debug    with executables that are there: the command, and one per function, by its name
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/deploy/tools.sh

# The checkout stays as it is.
export PYTHONDONTWRITEBYTECODE=1
built=
for argument in "$@"; do
  case "$argument" in
    --bootstraps | --bootstraps=* | --help | -h) built=yes ;;
  esac
done

say "tools"
mkdir -p "$tools"
python_tools sam
# In an environment of its own: it wants other versions of what the SAM command line wants.
python_tools ministack

if [ -z "$built" ]; then
  say "sam build"
  python_tools cargo-lambda
  case "$(uname -m)" in
    aarch64 | arm64) architecture=arm64 ;;
    *) architecture=x86_64 ;;
  esac
  PATH=$tools/cargo-lambda/bin:$PATH "$tools/sam/bin/sam" build --beta-features \
    --build-dir "$tools/e2e-build" --parameter-overrides "Architecture=$architecture"
  cargo build --release --locked -p highwater
  set -- "$@" --built "$tools/e2e-build" --highwater "${CARGO_TARGET_DIR:-target}/release/highwater"
fi

# In its place, so that an interrupt reaches it, which has to stop what it started.
exec "$tools/ministack/bin/python" "$here/e2e" --sam "$tools/sam/bin/sam" --folder "$tools/e2e" "$@"

#!/usr/bin/env bash
# Measures what a cold start of each function takes: its size, the time until it asks for its first event, the processor
# time of its first call by TLS, its memory. Fails where a budget is broken. Linux, Python 3.9 or later and openssl.
#
#   tests/deploy/measure.sh                  of target/lambda, where `sam build` and `cargo lambda build` leave them
#   tests/deploy/measure.sh FOLDER           of this folder: NAME, NAME/bootstrap or NameFunction/bootstrap in it
#   tests/deploy/measure.sh --sizes FOLDER   sizes alone, for another architecture
#   tests/deploy/measure.sh --print          a broken budget is no failure
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1
exec python3 tests/deploy/measure "$@"

#!/usr/bin/env bash
# Checks everything that is deployed, short of deploying it: the template, the state machines, the CDK app.
# From a clean clone, with Python 3.9 or later, Node 20 or later and Rust; no AWS account. Tools go to target/deploy-tools.
#
#   tests/deploy/check.sh            about a minute, once the tools are there
#   tests/deploy/check.sh --build    also builds every function for AWS, as `sam deploy` needs it: ten minutes or more
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/deploy/tools.sh

build=
case "${1-}" in
  "") ;;
  --build) build=yes ;;
  *) echo "usage: $0 [--build]" >&2; exit 2 ;;
esac

say "tools"
mkdir -p "$tools"
python_tools sam
# In an environment of its own: it wants other versions of what the SAM command line wants.
python_tools checkov
npm install --prefix "$tools" --no-save --no-audit --no-fund --loglevel=error "$(cat "$here/asl-validator.txt")"
npm ci --prefix cdk --no-audit --no-fund --loglevel=error

say "cfn-lint"
"$tools/sam/bin/cfn-lint" --non-zero-exit-code informational template.yaml

say "sam validate --lint"
"$tools/sam/bin/sam" validate --lint --template template.yaml

say "asl-validator"
for definition in statemachine/*.asl.json; do
  "$tools/node_modules/.bin/asl-validator" --json-path "$definition"
done

say "checkov: what is skipped, and why, is in $here/checkov.yaml"
"$tools/checkov/bin/checkov" --config-file "$here/checkov.yaml" --file template.yaml

say "the CDK app: its test, then cdk synth"
npm test --prefix cdk --silent
# The functions' code is of no interest here: empty files stand for it, unless it is built anyway.
functions=$tools/functions
for folder in functions/*/; do
  mkdir -p "$functions/$(basename "$folder")"
  : >"$functions/$(basename "$folder")/bootstrap"
done
(cd cdk && npx cdk synth --quiet --no-notices --context "lambdaDir=$functions" --context tables=orders,customers)

if [ -n "$build" ]; then
  say "sam build"
  python_tools cargo-lambda
  export PATH=$tools/cargo-lambda/bin:$PATH
  "$tools/sam/bin/sam" build --beta-features
  say "the size of each function"
  "$here/measure.sh" --sizes .aws-sam/build
fi

say "all of it is in order"

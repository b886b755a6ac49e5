#!/usr/bin/env bash
# Installs the tools that `compare` measures beside Highwater, in pinned versions, into a folder of their own.
# Needs Python 3.9 or later with venv, and Node 20 or later with npm; whichever is absent is left out.
#
#   benches/peers/install.sh            into target/peers, where `compare` looks
#   benches/peers/install.sh FOLDER     into another folder, for `compare --peers FOLDER`
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
to="${1:-$here/../../target/peers}"
mkdir -p "$to/bin"
to="$(cd "$to" && pwd)"

# One environment for each: the AWS CLI and boto3 want different versions of one library.
venv() {
    local name="$1"
    shift
    python3 -m venv "$to/$name"
    "$to/$name/bin/pip" install --quiet "$@"
}

if python3 -c 'import venv' 2>/dev/null; then
    venv boto3 boto3==1.44.5
    # Not a link: Python looks for its environment beside the name that it was called by.
    rm -f "$to/bin/python-boto3"
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$to/boto3/bin/python" >"$to/bin/python-boto3"
    chmod +x "$to/bin/python-boto3"
    venv awscli awscli==1.46.3
    ln -sf "$to/awscli/bin/aws" "$to/bin/aws"
    venv dynamodump dynamodump==1.11.1
    ln -sf "$to/dynamodump/bin/dynamodump" "$to/bin/dynamodump"
else
    echo "python3 with venv is not here: no boto3, AWS CLI and dynamodump"
fi

if command -v npm >/dev/null; then
    npm install --silent --no-audit --no-fund --prefix "$to/node" @aws-sdk/client-dynamodb@3.1162.0
    ln -sf "$(command -v node)" "$to/bin/node"
else
    echo "npm is not here: no Node SDK"
fi

# Neither is in a registry: build them, and put them into $to/bin or PATH.
for tool in dyndump dy; do
    command -v "$tool" >/dev/null || [ -x "$to/bin/$tool" ] || echo "$tool is not here: build it from its sources"
done
echo "installed into $to"

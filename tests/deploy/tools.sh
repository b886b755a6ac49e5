# Sourced by the scripts beside it: where tools go, and how they come there. Wants to be in the repository's root.
here=tests/deploy
tools=$PWD/target/deploy-tools
# What needs a region needs nothing of an account.
export AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true SAM_CLI_TELEMETRY=0 CDK_DISABLE_CLI_TELEMETRY=true

say() { printf '\n== %s\n' "$1"; }

# A virtual environment with what a list pins, made again when the list has changed.
python_tools() {
  if ! cmp -s "$here/$1.txt" "$tools/$1/pinned.txt"; then
    rm -rf "${tools:?}/$1"
    python3 -m venv "$tools/$1"
    "$tools/$1/bin/pip" install --quiet --disable-pip-version-check -r "$here/$1.txt"
    cp "$here/$1.txt" "$tools/$1/pinned.txt"
  fi
}

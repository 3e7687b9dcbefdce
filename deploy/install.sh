#!/bin/sh
# Installs what `gateway serve` needs, and nothing else, into a new virtual environment: install.sh <folder>
set -eu
target=$1
cd "$(dirname "$0")/.."
python=$(deploy/python.sh)

# Built in one environment and installed into another, which never holds pip or the build backend.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/build"
pip() { "$scratch/build/bin/python" -m pip "$@"; }
locked() { pip "$@" --quiet --require-hashes --only-binary :all:; }

locked install -r locks/build.txt
pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$scratch" .
"$python" -m venv --without-pip "$target"
locked --python "$target/bin/python" install -r locks/runtime.txt
pip --python "$target/bin/python" install --quiet --no-index --no-deps "$scratch"/*.whl

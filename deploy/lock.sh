#!/bin/sh
# Resolves pyproject.toml into locks/: dev first, then the others, held to the same versions.
set -eu
cd "$(dirname "$0")/.."
uv=$1
shift

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$(deploy/python.sh)" -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet "$uv"

# Without --upgrade, uv keeps the versions of the file that it writes to.
resolve() {
    "$scratch/venv/bin/uv" pip compile --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-header --no-emit-index-url --no-emit-find-links --quiet "$@"
}
resolve pyproject.toml --extra build --extra demo --extra dev -o locks/dev.txt "$@"
resolve pyproject.toml --extra build --extra demo -c locks/dev.txt -o locks/demo.txt
resolve pyproject.toml -c locks/dev.txt -o locks/runtime.txt
"$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' |
    resolve - -c locks/dev.txt -o locks/build.txt

#!/bin/sh
# Prints the first Python that is new enough and can make virtual environments, or one line saying what is missing.
set -eu

unfit=
for name in python3.14 python3.13 python3.12 python3.11 python3; do
    # A name may be there and yet not run: version managers leave such stubs.
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    if "$name" -c 'import venv, ensurepip' 2>/dev/null; then
        "$name" -c 'import sys; print(sys.executable)'
        exit
    fi
    unfit=${unfit:-$name}
done

if [ -n "$unfit" ]; then
    echo "$unfit is here, but its venv module is not: install it (Debian, Ubuntu: apt install python3-venv)" >&2
else
    echo 'Python 3.11 or newer is missing: install it, with its venv module (Debian, Ubuntu: apt install python3-venv)' >&2
fi
exit 1

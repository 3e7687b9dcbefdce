#!/bin/sh
# Brings .venv in agreement with locks/<demo|dev>.txt and pyproject.toml. Does nothing where it already is.
set -eu
cd "$(dirname "$0")/.."
lock=$1

# The folder counts too: a virtual environment does not survive being moved.
wanted() { { pwd; cat "locks/$1.txt" pyproject.toml deploy/venv.sh; } | cksum; }
has() { [ "$(cat ".venv/.installed-$1" 2>/dev/null)" = "$(wanted "$1")" ]; }

# dev holds all of demo, in the same versions: deploy/locks.py sees to it.
if [ -x .venv/bin/gateway ] && .venv/bin/python -c '' 2>/dev/null && { has "$lock" || has dev; }; then
    exit
fi

if [ "$(cat .venv/.folder 2>/dev/null)" != "$(pwd)" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(deploy/python.sh)
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
    pwd >.venv/.folder
fi
rm -f .venv/.installed-*

total=$(grep -c '^[A-Za-z0-9]' "locks/$lock.txt")
echo "Installing locks/$lock.txt ($total packages) into .venv: once, a minute or two"
log=.venv/install.log
{
    .venv/bin/python -m pip install --progress-bar off --require-hashes -r "locks/$lock.txt" 2>&1 &&
        .venv/bin/python -m pip install --no-deps --no-build-isolation -e . 2>&1 &&
        wanted "$lock" >".venv/.installed-$lock"
} | tee "$log" | {
    seen=0
    end='\n'
    [ -t 1 ] && end='\r'
    while read -r line; do
        case $line in
        *'(from -r '*)
            seen=$((seen + 1))
            line=${line#Requirement already satisfied: }
            line=${line#Collecting }
            case $line in [a-zA-Z]*==*) ;; *) seen=$((seen - 1)); continue ;; esac
            if [ "$end" = '\r' ] || [ $((seen % 25)) = 0 ]; then
                printf "  %3d of %d  %-40.40s$end" "$seen" "$total" "${line%%[ ;=]*}"
            fi
            ;;
        'Installing collected packages'*) printf '  %-60s\n' 'fetched, unpacking' ;;
        'Building editable'*) printf '  %-60s\n' 'the gateway itself' ;;
        esac
    done
}
if ! has "$lock"; then
    grep -E '^ *(ERROR|error)' "$log" || tail -n 15 "$log"
    echo "Installing locks/$lock.txt failed: the whole of it is in $log; the next try takes it up again"
    exit 1
fi >&2

#!/bin/sh
# Takes the Dockerfile's install, start and health steps without a container engine: in an empty folder and, when run by
# root, as the unprivileged user that the image has. Prints `ok` last. Serving needs a PostgreSQL in DATABASE_URL;
# that the server refuses to start without one, and says why, is seen in any case.
set -eu
cd "$(dirname "$0")/.."
uid=$(sed -n 's/^USER \([0-9]*\):.*/\1/p' Dockerfile)

folder=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM
fail() {
    echo "container steps: $1" >&2
    [ ! -s "$folder/log" ] || sed 's/^/  | /' "$folder/log" >&2
    exit 1
}

# What the user may write to is `home` only; the rest is as a read-only file system to it.
chmod 755 "$folder"
mkdir "$folder/src" "$folder/etc" "$folder/home" "$folder/wheels"
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
as=
if [ "$(id -u)" = 0 ]; then
    command -v setpriv >/dev/null || fail 'setpriv (util-linux) is missing: run this as an ordinary user instead'
    as="setpriv --reuid $uid --regid $uid --clear-groups --no-new-privs"
    chown "$uid:$uid" "$folder/home"
else
    path=$PATH
fi

# COPY, of what .dockerignore leaves.
for source in $(sed -n '/ AS build$/,/^FROM python[^ ]*$/s/^COPY \(.*\) [^ ]*$/\1/p' Dockerfile); do
    [ ! -e "$source" ] || echo "$source"
done >"$folder/copied"
tar --create --exclude-from .dockerignore --files-from "$folder/copied" | tar --extract --no-same-owner --directory "$folder/src"

# Root's settings and cache of pip are not the user's to read: root fetches, the user installs from there.
if [ -n "$as" ]; then
    python=$($as env -i PATH="$path" "$folder/src/deploy/python.sh")
    "$python" -m venv "$folder/fetch"
    for lock in build runtime; do
        "$folder/fetch/bin/python" -m pip download --quiet --require-hashes --only-binary :all: \
            --dest "$folder/wheels" -r "$folder/src/locks/$lock.txt"
    done
    set -- PIP_NO_INDEX=1 PIP_FIND_LINKS="$folder/wheels" PIP_CONFIG_FILE=/dev/null PIP_NO_CACHE_DIR=1
else
    set -- "HOME=$HOME"
    for name in $(env | sed -n 's/^\(PIP_[A-Z_]*\)=.*/\1/p'); do
        set -- "$@" "$name=$(printenv "$name")"
    done
fi

# RUN
install=$(sed -n 's/^RUN .*\(deploy\/install\.sh\) .*/\1/p' Dockerfile)
[ -n "$install" ] || fail 'the Dockerfile has no step that runs deploy/install.sh'
$as env -i PATH="$path" TMPDIR="$folder/home" "$@" "$folder/src/$install" "$folder/home/gateway" >"$folder/log" 2>&1 ||
    fail 'the install step failed'
: >"$folder/log"
for tool in pip hatch gcc cc uv; do
    [ ! -e "$folder/home/gateway/bin/$tool" ] || fail "the installed environment holds $tool"
done
for module in pip setuptools hatchling pytest moto; do
    ! "$folder/home/gateway/bin/python" -c "import $module" 2>/dev/null || fail "the installed environment holds $module"
done

# ENV, HEALTHCHECK and CMD of the last stage, with the folder for / and a free port for the container's.
port=$("$folder/home/gateway/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
here() { sed -e "s#/opt/gateway#$folder/home/gateway#g" -e "s#/etc/gateway#$folder/etc#g" -e "s#8000#$port#g" -e 's#0\.0\.0\.0#127.0.0.1#g'; }
set -- HOME=/nonexistent
for line in $(sed -n 's/^ENV //p' Dockerfile | sed "s#\$PATH#$path#" | here); do
    set -- "$@" "$line"
done
cat >"$folder/etc/gateway.toml" <<TOML
[[signin.issuers]]
issuer = "http://127.0.0.1:9/"
audience = "gateway"

[sources.crm]
vendor = "hubspot"
token = { env = "HUBSPOT_TOKEN" }
TOML
words='import json, os, sys; words = json.loads(sys.argv[1]); os.execvp(words[0], words)'
step() { sed -n "s/^$1.*\(\[\".*\]\)\$/\1/p" Dockerfile | here; }
start=$(step CMD)
health=$(step HEALTHCHECK)

cd "$folder/etc"
set -- "$@" HUBSPOT_TOKEN=none
if $as env -i "$@" python -c "$words" "$start" >"$folder/log" 2>&1; then
    fail 'the server ended without an error though it had no database'
fi
grep -q DATABASE_URL "$folder/log" || fail 'the server does not say that DATABASE_URL is missing'
if [ -z "${DATABASE_URL:-}" ]; then
    echo 'container steps: installed; not served, since DATABASE_URL is not set'
    echo ok
    exit
fi

$as env -i "$@" DATABASE_URL="$DATABASE_URL" python -c "$words" "$start" >"$folder/log" 2>&1 &
server=$!
tries=60
until $as env -i "$@" python -c "$words" "$health" 2>/dev/null; do
    kill -0 "$server" 2>/dev/null || { server=; fail 'the server ended'; }
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail 'the server is not healthy after 60 tries'
    sleep 0.5
done

kill -TERM "$server"
tries=40
while kill -0 "$server" 2>/dev/null; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail 'the server does not stop on SIGTERM'
    sleep 0.25
done
code=0
wait "$server" || code=$?
server=
case $code in 0 | 143) ;; *) fail "the server ended with code $code" ;; esac
echo ok

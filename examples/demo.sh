#!/bin/sh
# Watch a config that does not fit a GTX 1650 become one that does. Works on a copy.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/examples"
cp -R "$here/neurogen" "$work/examples/neurogen"
cd "$work"

step() { # expected exit code, then the command
    expected=$1
    shift
    printf '\n$ %s\n' "$*"
    code=0
    "$@" || code=$?
    if [ "$code" -ne "$expected" ]; then
        echo "demo: exit code $code instead of $expected" >&2
        exit 1
    fi
}

step 1 memplan estimate examples/neurogen --gpu gtx1650
step 0 memplan fit examples/neurogen --gpu gtx1650
step 0 memplan apply examples/neurogen --gpu gtx1650
step 0 memplan check examples/neurogen
step 0 memplan estimate examples/neurogen --gpu gtx1650

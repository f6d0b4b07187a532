#!/bin/sh
# Installs the certificate linter that judges what pki/ issues (pki/tests/judged.rs), in a virtualenv of its own
# under target/linter. Safe to run again: it does nothing when the pinned version is there.
set -eu

version=0.13.3
cd "$(dirname "$0")/.."
directory=$PWD/target/linter

if [ "$(cat "$directory/.version" 2>/dev/null)" = "$version" ] && "$directory/bin/lint_crl" --help >/dev/null 2>&1; then
    exit 0
fi
rm -rf "$directory"
mkdir -p target
if ! python3 -m venv "$directory" >"$PWD/target/linter.log" 2>&1; then
    cat "$PWD/target/linter.log" >&2
    echo "error: python3 cannot make a virtualenv; install it (Debian, Ubuntu: apt-get install python3 python3-venv) and run this again" >&2
    exit 1
fi
if ! "$directory/bin/pip" install --quiet --disable-pip-version-check "pkilint==$version" >"$PWD/target/linter.log" 2>&1; then
    cat "$PWD/target/linter.log" >&2
    echo "error: pip cannot install pkilint $version; check that the Python package index can be reached and run this again" >&2
    exit 1
fi
# Last, so that an installation that was cut short is made anew.
echo "$version" >"$directory/.version"

#!/bin/sh
# Installs two linters in a virtualenv under target/linter: the certificate linter for the output of pki/
# (pki/tests/judged.rs) and the OpenAPI linter (e2e/tests/protocol.rs). Does nothing if the pinned versions are
# installed.
set -eu

packages="pkilint==0.13.3 openapi-spec-validator==0.7.2"
cd "$(dirname "$0")/.."
directory=$PWD/target/linter

if [ "$(cat "$directory/.version" 2>/dev/null)" = "$packages" ] && "$directory/bin/lint_crl" --help >/dev/null 2>&1; then
    exit 0
fi
rm -rf "$directory"
mkdir -p target
if ! python3 -m venv "$directory" >"$PWD/target/linter.log" 2>&1; then
    cat "$PWD/target/linter.log" >&2
    echo "error: python3 cannot make a virtualenv; install it (Debian, Ubuntu: apt-get install python3 python3-venv) and run this again" >&2
    exit 1
fi
# shellcheck disable=SC2086 # one word for each package
if ! "$directory/bin/pip" install --quiet --disable-pip-version-check $packages >"$PWD/target/linter.log" 2>&1; then
    cat "$PWD/target/linter.log" >&2
    echo "error: pip cannot install $packages; check that the Python package index can be reached and run this again" >&2
    exit 1
fi
# Written last, so that an interrupted installation is repeated.
echo "$packages" >"$directory/.version"

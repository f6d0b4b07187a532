#!/usr/bin/env bash
# Runs every test of the workspace, which is built already. Where cargo-nextest is installed, tests of several programs run at a time,
# and the stories in containers, which follow each other, beside them. Elsewhere `cargo test` runs one program after the other.
#
#   scripts/test.sh         everything
#   scripts/test.sh --fast  without containers
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-everything}

if ! cargo nextest --version >/dev/null 2>&1; then
    [ "$mode" = --fast ] && export TEST_WITHOUT_CONTAINERS=1
    exec cargo test --workspace --locked
fi

stories= transcript=
if [ "$mode" != --fast ]; then
    transcript=$(mktemp)
    cargo test --workspace --locked --test containers >"$transcript" 2>&1 &
    stories=$!
    trap 'kill "$stories" 2>/dev/null || true; rm -f "$transcript"' EXIT
fi
failed=0
cargo nextest run --workspace --locked -E 'not binary(containers)' || failed=1
# They are not nextest's.
cargo test --workspace --locked --doc || failed=1
if [ -n "$stories" ]; then
    wait "$stories" || failed=1
    cat "$transcript"
fi
exit "$failed"

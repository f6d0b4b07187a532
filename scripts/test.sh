#!/usr/bin/env bash
# Runs all tests of the workspace, which must be built already. With cargo-nextest, several test programs run at the
# same time, and the container stories run one after the other beside them. Without it, `cargo test` runs one program
# after the other.
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
# nextest does not run doc tests.
cargo test --workspace --locked --doc || failed=1
if [ -n "$stories" ]; then
    wait "$stories" || failed=1
    cat "$transcript"
fi
exit "$failed"

#!/usr/bin/env bash
# Asserts with cargo tree that dependencies point one way: ca-daemon | api-server | api-client -> mtls -> edge -> pki.
# e2e, testkit and bench are for tests and measurements: no program or library depends on them.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
# crate, then the crates that it must not depend on, directly or indirectly
forbid() {
    local crate=$1 tree
    shift
    tree=$(cargo tree --locked --edges normal,build --prefix none --format '{p}' --package "$crate" | awk '{print $1}' | sort -u)
    if [ "$(wc -l <<<"$tree")" -lt 5 ]; then
        echo "the dependencies of $crate cannot be listed" >&2
        failed=1
    fi
    for banned in "$@"; do
        if grep -qx -- "$banned" <<<"$tree"; then
            echo "$crate must not depend on $banned:" >&2
            cargo tree --locked --edges normal,build --package "$crate" --invert "$banned" >&2
            failed=1
        fi
    done
}

forbid pki tokio sqlx axum rustls hyper edge mtls ca-daemon api-server api-client e2e testkit bench
forbid edge sqlx axum rustls tokio-rustls http hyper hyper-util h2 mtls ca-daemon api-server api-client e2e testkit bench
forbid mtls sqlx ca-daemon api-server api-client e2e testkit bench
forbid ca-daemon api-server api-client e2e testkit bench
forbid api-server sqlx ca-daemon api-client e2e testkit bench
forbid api-client sqlx ca-daemon api-server e2e testkit bench

# SQL stays in the store, and the authority's HTTP status codes stay in one file.
if grep -rnE 'sqlx::' ca-daemon/src --include='*.rs' | grep -v '^ca-daemon/src/store/'; then
    echo "SQL belongs in ca-daemon/src/store" >&2
    failed=1
fi
if grep -rnE 'StatusCode::' ca-daemon/src --include='*.rs' | grep -v -e '^ca-daemon/src/http/' -e '/tests\.rs:' -e '/tests/'; then
    echo "status codes belong in ca-daemon/src/http" >&2
    failed=1
fi
[ "$failed" -eq 0 ] && echo "dependencies point one way"
exit "$failed"

#!/usr/bin/env bash
# Copies the output of `make dist` to target/dist, checks that the programs are fully static, and prints their sizes.
set -euo pipefail
cd "$(dirname "$0")/.."

built=${CARGO_TARGET_DIR:-target}/$CARGO_BUILD_TARGET/dist
mkdir -p target/dist
for program in ca-daemon api-server api-client; do
    install -m 755 "$built/$program" "target/dist/$program"
    linked=$(ldd "target/dist/$program" 2>&1 || true)
    if ! grep -qE 'statically linked|not a dynamic executable' <<<"$linked"; then
        echo "target/dist/$program is not static: $linked" >&2
        exit 1
    fi
    printf 'target/dist/%s  %s MB\n' "$program" "$(awk "BEGIN { printf \"%.1f\", $(stat -c %s "target/dist/$program") / 1e6 }")"
done

#!/usr/bin/env bash
# Puts what `make dist` built into target/dist, checks that it needs nothing of the machine that it will run on, and says how large
# it is.
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

#!/usr/bin/env bash
# Has systemd judge the units in packaging/systemd: that it understands every line, and how much each service could do if it were
# taken over (0 is nothing, 100 everything). Runs where systemd-analyze is; nothing is started.
set -euo pipefail
cd "$(dirname "$0")/../packaging/systemd"

if ! command -v systemd-analyze >/dev/null; then
    echo "SKIPPED: the systemd units are not checked, as there is no systemd-analyze (Debian, Ubuntu: apt-get install systemd)"
    exit 0
fi
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
if [ "${version:-0}" -lt 250 ]; then
    echo "SKIPPED: the systemd units are not checked, as systemd ${version:-?} does not know all of them; 250 does"
    exit 0
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
for unit in *.service; do
    # The programs are not installed here; that something runnable is there is all that it asks.
    sed 's|/usr/local/bin/[a-z-]*|/bin/true|' "$unit" >"$directory/$unit"
done
complaints=$(systemd-analyze verify --man=no --recursive-errors=no "$directory"/*.service 2>&1) || {
    echo "$complaints" >&2
    exit 1
}
if [ -n "$complaints" ]; then
    echo "$complaints" >&2
    exit 1
fi
systemd-analyze security --offline=true --threshold=15 --no-pager "$directory"/*.service | grep 'Overall exposure' || {
    echo "a unit may do more than it should; see: systemd-analyze security --offline=true packaging/systemd/*.service" >&2
    exit 1
}

#!/usr/bin/env bash
# Checks the units in packaging/systemd with systemd-analyze: that systemd accepts every line, and how exposed each
# service is (0 is least, 100 most). Starts nothing. Skipped if systemd-analyze is not installed.
set -euo pipefail
cd "$(dirname "$0")/../packaging/systemd"

if ! command -v systemd-analyze >/dev/null; then
    echo "SKIPPED: the systemd units are not checked, because systemd-analyze is not installed (Debian, Ubuntu: apt-get install systemd)"
    exit 0
fi
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
if [ "${version:-0}" -lt 250 ]; then
    echo "SKIPPED: the systemd units are not checked, because systemd ${version:-?} is too old; 250 or newer is needed"
    exit 0
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
for unit in *.service; do
    # The programs are not installed here. systemd-analyze only needs an executable file.
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
    echo "a unit is less restricted than required; see: systemd-analyze security --offline=true packaging/systemd/*.service" >&2
    exit 1
}

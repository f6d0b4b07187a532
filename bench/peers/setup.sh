#!/usr/bin/env bash
# Installs the peers that are measured and a machine may lack: nginx. (HAProxy is there for the demo already.)
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
command -v nginx >/dev/null && exit 0
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    echo "installing nginx"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx >/dev/null
else
    echo "nginx is missing, and this user may not install packages; questions about peers need it: apt-get install nginx" >&2
    exit 1
fi

#!/usr/bin/env bash
# Installs what `make demo` and `make test` need. Without permission to install, it prints the command instead.
set -euo pipefail

# command -> Debian package
declare -A packages=(
    [cc]=gcc
    [curl]=curl
    [haproxy]=haproxy
    [ip]=iproute2
    [mandoc]=mandoc
    [openssl]=openssl
    [promtool]=prometheus
    [setpriv]=util-linux
    [certtool]=gnutls-bin
    [python3]=python3
    [script]=bsdutils
    [sqlite3]=sqlite3
    [strace]=strace
    [strip]=binutils
    [tcpdump]=tcpdump
)
# HAProxy's directory may not be in the PATH of an ordinary user.
export PATH="$PATH:/usr/sbin:/sbin"

if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install Rust 1.94 or newer with rustup, then run this again." >&2
    exit 1
fi

missing=()
for command in "${!packages[@]}"; do
    command -v "$command" >/dev/null || missing+=("${packages[$command]}")
done
if command -v python3 >/dev/null && ! python3 -c 'import ensurepip' 2>/dev/null; then
    missing+=(python3-venv)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
fi
if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }; then
    echo "installing ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "Missing, and this user may not install packages. On Debian or Ubuntu run:" >&2
    echo "    apt-get install ${missing[*]}" >&2
    echo "On other systems install the programs of the same names, then run this again." >&2
    exit 1
fi

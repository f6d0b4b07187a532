#!/usr/bin/env bash
# Installs the peers that are measured and a machine may lack (HAProxy is there for the demo already), and builds the one that is a
# program of ours, on Go's net/http.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PATH:/usr/sbin:/sbin"

# command -> Debian package
declare -A packages=(
    [cfssl]=golang-cfssl
    [nginx]=nginx
    [go]=golang-go
)
missing=()
for command in "${!packages[@]}"; do
    command -v "$command" >/dev/null || missing+=("${packages[$command]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    if ! { command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; }; then
        echo "Questions about peers need programs that are missing, and this user may not install packages: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Beside the directory that holds `bench` itself. The standard library is all that it needs, so nothing is fetched.
target=$(cd ../.. && realpath -m "${CARGO_TARGET_DIR:-target}/${CARGO_BUILD_TARGET:-}")/peers
export GOCACHE="$target/go-cache" GOPATH="$target/go-path" GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0
(cd go && go build -o "$target/go-http" .)

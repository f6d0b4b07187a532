#!/usr/bin/env bash
# Copies a program of this machine and its shared libraries into a directory, so that it runs with that directory as its
# root.
#     scripts/pack.sh DIRECTORY PROGRAM PATH_IN_DIRECTORY
set -euo pipefail

root=$1
program=$2
install -D -m 755 "$program" "$root$3"
# "name => /path (address)" and, for the loader, "/path (address)".
ldd "$program" | grep -oE '/[^ ]+' | sort -u | while read -r library; do
    install -D -m 755 "$library" "$root$library"
done

#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licences, bans, duplicate versions, sources. Advisories are not checked,
# because their database comes from the network.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "SKIPPED: licences and duplicate versions are not checked, because cargo-deny is not installed (cargo install cargo-deny --locked)"
    exit 0
fi
cargo deny --locked check licenses bans sources

#!/usr/bin/env bash
# Holds the dependencies against deny.toml: licences, bans, duplicate versions, sources. Advisories are not asked for: their database
# comes from the network.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "SKIPPED: licences and duplicate versions are not checked, as there is no cargo-deny (cargo install cargo-deny --locked)"
    exit 0
fi
cargo deny --locked check licenses bans sources

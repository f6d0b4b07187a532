#!/usr/bin/env bash
# Runs the story of the README and draws docs/story.svg from the transcript. If the story fails, nothing is drawn.
set -euo pipefail
cd "$(dirname "$0")/.."
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
export TRANSCRIPT=$directory/transcript
scripts/demo.sh
python3 scripts/story-svg.py "$TRANSCRIPT" >"$directory/story.svg"
cat "$directory/story.svg" >docs/story.svg
echo "docs/story.svg: $(wc -c <docs/story.svg) bytes"

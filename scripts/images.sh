#!/usr/bin/env bash
# Builds an image, localhost/NAME:TAG, for each of the three programs in a directory. It contains only the program.
#     scripts/images.sh DIRECTORY [TAG]
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
programs=$(cd "$1" && pwd)
tag=${2:-latest}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$repository/Cargo.toml" | head -n 1)
revision=$(git -C "$repository" rev-parse HEAD 2>/dev/null || echo unknown)

# The directories that the user of each image owns. A volume takes owner and mode from the directory that it is mounted
# on.
declare -A owned=(
    [ca-daemon]="data tokens/service0 tokens/service1 tokens/service2"
    [api-server]="data token"
    [api-client]="data"
)

contexts=$(mktemp -d)
trap 'rm -rf "$contexts"' EXIT

for program in ca-daemon api-server api-client; do
    linked=$(ldd "$programs/$program" 2>&1 || true)
    if ! grep -qE 'statically linked|not a dynamic executable' <<<"$linked"; then
        echo "$programs/$program is not static and cannot run in an empty image; build it with: make dist" >&2
        exit 1
    fi
done

# A build mostly waits for the container engine, so all three run at the same time.
declare -A builds
for program in ca-daemon api-server api-client; do
    context=$contexts/$program
    install -d "$context/owned"
    for directory in ${owned[$program]}; do
        install -d "$context/owned/${directory%/*}"
        install -d -m 700 "$context/owned/$directory"
    done
    strip --strip-all -o "$context/$program" "$programs/$program"
    chmod 755 "$context/$program"
    docker build --quiet --tag "localhost/$program:$tag" --file "$repository/images/$program.Dockerfile" \
        --label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$revision" \
        "$context" >"$contexts/$program.log" 2>&1 &
    builds[$program]=$!
done
failed=0
for program in ca-daemon api-server api-client; do
    if ! wait "${builds[$program]}"; then
        cat "$contexts/$program.log" >&2
        failed=1
        continue
    fi
    size=$(docker image inspect --format '{{.Size}}' "localhost/$program:$tag")
    printf 'localhost/%s:%s  %s MB\n' "$program" "$tag" "$(awk "BEGIN { printf \"%.1f\", $size / 1e6 }")"
done
exit "$failed"

#!/usr/bin/env bash
# Runs the story of the README in a temporary directory, checks its results, and stops everything that it started.
#
# TRANSCRIPT=FILE writes a transcript; see scripts/type-story.sh.
set -uo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
# A build for a target other than the host's default is in a subdirectory.
target=${CARGO_TARGET_DIR:-$repository/target}${CARGO_BUILD_TARGET:+/$CARGO_BUILD_TARGET}
export PATH="${PROGRAMS:-$target/release}:$PATH:/usr/sbin"

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
trap 'exit 130' INT TERM
export TRANSCRIPT=${TRANSCRIPT:-$directory/transcript}
: >"$TRANSCRIPT"

for port in 8440 8443 8450 8451 8452 8480 8481 8081 8082 8083; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "port $port is in use, but the demo needs it; stop the program that listens there" >&2
        exit 1
    fi
done

failed=0
mkdir "$directory/story"
(cd "$directory/story" && exec "$repository/scripts/type-story.sh" "$repository/README.md") || failed=1

# The results that the story promises.
expect() {
    grep -qE -- "$1" "$TRANSCRIPT" || { echo "the demo failed: $2" >&2; failed=1; }
}
tab=$'\t'
expect '50 of 50 requests answered' '50 requests were not all answered'
expect 'answered by .*service0 [0-9]+, service1 [0-9]+, service2 [0-9]+' 'not all three replicas answered'
expect 'client_1 .*; connected to service[0-2] \(1\)' 'the dry run did not show where client_1 is connected'
expect "^>${tab}revoked client_1" 'client_1 was not revoked'
expect "^>$tab  service[0-2] +[0-9]+ ms +1\$" 'no service reported that it has cut the open connection'
expect "^>${tab}3 of 3 relying parties enforce it" 'not all three services enforce the revocation'
expect 'TLS alert certificate_revoked' 'the revoked client was not refused for being revoked'
expect "^>${tab}curl: .*certificate revoked" 'the connection that was held open did not end because of the revocation'
if [ "$(grep '^?' "$TRANSCRIPT")" != "?${tab}exit code 3" ]; then
    echo "the demo failed: the last request, and nothing else, should have been refused (exit code 3)" >&2
    failed=1
fi
[ "$failed" -eq 0 ] && printf '\n\033[1mThe revoked client is refused by every replica. Everything that was started is stopped.\033[0m\n'
exit "$failed"

#!/usr/bin/env bash
# Types the commands of the README's story, as they are printed there, into a temporary directory, checks what comes of
# them, and stops everything that it started.
set -uo pipefail
export REPO
REPO=$(cd "$(dirname "$0")/.." && pwd)
export PATH="${CARGO_TARGET_DIR:-$REPO/target}/release:$PATH:/usr/sbin"

directory=$(mktemp -d)
cd "$directory" || exit 1
transcript=$directory/transcript

stop() {
    [ -s haproxy.pid ] && kill "$(cat haproxy.pid)" 2>/dev/null
    # shellcheck disable=SC2046 # one word for each job
    kill $(jobs -p) 2>/dev/null
    wait 2>/dev/null
    cd / && rm -rf "$directory"
}
trap stop EXIT
trap 'exit 130' INT TERM

for port in 8440 8443 8450 8451 8452 8480 8481 8081 8082 8083; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "port $port is in use, and the demo needs it; stop what listens there first" >&2
        exit 1
    fi
done

story=$(sed -n '/<!-- story -->/,/<!-- end of story -->/p' "$REPO/README.md" | sed -n '/^```sh/,/^```/p' | grep -v '^```')
if [ -z "$story" ]; then
    echo "the README has no story" >&2
    exit 1
fi

# What a background process says, or what is the case, once the next line can be typed.
is_under_way() {
    case $1 in
        curl*) ca-daemon revoke client_1 --dry-run 2>/dev/null | grep -q 'connected to service' ;;
        *) grep -qE 'ready:|listening:' "$2" ;;
    esac
}

# Background processes write their logs into files, so that the screen shows the story; everything else is shown as it comes.
exit_code=0
holder= held=/dev/null
while IFS= read -r line; do
    [ -z "$line" ] && continue
    if [[ $line == \#* ]]; then
        printf '\n\033[1m%s\033[0m\n' "$line"
        continue
    fi
    printf '\033[36m$ %s\033[0m\n' "$line"
    if [[ $line == *'&' ]]; then
        count=$((${count:-0} + 1))
        log=process-$count.log
        eval "${line%&} >$log 2>&1 &"
        pid=$!
        for _ in $(seq 300); do
            is_under_way "$line" "$log" && break
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        cat "$log"
        kill -0 "$pid" 2>/dev/null || { echo "it did not start" >&2; exit 1; }
        [[ $line == curl* ]] && { holder=$pid; held=$log; }
    else
        echo "\$ $line" >>"$transcript"
        eval "$line" > >(tee -a "$transcript") 2>&1
        exit_code=$?
        echo "exit code $exit_code" >>"$transcript"
        [ "$exit_code" -ne 0 ] && echo "(exit code $exit_code)"
    fi
done <<<"$story"

# What the story promises.
failed=0
for _ in $(seq 50); do
    [ -n "$holder" ] && kill -0 "$holder" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$holder" ] || kill -0 "$holder" 2>/dev/null || ! grep -q 'certificate revoked' "$held"; then
    echo "the demo failed: the connection that was held open did not end for the revocation" >&2
    failed=1
fi
printf '\n\033[1m# what became of the connection that was held open\033[0m\n'
cat "$held"
expect() {
    grep -qE -- "$1" "$transcript" || { echo "the demo failed: $2" >&2; failed=1; }
}
expect '^50 of 50 requests answered' '50 requests were not all answered'
expect 'answered by .*service0 [0-9]+, service1 [0-9]+, service2 [0-9]+' 'not all three replicas answered'
expect 'client_1 .*; connected to service[0-2] \(1\)' 'the dry run did not say where client_1 is connected'
expect '^revoked client_1' 'client_1 was not revoked'
expect '^  service[0-2] +[0-9]+ ms +1$' 'no service says that it has cut the open connection'
expect '^3 of 3 relying parties enforce it' 'not all three services enforce the revocation'
expect 'TLS alert certificate_revoked' 'the revoked client was not refused for being revoked'
if [ "$exit_code" -ne 3 ]; then
    echo "the demo failed: the last request should have been refused (exit code 3), and it ended with $exit_code" >&2
    failed=1
fi
[ "$failed" -eq 0 ] && printf '\n\033[1mThe revoked client is refused by every replica. Everything that was started is stopped.\033[0m\n'
exit "$failed"

#!/usr/bin/env bash
# Types the commands of one story in a document, exactly as printed, in the current directory.
#
#   scripts/type-story.sh DOCUMENT [NUMBER]
#
# A story is everything between `<!-- story -->` and `<!-- end of story -->`: blocks of ```sh, typed into one shell in
# order. A block after `<!-- not typed: REASON -->` or `<!-- typed by: FILE -->` is skipped. NUMBER counts the stories
# of the document from 1. The programs are found on PATH.
#
#   - A command may continue on the next line: after | or \, or inside of quotes and compound commands.
#   - A command that ends with & is a process. The next command is typed when the process is ready.
#   - `# exit code N` at the end of a command says how it ends. Without this comment, a command has to end with 0.
#
# TRANSCRIPT=FILE also writes what happened to FILE, one line each: a kind (#, $, >, ?), a tab, and the text.
# PATIENCE=DURATION adds `--wait DURATION` to each `ca-daemon revoke`, for machines that are busy with other tests.
# Everything that was started is stopped at the end.
set -uo pipefail
typist_document=$1 typist_number=${2:-1} typist_transcript=${TRANSCRIPT:-/dev/null}
export REPO
REPO=$(cd "$(dirname "$0")/.." && pwd)
typist_here=$PWD
typist_files=$(mktemp -d)
typist_output=$typist_files/output
typist_holders=()

typist_stop() {
    [ -s "$typist_here/haproxy.pid" ] && kill "$(cat "$typist_here/haproxy.pid")" 2>/dev/null
    # shellcheck disable=SC2046 # one word for each job
    kill $(jobs -p) 2>/dev/null
    wait 2>/dev/null
    rm -rf "$typist_files"
}
trap typist_stop EXIT
trap 'exit 130' INT TERM

if [ -n "${PATIENCE:-}" ]; then
    # A program instead of a function, because the story has to stop it as one process.
    mkdir "$typist_files/bin"
    cat >"$typist_files/bin/ca-daemon" <<END
#!/bin/sh
case \$1 in
    revoke) exec "$(command -v ca-daemon)" "\$@" --wait "$PATIENCE" ;;
    *) exec "$(command -v ca-daemon)" "\$@" ;;
esac
END
    chmod +x "$typist_files/bin/ca-daemon"
    export PATH=$typist_files/bin:$PATH
fi

typist_record() {
    sed "s/^/$1\t/" >>"$typist_transcript"
}

typist_fail() {
    echo "$typist_document: $1" >&2
    exit 1
}

# Whether a process is ready. If so, the next command can be typed.
typist_ready() {
    case $1 in
        curl*) ca-daemon revoke client_1 --dry-run 2>/dev/null | grep -q 'connected to service' ;;
        *) grep -qE 'ready:|listening:' "$2" ;;
    esac
}

# The log of a process goes to a file, so that it does not mix with the output of the next commands.
typist_start() {
    typist_count=$((${typist_count:-0} + 1))
    local log=$typist_here/process-$typist_count.log
    eval "${1%&} >$log 2>&1 </dev/null &"
    local pid=$!
    for _ in $(seq 600); do
        typist_ready "$1" "$log" && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$log"
    typist_record '>' <"$log"
    typist_ready "$1" "$log" || typist_fail "this did not become ready: $1"
    [[ $1 == curl* ]] && typist_holders+=("$pid $log $1")
    return 0
}

typist_type() {
    if [[ $1 == *'&' && $1 != *'&&' ]]; then
        typist_start "$1"
        return
    fi
    local expected=0 code
    [[ ${1##*$'\n'} =~ \#.*exit\ code\ ([0-9]+) ]] && expected=${BASH_REMATCH[1]}
    eval "$1" >"$typist_output" 2>&1 </dev/null
    code=$?
    cat "$typist_output"
    typist_record '>' <"$typist_output"
    if [ "$code" -ne 0 ]; then
        echo "(exit code $code)"
        typist_record '?' <<<"exit code $code"
    fi
    [ "$code" -eq "$expected" ] || typist_fail "exit code $code in place of $expected: $1"
}

typist_is_complete() {
    [[ $1 != *'|' && $1 != *\\ && $1 != *'&&' ]] && bash -n <<<"$1" 2>/dev/null
}

typist_story=$(awk -v wanted="$typist_number" '
    /^<!-- story -->$/ { count++; inside = count == wanted }
    /^<!-- end of story -->$/ { inside = 0 }
    /^```/ { fenced = !fenced; typed = fenced && inside && !marked && $0 == "```sh"; marked = 0; next }
    !fenced && NF { marked = /^<!-- (not typed|typed by): .* -->$/ }
    inside && typed' "$typist_document")
[ -n "$typist_story" ] || typist_fail "there is no story $typist_number"

typist_command=
while IFS= read -r typist_line <&9; do
    if [ -z "$typist_command" ]; then
        [ -z "$typist_line" ] && continue
        if [[ $typist_line == \#* ]]; then
            printf '\n\033[1m%s\033[0m\n' "$typist_line"
            typist_record '#' <<<"$typist_line"
            continue
        fi
    fi
    printf '\033[36m%s %s\033[0m\n' "$([ -z "$typist_command" ] && echo '$' || echo '>')" "$typist_line"
    typist_record '$' <<<"$typist_line"
    typist_command+=${typist_command:+$'\n'}$typist_line
    if typist_is_complete "$typist_command"; then
        typist_type "$typist_command"
        typist_command=
    fi
done 9<<<"$typist_story"
[ -z "$typist_command" ] || typist_fail "this command has no end: $typist_command"

# The story expects that the commands that hold a connection open end by themselves.
for typist_holder in "${typist_holders[@]}"; do
    read -r typist_pid typist_log typist_line <<<"$typist_holder"
    for _ in $(seq 100); do
        kill -0 "$typist_pid" 2>/dev/null || break
        sleep 0.1
    done
    printf '\n\033[1m%s\033[0m\n\033[36m$ %s\033[0m\n' '# how the connection that was held open ended' "$typist_line"
    cat "$typist_log"
    typist_record '#' <<<'# how the connection that was held open ended'
    typist_record '$' <<<"$typist_line"
    typist_record '>' <"$typist_log"
    kill -0 "$typist_pid" 2>/dev/null && typist_fail "this did not end: $typist_line"
done
exit 0

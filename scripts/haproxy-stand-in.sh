#!/usr/bin/env bash
# Builds a replacement for the HAProxy image in docker-compose.yml from this distribution's HAProxy, with the same name
# and tag, for machines without access to a registry. Paths, user, entrypoint and stop signal are those of the official
# image. Does nothing if an image of that name exists. To remove it: docker rmi NAME
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$PATH:/usr/sbin:/sbin"
image=$(sed -n 's/^ *image: *\(haproxy:[^ ]*\)$/\1/p' "$repository/docker-compose.yml")
if docker image inspect "$image" >/dev/null 2>&1; then
    exit 0
fi
program=$(command -v haproxy) || { echo "HAProxy is missing; on Debian or Ubuntu run: apt-get install haproxy" >&2; exit 1; }
version=$("$program" -v | sed -n '1s/^HAProxy version \([^ ]*\).*/\1/p')

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
root=$context/root
"$repository/scripts/pack.sh" "$root" "$program" /usr/local/sbin/haproxy
"$repository/scripts/pack.sh" "$root" /bin/sh /bin/sh
install -d "$root/etc" "$root/usr/local/etc/haproxy" "$context/owned/var/lib/haproxy"
echo 'haproxy:x:99:99::/var/lib/haproxy:/bin/sh' >"$root/etc/passwd"
echo 'haproxy:x:99:' >"$root/etc/group"
cat >"$context/docker-entrypoint.sh" <<'SCRIPT'
#!/bin/sh
set -e
# Only options: run HAProxy with them.
if [ "${1#-}" != "$1" ]; then
    set -- haproxy "$@"
fi
# Master-worker mode: the master process passes signals on and stays in the foreground.
if [ "$1" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
SCRIPT
install -D -m 755 "$context/docker-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
cat >"$context/Dockerfile" <<'FILE'
FROM scratch
LABEL org.opencontainers.image.title="a stand-in for haproxy, made of this machine's own package"
COPY root/ /
COPY --chown=99:99 owned/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/bin
USER 99:99
WORKDIR /var/lib/haproxy
STOPSIGNAL SIGUSR1
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
FILE
docker build --quiet --tag "$image" --label "org.opencontainers.image.version=$version" "$context" >"$context/log" 2>&1 || {
    cat "$context/log" >&2
    exit 1
}
echo "$image is a stand-in with HAProxy $version"

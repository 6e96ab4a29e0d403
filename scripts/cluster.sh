#!/bin/sh
# Install the missing servers that tests start on loopback, and promtool, by which they try Prometheus' rules. Debian's
# services of the new ones stay off, now and at the next boot; servers that were installed before are not changed.
set -eu
PATH=$PATH:/usr/sbin:$(echo /usr/lib/postgresql/*/bin | tr ' ' :)

missing=
for package in initdb=postgresql redis-server=redis-server nginx=nginx wrk=wrk promtool=prometheus; do
    command -v "${package%=*}" >/dev/null || missing="$missing ${package#*=}"
done
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086
"$(dirname "$0")/apt.sh" $missing || { echo "Tests go without:$missing."; exit 0; }
if [ -d /run/systemd/system ]; then
    for service in $missing; do
        $([ "$(id -u)" = 0 ] || echo sudo) systemctl disable --quiet "$service" 2>/dev/null || true
    done
fi

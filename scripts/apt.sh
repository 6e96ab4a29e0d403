#!/bin/sh
# Install Debian packages as root or through sudo, after saying so, without starting their services.
set -eu

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "inkling: $* cannot be installed without root or sudo: apt-get install $*" >&2
    exit 1
fi
command -v apt-get >/dev/null || { echo "inkling: please install: $*" >&2; exit 1; }
echo "Installing with ${as_root:+$as_root }apt-get: $*"
policy=/usr/sbin/policy-rc.d # Debian's packages ask it before they start a service
if [ ! -e $policy ]; then
    trap '$as_root rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
fi
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null

#!/bin/sh
# Create the virtual environment .venv with the given interpreter; on Debian venv is a package of its own.
set -eu
python=$1

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "inkling: Python 3.11 or newer is needed (PYTHON=... names another interpreter)" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    "$(dirname "$0")/apt.sh" python3-venv
fi
[ -x .venv/bin/pip ] || "$python" -m venv .venv

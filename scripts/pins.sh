#!/bin/sh
# Write the requirements files that `make` installs, from requirements/*.in: every package with its version and the
# hashes of all files of that release. Present pins stay, unless the .in files contradict them.
set -eu
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9

pin() {
    cp "$2" "$tools/pinned"
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-header --output-file "$tools/pinned" "$1"
    # Without torch and the packages that only its CUDA builds need: see requirements/run.in.
    awk -v from="$1" '
        BEGIN { print "# Made by `make pins` from " from "." }
        /^[a-z]/ { keep = !/^(torch==|triton==|cuda-|nvidia-)/ }
        keep' "$tools/pinned" >"$2"
}

pin requirements/run.in requirements.txt
pin requirements/dev.in requirements-dev.txt
pin requirements/extras.in requirements-extras.txt
pin requirements/node.in requirements/node.txt

#!/bin/sh
# Install exactly the packages that the requirements files list, with the hashes that they give.
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1
for file in "$@"; do
    python -m pip install --no-deps --require-hashes -r "$file"
done
# Except torch: its build and source depend on the machine (see requirements/run.in).
python -m pip install "$(grep '^torch==' requirements/run.in)"
python -m pip check

#!/bin/sh
# Installs what files of requirements list, nothing else, and only files with the hashes that stand there.
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1
for file in "$@"; do
    python -m pip install --no-deps --require-hashes -r "$file"
done
# The exception: which build of torch there is, and from where, is the machine's affair (see requirements/run.in).
python -m pip install "$(grep '^torch==' requirements/run.in)"
python -m pip check

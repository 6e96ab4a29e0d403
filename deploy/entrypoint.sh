#!/bin/sh
# How a container starts: however many do so at once, one of them migrates the database.
set -e
python -m webapp setup
exec "$@"

#!/bin/sh
# Set up, then run the command. Of several containers that start together, one migrates the database.
set -e
python -m webapp setup
exec "$@"

#!/bin/sh
# Install Chromium and its driver for the browser tests if missing. Without them these tests are skipped, or fail if CI
# is set.
set -eu

if ! command -v chromedriver >/dev/null || ! { command -v chromium || command -v google-chrome; } >/dev/null; then
    "$(dirname "$0")/apt.sh" chromium chromium-driver || echo "The browser tests go without Chromium."
fi

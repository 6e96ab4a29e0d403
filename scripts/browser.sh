#!/bin/sh
# The browser that the tests drive: Chromium and its driver, installed where they are missing. Without them the browser
# tests are skipped, or fail where CI is set.
set -eu

if ! command -v chromedriver >/dev/null || ! { command -v chromium || command -v google-chrome; } >/dev/null; then
    "$(dirname "$0")/apt.sh" chromium chromium-driver || echo "The browser tests go without Chromium."
fi

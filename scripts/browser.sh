#!/bin/sh
# Install Chromium, its driver and Firefox for the browser tests where missing. Without them these tests are skipped, or
# fail if CI is set. Firefox's driver comes in a Python package.
set -eu

if ! command -v chromedriver >/dev/null || ! { command -v chromium || command -v google-chrome; } >/dev/null; then
    "$(dirname "$0")/apt.sh" chromium chromium-driver || echo "The browser tests go without Chromium."
fi
if ! { command -v firefox-esr || command -v firefox; } >/dev/null; then
    "$(dirname "$0")/apt.sh" firefox-esr || echo "The browser tests go without Firefox."
fi

#!/usr/bin/env bash
# Drives the report of an experiment in a real browser: .ci/report.sh AUTOHARNESS EXPERIMENT [SCREENSHOTS]
# Needs Chromium, node and npm (Debian: chromium nodejs npm); says so and does nothing where they are missing.
set -euo pipefail
binary=$(realpath "$1") experiment=$(realpath "$2") shots=${3:-$(mktemp -d)}
for program in chromium node npm; do
    if ! command -v "$program" >/dev/null; then
        echo "skipped the report in a browser: $program is not installed"
        if [ -n "${AUTOHARNESS_SKIPPED:-}" ]; then
            echo "skipped the report in a browser: $program is not installed" >>"$AUTOHARNESS_SKIPPED"
        fi
        exit 0
    fi
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
modules=${XDG_CACHE_HOME:-$HOME/.cache}/autoharness-ci/report
mkdir -p "$modules" "$shots"
cp "$here/report.mjs" "$modules/"
(cd "$modules" && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --no-audit --no-fund --silent playwright-core@1.56.1 axe-core@4.11.0)
"$binary" -C "$experiment" report --out "$shots/report.html"
node "$modules/report.mjs" "$(command -v chromium)" "$shots" "$binary" "$experiment"

#!/usr/bin/env bash
# Builds, installs and runs what a release would have for this machine, static against its own C library instead of musl,
# because that reuses the release build. tests/packaging.rs has the installer's refusals.
#
# maturin comes from PyPI, once per machine and set of pins. AUTOHARNESS_CI_MATURIN names one to use instead.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
me=packaging.sh
# shellcheck source=.ci/environment.sh
. "$root/.ci/environment.sh"

skip() {
    say "SKIPPED: $*"
    echo "skipped packaging.sh: $*" >>"${AUTOHARNESS_SKIPPED:-/dev/null}"
}

works() { "$1/bin/maturin" --version >&2; }

maturin() {
    given AUTOHARNESS_CI_MATURIN && return
    pinned_environment maturin "$root/.ci/maturin.txt" 9 14 works
    echo "$environment/bin/maturin"
}

if [ "$(uname -s)" != Linux ]; then
    skip "only on Linux is the program static, so nothing was packed"
    exit 0
fi
if program=$(maturin); then
    PATH=$(dirname "$program"):$PATH
    wheels=1
else
    skip "maturin could not be installed (is PyPI reachable?), so the wheel was not built"
    wheels=0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/packaging/build.sh" static "$work"
if [ "$wheels" = 1 ]; then
    "$root/packaging/check.sh" "$work"/*.tar.gz "$work"/*.whl
else
    "$root/packaging/check.sh" "$work"/*.tar.gz
fi

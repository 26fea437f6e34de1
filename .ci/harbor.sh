#!/usr/bin/env bash
# Installs Harbor from PyPI for the tests that drive the real program, once per machine and set of pins, and prints the
# path of its executable on the last line of stdout. Everything else goes to stderr.
#
#     harbor=$(.ci/harbor.sh | tail -n 1)              # the newest that it is tried with, which `prepare` installs
#     harbor=$(.ci/harbor.sh 0.24 | tail -n 1)         # the oldest
#
# AUTOHARNESS_CI_HARBOR and AUTOHARNESS_CI_HARBOR_0_24 name a harbor to use instead. AUTOHARNESS_CI_PYTHON names the interpreter to install with.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
me=harbor.sh
# shellcheck source=.ci/environment.sh
. "$root/.ci/environment.sh"

works() {
    [ -x "$1/bin/harbor" ] && "$1/bin/harbor" --version >&2 &&
        "$1/bin/python" -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("mcp"))'
}

case ${1:-newest} in
newest)
    given AUTOHARNESS_CI_HARBOR && exit
    pins=$root/agent/helpers/terminal_bench/requirements.txt
    ;;
0.24)
    given AUTOHARNESS_CI_HARBOR_0_24 && exit
    pins=$root/.ci/harbor-0.24.txt
    ;;
*) die "no pins for Harbor $1" ;;
esac
# Harbor needs 3.12; its dependencies have no packages yet for versions much newer than 3.13.
pinned_environment harbor "$pins" 12 13 works
echo "$environment/bin/harbor"

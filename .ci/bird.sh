#!/usr/bin/env bash
# Installs google-adk and its companions from PyPI for the tests that run BIRD-Interact's services, once per machine and
# set of pins, and prints the path of their python on the last line of stdout. Everything else goes to stderr.
#
#     python=$(.ci/bird.sh | tail -n 1)
#
# AUTOHARNESS_CI_BIRD names a python to use instead. AUTOHARNESS_CI_PYTHON names the interpreter to install with.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
me=bird.sh
# shellcheck source=.ci/environment.sh
. "$root/.ci/environment.sh"

# Not imported: that takes longer than all other steps of a build that has the environment already.
works() {
    [ -x "$1/bin/python" ] && "$1/bin/python" -I -c '
import importlib.util as util, sys
wanted = ("google.adk", "litellm", "mcp", "fastapi", "uvicorn", "psycopg2", "httpx")
sys.exit(not all(util.find_spec(name) for name in wanted))'
}

given AUTOHARNESS_CI_BIRD && exit
pinned_environment bird "$root/agent/helpers/bird_interact/requirements.txt" 11 13 works
echo "$environment/bin/python"

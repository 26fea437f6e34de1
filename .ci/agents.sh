#!/usr/bin/env bash
# Installs coding agents from npm for the tests that have the loop drive the real programs, once per machine and version, and
# prints the path of the program on the last line of stdout. Everything else goes to stderr.
#
#     claude=$(.ci/agents.sh claude | tail -n 1)
#     codex=$(.ci/agents.sh codex | tail -n 1)
#
# Prints an empty line, and one on stderr that says why, where npm is missing or cannot install it. AUTOHARNESS_CI_CLAUDE and
# AUTOHARNESS_CI_CODEX name a program to use instead. The versions are those that docs/src/loop.md names.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
me=agents.sh
# shellcheck source=.ci/environment.sh
. "$root/.ci/environment.sh"

# skip WHY: aloud, also in the list that `.ci/run` prints at its end.
skip() {
    say "skipped: $*"
    if [ -n "${AUTOHARNESS_SKIPPED:-}" ]; then echo "skipped the loop with the real $name: $*" >>"$AUTOHARNESS_SKIPPED"; fi
    echo
    exit 0
}

name=${1:-}
case $name in
claude) package=@anthropic-ai/claude-code ours=AUTOHARNESS_CI_CLAUDE ;;
codex) package=@openai/codex ours=AUTOHARNESS_CI_CODEX ;;
*) die "usage: agents.sh claude|codex" ;;
esac
given "$ours" && exit
version=$(sed -n "s/^| \`$name\` .* \([0-9.]*\) |\$/\1/p" "$root/docs/src/loop.md")
[ -n "$version" ] || die "docs/src/loop.md names no version of $name"
command -v npm >/dev/null || skip "npm is not installed"

mkdir -p "$cache"
environment=$cache/$name-$version
program=$environment/node_modules/.bin/$name
# Two builds on one machine must not install into the same directory.
if command -v flock >/dev/null; then
    exec 9>"$environment.lock"
    flock -w 1800 9 || die "another build has been installing into $environment for half an hour"
fi
works() { [ -x "$program" ] && "$program" --version 2>/dev/null | grep -qF "$version"; }
# The marker is written last; half an installation is removed and done again.
if ! { [ -e "$environment/complete" ] && works; }; then
    rm -rf "$environment"
    mkdir -p "$environment"
    say "installing $package $version into $environment"
    npm install --prefix "$environment" --no-audit --no-fund --loglevel=error "$package@$version" >&2 ||
        skip "npm could not install $package $version (is the registry reachable?)"
    works || skip "$package $version does not start on this machine"
    touch "$environment/complete"
fi
echo "$program"

#!/usr/bin/env bash
# Builds the book in docs/ with mdBook, and checks that its tables of keys are the program's and that docs/llms.txt is made of its
# pages. `cargo test --test all readme::` checks links, tables and examples.
#
# mdBook comes from crates.io, once per machine and version. AUTOHARNESS_CI_MDBOOK names one to use instead.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
me=docs.sh
# shellcheck source=.ci/environment.sh
. "$root/.ci/environment.sh"

version=0.5.4

# Prints the path of mdBook.
mdbook() {
    given AUTOHARNESS_CI_MDBOOK && return
    local own=$cache/mdbook-$version
    if ! "$own/bin/mdbook" --version >/dev/null 2>&1; then
        say "installing mdbook $version into $own"
        # Unoptimised, it is built in half the time and still fast enough for a few pages.
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$own/target cargo install --quiet --locked --debug --no-default-features \
            --root "$own" "mdbook@$version" >&2 || return 1
        rm -rf "$own/target"
    fi
    echo "$own/bin/mdbook"
}

python3 -B "$root/docs/configuration.py" --check
python3 -B "$root/docs/llms.py" --check

if ! program=$(mdbook); then
    say "SKIPPED: mdbook could not be installed (is crates.io reachable?), so the book was not built"
    echo "skipped docs.sh: mdbook could not be installed" >>"${AUTOHARNESS_SKIPPED:-/dev/null}"
    exit 0
fi
said=$("$program" build "$root/docs" 2>&1) || { echo "$said"; exit 1; }
echo "$said"
# mdBook goes on after a page that is missing or a reference that it does not understand.
if grep -qE '\b(WARN|ERROR)\b' <<<"$said"; then die "mdbook warns"; fi

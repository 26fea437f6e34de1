#!/usr/bin/env bash
# Installs what build.sh has built and plays the demo with it: packaging/check.sh ARCHIVE [WHEEL]
#
# The archive goes through install.sh, from a file: URL, without the user's home. The wheel goes into a new environment.
set -euo pipefail

archive=$(realpath "${1:?an archive}")
wheel=${2:+$(realpath "$2")}
installer=$(realpath "$(dirname "${BASH_SOURCE[0]}")/install.sh")
version=$(sed -n 's/^autoharness-\(.*\)-[^-]*-[^-]*\.tar\.gz$/\1/p' <<<"${archive##*/}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/downloads/v$version" "$work/home"
cp "$archive" "$archive.sha256" "$work/downloads/v$version/"

# The demo in an empty directory, with no more of this machine than git and Python.
play() {
    mkdir "$work/$1"
    (cd "$work/$1" && env -i HOME="$work/home" PATH="$PATH" "$2" demo experiment && "$2" -C experiment verify)
}

env -i HOME="$work/home" PATH="$PATH" AUTOHARNESS_DOWNLOADS="file://$work/downloads" sh "$installer" "$version"
play archive "$work/home/.local/bin/autoharness"
if [ -n "$wheel" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --no-index --disable-pip-version-check "$wheel"
    "$work/venv/bin/python" -m pip show autoharness-cli
    play wheel "$work/venv/bin/autoharness"
fi

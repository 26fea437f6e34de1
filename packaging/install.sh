#!/bin/sh
# Installs a release of autoharness for one user: sh install.sh [VERSION]
#
# AUTOHARNESS_INSTALL_DIR   where the program goes; ~/.local/bin unless set
# AUTOHARNESS_DOWNLOADS     a URL (https:, http: or file:) with a directory for each version; the project's releases unless set
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

sha256_of() {
    if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}

download() {
    curl --fail --silent --show-error --location --proto-redir =https --retry 3 --output "$2" "$1" ||
        fail "cannot download $1; nothing was installed"
}

# All in functions, so that half a script does nothing.
main() {
    version=${1:-0.1.0}
    version=${version#v}
    downloads=${AUTOHARNESS_DOWNLOADS:-https://github.com/autoharness/autoharness/releases/download}
    directory=${AUTOHARNESS_INSTALL_DIR:-${HOME:?is not set, so there is no ~/.local/bin: set AUTOHARNESS_INSTALL_DIR}/.local/bin}

    system=$(uname -s) machine=$(uname -m)
    case $system-$machine in
        Linux-x86_64) platform=linux-x86_64 ;;
        Linux-aarch64 | Linux-arm64) platform=linux-aarch64 ;;
        Darwin-x86_64) platform=macos-x86_64 ;;
        Darwin-arm64) platform=macos-aarch64 ;;
        *) fail "no release is made for $system on $machine; in a checkout, with Rust: cargo install --locked --path ." ;;
    esac
    for tool in curl tar; do
        command -v "$tool" >/dev/null || fail "$tool is missing; install it and try again"
    done

    work=$(mktemp -d)
    new=
    trap 'rm -rf "$work" ${new:+"$new"}' EXIT
    trap 'exit 1' HUP INT TERM
    name=autoharness-$version-$platform
    archive=$work/$name.tar.gz
    download "$downloads/v$version/$name.tar.gz.sha256" "$archive.sha256"
    download "$downloads/v$version/$name.tar.gz" "$archive"
    expected=$(cut -d ' ' -f 1 "$archive.sha256")
    got=$(sha256_of "$archive")
    [ "$got" = "$expected" ] ||
        fail "the SHA-256 of $name.tar.gz is ${got:-unknown}, should be ${expected:-in the .sha256 file}; nothing was installed"
    tar -xzf "$archive" -C "$work"

    mkdir -p "$directory"
    directory=$(cd "$directory" && pwd)
    # Beside its place first, then into it at once: an autoharness that runs keeps its own, and one that cannot run here
    # replaces nothing.
    new=$(mktemp "$directory/.autoharness-XXXXXX")
    cp "$work/$name/autoharness" "$new"
    chmod 755 "$new"
    said=$("$new" --version) || fail "the program does not run on this machine; nothing was installed"
    mv "$new" "$directory/autoharness"
    echo "installed $said: $directory/autoharness"

    case ":${PATH:-}:" in
        *":$directory:"*)
            found=$(command -v autoharness)
            [ "$found" = "$directory/autoharness" ] || echo "another one comes first on your PATH: $found"
            ;;
        *)
            echo "$directory is not on your PATH; add this line to the file that your shell reads at its start, such as ~/.profile:"
            echo "    export PATH=\"$directory:\$PATH\""
            ;;
    esac
}

main "$@"

#!/usr/bin/env bash
# Builds what a release has for one platform: packaging/build.sh TARGET DIRECTORY
#
#     autoharness-VERSION-SYSTEM-MACHINE.tar.gz and .tar.gz.sha256     the program, which needs nothing beside it
#     autoharness_cli-VERSION-....whl                                  the same program for pip, where maturin is on PATH
#
# TARGET is a Rust target triple with musl (Linux) or darwin (macOS), or `static`: this Linux machine's own target with its C
# library linked in, which reuses what `cargo build --release` has built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:?a target triple, or static}
directory=${2:?the directory to write into}

die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-target}
options=(--release --locked) rustc=()
case $target in
static)
    # Reaches the program only: its dependencies are the same with either C library.
    rustc=(-- -C target-feature=+crt-static)
    target=$host
    ;;
*)
    options+=(--target "$target")
    built=$built/$target
    ;;
esac
case $target in
*-linux-musl)
    system=linux
    # A program that needs no C library of the system runs with both kinds.
    tags=(--compatibility manylinux_2_17 musllinux_1_1)
    ;;
*-linux-*)
    system=linux
    # As static as the other, but maturin refuses to call what was built for GNU's C library musl's, too.
    tags=(--compatibility manylinux_2_17)
    ;;
*-apple-darwin)
    system=macos
    tags=()
    ;;
*) die "no release is made for $target" ;;
esac
if [[ $target = *-musl ]]; then
    # libgit2 and zlib are C, and must not be compiled against the headers of another C library.
    command -v musl-gcc >/dev/null || die "musl-gcc is missing; install musl-tools"
    export "CC_${target//-/_}=musl-gcc"
fi

cargo rustc "${options[@]}" --bin autoharness ${rustc[@]+"${rustc[@]}"}
binary=$built/release/autoharness
if [ "$system" = linux ]; then
    headers=$(readelf --program-headers --wide "$binary") || die "readelf cannot read $binary"
    if grep -qw INTERP <<<"$headers"; then die "$binary needs a dynamic linker; it should be static"; fi
fi
# A triple without its last part is machine and vendor, or machine, vendor and system.
if [ "${target%-*}" = "${host%-*}" ]; then
    said=$("$binary" --version)
    [ "$said" = "autoharness $version" ] || die "$binary says \"$said\", Cargo.toml has $version"
fi

name=autoharness-$version-$system-${target%%-*}
mkdir -p "$directory"
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
mkdir "$packed/$name"
cp "$binary" LICENSE "$packed/$name/"
tar -C "$packed" -czf "$directory/$name.tar.gz" "$name"
(
    cd "$directory"
    if command -v sha256sum >/dev/null; then sha256sum "$name.tar.gz"; else shasum -a 256 "$name.tar.gz"; fi |
        tee "$name.tar.gz.sha256"
)

if command -v maturin >/dev/null; then
    maturin build "${options[@]}" ${tags[@]+"${tags[@]}"} --out "$directory" ${rustc[@]+"${rustc[@]}"}
else
    echo "build.sh: SKIPPED the wheel: maturin is not on PATH" >&2
fi

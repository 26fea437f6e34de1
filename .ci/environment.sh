# Sourced by harbor.sh and bird.sh: installs pinned packages from PyPI into an environment of their own, once per machine
# and set of pins. Set `me` to the script's name before; what is printed goes to stderr.
#
#     given VARIABLE                                             prints what the user names instead
#     pinned_environment NAME REQUIREMENTS OLDEST NEWEST CHECK    sets `environment`
#
# NAME: the directory's name begins with it. OLDEST and NEWEST: minor versions of Python 3. CHECK: a function that is given
# the environment and fails when it does not work. AUTOHARNESS_CI_PYTHON names the interpreter to install with.
# shellcheck shell=bash

cache=${XDG_CACHE_HOME:-$HOME/.cache}/autoharness-ci

# shellcheck disable=SC2154
say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { say "$*"; exit 1; }

# fits PYTHON OLDEST NEWEST
fits() {
    "$1" -I -S -c 'import sys; sys.exit(not int(sys.argv[1]) <= sys.version_info[1] <= int(sys.argv[2]))' "$2" "$3" >/dev/null 2>&1
}

# find_python OLDEST NEWEST: the newest that fits, the one asked for first.
find_python() {
    local candidate minor candidates=("${AUTOHARNESS_CI_PYTHON:-}")
    # A shim of pyenv answers for the versions that are switched on; the others are there all the same.
    for ((minor = $2; minor >= $1; minor--)); do
        candidates+=("python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3)
    done
    candidates+=(python3)
    for candidate in "${candidates[@]}"; do
        [ -n "$candidate" ] || continue
        if fits "$candidate" "$1" "$2"; then
            # A shim of pyenv is followed to the interpreter, because it depends on the directory it is called in.
            "$candidate" -I -S -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    return 1
}

# With uv a Python can be downloaded. It comes from PyPI where it is not installed.
find_uv() {
    command -v uv && return 0
    local own=$cache/uv
    if [ ! -x "$own/bin/uv" ]; then
        rm -rf "$own"
        { python3 -m venv "$own" && "$own/bin/python" -m pip install --quiet uv; } >&2 || return 1
    fi
    echo "$own/bin/uv"
}

# given VARIABLE: prints the program that it names, instead of one of ours. Fails when it is not set.
given() {
    local program=${!1:-}
    [ -n "$program" ] || return 1
    [ -x "$program" ] || die "$1 is not a program: $program"
    echo "$program"
}

pinned_environment() {
    local name=$1 requirements=$2 oldest=$3 newest=$4 check=$5 pins key python uv
    mkdir -p "$cache"
    pins=$(grep -v '^[[:space:]]*\(#\|$\)' "$requirements")
    key=$(printf '%s\n' "$pins" | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c 1-12)
    environment=$cache/$name-$key

    # Two builds on one machine must not install into the same directory.
    if command -v flock >/dev/null; then
        exec 9>"$environment.lock"
        flock -w 1800 9 || die "another build has been installing into $environment for half an hour"
    fi
    # The marker is written last; half an installation is removed and done again.
    if [ -e "$environment/complete" ] && "$check" "$environment"; then return 0; fi
    rm -rf "$environment"

    say "installing $(printf '%s\n' "$pins" | wc -l) pins of $requirements into $environment"
    if python=$(find_python "$oldest" "$newest"); then
        say "with $python"
        "$python" -m venv "$environment" >&2 || die "this Python has no venv: install python3-venv of its version, or uv"
        "$environment/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements" >&2 ||
            die "pip could not install $name (is the package index reachable?)"
    elif uv=$(find_uv); then
        say "no Python 3.$oldest to 3.$newest here; $uv downloads one"
        "$uv" venv --quiet --python ">=3.$oldest,<3.$((newest + 1))" "$environment" >&2 ||
            die "no Python 3.$oldest to 3.$newest is installed, and uv could not download one: install one or use pyenv"
        "$uv" pip install --quiet --python "$environment/bin/python" -r "$requirements" >&2 ||
            die "uv could not install $name (is the package index reachable?)"
    else
        die "no Python 3.$oldest to 3.$newest and no uv can be had: install one of them, or set AUTOHARNESS_CI_PYTHON"
    fi
    "$check" "$environment" || die "what was installed into $environment does not work"
    touch "$environment/complete"
}

#!/usr/bin/env bash
# Drives the report of a long night in a real browser: .ci/big_report.sh AUTOHARNESS [SCREENSHOTS]
# 100 iterations over 1,000 train tasks, one trace of 100 MB, as benches/report.py makes them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath "$1")
directory=$(mktemp -d)
trap 'rm -rf -- "$directory"' EXIT
python3 -B - "$here/../benches" "$binary" "$directory/night" <<'END'
import pathlib
import sys

sys.path.insert(0, sys.argv[1])
import report
import speed

speed.BINARY, speed.PROGRAM = sys.argv[2], report.PROGRAM
report.Night(pathlib.Path(sys.argv[3]), 1000, 100).swell(100)
END
"$here/report.sh" "$binary" "$directory/night/experiment" "${2:-$directory/shots}"

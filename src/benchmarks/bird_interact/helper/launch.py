#!/usr/bin/env python3
"""Runs a Python module as a child that cannot outlive the process that asked for it.

    launch.py PARENT [--warm MODULE] [--file PATH | --program PATH | MODULE] ARGUMENT...

The kernel is told to kill this process when its parent dies (where it can), because a service whose driver was killed would
go on calling models that somebody pays for. The module runs in this very process, as
`python -m` would run it in the current directory, so there is no second start to wait for.

`--program` starts another program in this process's place. `--warm` imports a module in the background once the service is
up. The first call of a model otherwise waits ten seconds for an import.
"""

import os
import resource
import runpy
import sys
import threading
import time

from processes import be_closed, die_with_parent

# A program that prints without end must not fill the disk. No honest log or result comes near this.
LARGEST_FILE = 1 << 30
# After the service has opened its doors; the import competes with it for the processor.
WARM_DELAY_S = 1.0


def warm(module):
    time.sleep(WARM_DELAY_S)
    try:
        __import__(module)
    except Exception:
        pass  # The code that needs the module will meet the error, and report it where it counts.


def main():
    arguments = sys.argv[1:]
    be_closed()
    die_with_parent(int(arguments.pop(0)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    if arguments[0] == "--warm":
        threading.Thread(target=warm, args=(arguments[1],), daemon=True).start()
        del arguments[:2]
    if arguments[0] == "--program":
        os.execvp(arguments[1], arguments[1:])
    if arguments[0] == "--file":
        sys.path[0] = os.path.dirname(arguments[1])
        sys.argv = arguments[1:]
        runpy.run_path(arguments[1], run_name="__main__")
    else:
        sys.path[0] = os.getcwd()
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

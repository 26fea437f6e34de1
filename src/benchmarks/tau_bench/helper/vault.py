"""What an agent's process must never hold: API keys, and tasks with their answers.

Both lie in memory that is shared between this program's processes. An agent's process closes it first of all, a runner
process reads the task of each trial from it, and the parent only the tasks' names. So the answers are not merely dropped
in an agent's process, they never were on the heap that it is a copy of. Nothing of it ever is a file.
"""

import ctypes
import json
import mmap
import os

# Address space, not memory: a page costs nothing until something is written to it.
SIZE = 256 << 20

# Variables that say nothing secret and that Python, TLS or tau2 need early. All others wait in the vault.
PLAIN = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONUNBUFFERED", "PYTHONHASHSEED",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TAU2_DATA_DIR", "AUTOHARNESS_SCRATCH",
    "LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_LOG", "PYTHON_DOTENV_DISABLED",
}


class Vault:
    """Records in shared anonymous memory, found by their place."""

    def __init__(self):
        self._memory = mmap.mmap(-1, SIZE)
        self._end = 0
        self._environment = None

    def put(self, value):
        """Stores a JSON value; returns its place. Only one process may write."""
        data = json.dumps(value).encode()
        place = (self._end, len(data))
        self._memory[place[0]:place[0] + place[1]] = data
        self._end += len(data)
        return place

    def get(self, place):
        """The value at a place."""
        start, length = place
        return json.loads(self._memory[start:start + length])

    def grow_to(self, end):
        """Tells this process how far another one has written."""
        self._end = end

    @property
    def end(self):
        """Where the next record goes."""
        return self._end

    def take_environment(self):
        """Moves every variable that may be a secret out of this process's environment, for its children to inherit none."""
        secret = {name: value for name, value in os.environ.items() if not _plain(name)}
        for name in secret:
            del os.environ[name]
        _wipe_initial_environment()
        earlier = self.get(self._environment) if self._environment else {}
        self._environment = self.put({**earlier, **secret})

    def environment(self, names=None):
        """The variables that were taken: all of them, or those named."""
        taken = self.get(self._environment)
        return taken if names is None else {name: taken[name] for name in names if name in taken}

    def close(self):
        """Gives this process's view of the memory up."""
        self._memory.close()


def _plain(name):
    return name in PLAIN or name.startswith("LC_")


def _wipe_initial_environment():
    """Overwrites the block of variables that the program was started with, which /proc/<pid>/environ shows forever."""
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        start, end = int(fields[47]), int(fields[48])
    except (OSError, ValueError, IndexError):
        return  # Not Linux: there is no such file to read either.
    # Values that are kept must no longer point into the block.
    kept = dict(os.environ)
    for name in kept:
        del os.environ[name]
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
    os.environ.update(kept)

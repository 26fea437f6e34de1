"""Directories as a list of what is in them and their bytes: what goes between Harbor's process and the agent's. Neither side lets the
other unpack an archive: that is more than files, and libraries for it have been talked into writing elsewhere."""

import os
import stat
from pathlib import Path, PurePosixPath

MAX_ENTRIES = 20_000


def pack(directory, most, follow=False):
    """The entries below a directory, and the bytes of its files, one after the other. Links are left out, or followed where that is
    wanted and they lead to a file. Raises ValueError where it is more than `most` bytes."""
    entries, data, length = [], [], 0
    for place, directories, files in os.walk(directory):
        here = Path(place)
        directories.sort()
        for name in directories:
            if not (here / name).is_symlink():
                entries.append({"path": str((here / name).relative_to(directory)), "mode": None})
        for name in sorted(files):
            entry = opened(here / name, follow)
            if entry is None:
                continue
            with entry as file:
                state = os.fstat(file.fileno())
                length += state.st_size
                if length > most or len(entries) >= MAX_ENTRIES:
                    raise ValueError(f"a directory of more than {most} bytes, or {MAX_ENTRIES} entries")
                content = file.read(state.st_size)
                path = str((here / name).relative_to(directory))
                entries.append({"path": path, "mode": stat.S_IMODE(state.st_mode), "size": len(content)})
                data.append(content)
    return entries, b"".join(data)


def opened(path, follow=False):
    """A regular file, open; None where there is another thing."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        return None
    return os.fdopen(file, "rb")


def unpack(entries, data, directory):
    """Makes these entries below a directory: directories and regular files, and nothing outside of it."""
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise ValueError("no list of files")
    Path(directory).mkdir(parents=True, exist_ok=True)
    start = 0
    for entry in entries:
        path, mode, size = entry["path"], entry.get("mode"), entry.get("size", 0)
        place = inside(directory, path)
        if mode is None:
            place.mkdir(parents=True, exist_ok=True)
            continue
        if not isinstance(size, int) or not isinstance(mode, int) or not 0 <= size <= len(data) - start:
            raise ValueError("the bytes of a file are missing")
        place.parent.mkdir(parents=True, exist_ok=True)
        write(place, data[start : start + size], mode)
        start += size


def inside(directory, path):
    """A path below a directory."""
    parts = PurePosixPath(path).parts if isinstance(path, str) and "\0" not in path else ()
    if not parts or ".." in parts or parts[0] == "/":
        raise ValueError("no path below a directory")
    return Path(directory, *parts)


def write(place, content, mode):
    """Writes a file that is its owner's, and no link in its place."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode & 0o755 | 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(content)

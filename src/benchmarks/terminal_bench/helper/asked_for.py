"""What an agent may ask of Harbor's process: commands and files of its sandbox. What it says is looked at before anything is done;
what takes long is done where other trials do not wait for it."""

import asyncio
import math
import os
import shutil
import tempfile
from pathlib import Path

from terminal_bench import frames, trees


async def carry_out(head, data, environment, scratch):
    """Does one of the things that an agent may do with its sandbox; returns the answer and its bytes. `scratch`: a directory of ours."""
    what = head.get("do")
    if what == "exec":
        result = await environment.exec(
            command=text(head["command"]), cwd=text(head.get("cwd"), True), env=variables(head.get("env")),
            timeout_sec=seconds(head.get("timeout_sec")), user=user(head.get("user")),
        )
        streams = [None if stream is None else frames.plain(stream).encode() for stream in (result.stdout, result.stderr)]
        lengths = [None if stream is None else len(stream) for stream in streams]
        about = {"return_code": result.return_code, "stdout": lengths[0], "stderr": lengths[1]}
        return about, b"".join(stream or b"" for stream in streams)
    if what not in ("upload_file", "upload_dir", "download_file", "download_dir"):
        raise ValueError(f"an agent behind the fence cannot ask for {str(what)[:80]!r}")
    directory = await asyncio.to_thread(tempfile.mkdtemp, dir=scratch)
    try:
        here = Path(directory, "here")
        await asyncio.to_thread(here.mkdir)
        if what == "upload_file":
            file = trees.inside(here, Path(text(head["name"])).name)
            await asyncio.to_thread(trees.write, file, data, whole(head["mode"]))
            await environment.upload_file(file, text(head["target"]))
        elif what == "upload_dir":
            await asyncio.to_thread(trees.unpack, head["entries"], data, here)
            await environment.upload_dir(here, text(head["target"]))
        elif what == "download_file":
            await environment.download_file(text(head["source"]), here / "file")
            return None, await asyncio.to_thread(regular, here / "file")
        else:
            await environment.download_dir(text(head["source"]), here)
            return await asyncio.to_thread(trees.pack, here, frames.MAX_BYTES)
        return None, b""
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def text(value, optional=False):
    if isinstance(value, str) or optional and value is None:
        return value
    raise TypeError(f"text was expected, not {type(value).__name__}")


def variables(value):
    if value is None or isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    raise TypeError("variables are names and texts")


def seconds(value):
    if value is None or isinstance(value, (int, float)) and math.isfinite(value) and value >= 0:
        return value
    raise TypeError("a time limit is a number of seconds")


def whole(value):
    if isinstance(value, int):
        return value
    raise TypeError("a whole number was expected")


def user(value):
    if value is None or isinstance(value, (str, int)) and not isinstance(value, bool):
        return value
    raise TypeError("a user is a name or a number")


def regular(path):
    """The bytes of a file; of a link, whose text the sandbox chose, none."""
    file = trees.opened(path)
    if file is None:
        raise FileNotFoundError("the sandbox gave no regular file")
    with file:
        if os.fstat(file.fileno()).st_size > frames.MAX_BYTES:
            raise ValueError(f"a file of more than {frames.MAX_BYTES} bytes")
        return file.read(frames.MAX_BYTES)


def shown(environment):
    """What an agent gets to know of its sandbox beside what it can do with it."""
    config = getattr(environment, "task_env_config", None)
    capabilities = getattr(environment, "capabilities", None)
    return {
        "session_id": getattr(environment, "session_id", None),
        "environment_name": getattr(environment, "environment_name", None),
        "default_user": getattr(environment, "default_user", None),
        # The agent's logs are not those that a sandbox may have mounted.
        "capabilities": {**capabilities.model_dump(mode="json"), "mounted": False} if hasattr(capabilities, "model_dump") else None,
        "task_env_config": without_secrets(config.model_dump(mode="json")) if hasattr(config, "model_dump") else None,
    }


def without_secrets(config):
    """The task's settings without its variables: they may come from the human's."""
    return {**config, "env": {}} if "env" in config else config

"""The journal of a machine that the roles are applied to: how it was, on disk before it is changed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
SCHEMA = 1
#: Held by whoever changes the machine: a module goes on when its connection is lost, and apt with it.
LOCK = Path("/run/exalab-host.lock")
LOCK_SECONDS = 600.0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One module at a time. TimeoutError when another one does not end."""
    with LOCK.open("w") as file:
        limit = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise TimeoutError(f"whoever holds {LOCK} does not end") from None
                time.sleep(0.2)
        yield


def read(path: str) -> Json:
    """The journal; an empty one when there is none. ValueError for one that cannot be understood."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {"schema": SCHEMA}
    told = json.loads(text)
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a journal of this version: what it tells cannot be taken off")
    return told


def write(path: str, told: Json) -> None:
    """Replace it at once, and have it on the disk."""
    fresh = Path(f"{path}.new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(told, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def missing_folders(path: str) -> list[str]:
    """The folders above a path that are not there, the outermost first."""
    found = []
    for folder in Path(path).parents:
        if folder.exists():
            break
        found.append(str(folder))
    return found[::-1]


def look(path: str) -> Json | None:
    """A file as it is, or None: {"data" or "link", "mode", "uid", "gid"}."""
    file = Path(path)
    if not file.is_symlink() and not file.exists():
        return None
    status = file.lstat()
    told: Json = {"mode": status.st_mode & 0o7777, "uid": status.st_uid, "gid": status.st_gid}
    told["mtime"] = status.st_mtime_ns
    if file.is_symlink():
        return {**told, "link": str(file.readlink())}
    return {**told, "data": base64.b64encode(file.read_bytes()).decode()}


def put_back(path: str, was: Json | None) -> bool:
    """Make a file as it was; whether it was not."""
    if look(path) == was:
        return False
    file = Path(path)
    file.unlink(missing_ok=True)
    if was is None:
        return True
    file.parent.mkdir(parents=True, exist_ok=True)
    if "link" in was:
        file.symlink_to(was["link"])
    else:
        file.write_bytes(base64.b64decode(was["data"]))
        file.chmod(was["mode"])
    os.chown(file, was["uid"], was["gid"], follow_symlinks=False)
    os.utime(file, ns=(was["mtime"], was["mtime"]), follow_symlinks=False)
    return True


def settings(text: str) -> dict[str, str]:
    """The settings of a sysctl.conf(5), by name."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", ";")):
            found[name.strip()] = value.strip()
    return found


def setting_file(name: str) -> Path:
    """Where the kernel shows a setting."""
    return Path("/proc/sys", *name.split("."))


def setting(name: str) -> str | None:
    """A setting now; None where this kernel has it not."""
    try:
        return " ".join(setting_file(name).read_text().split())
    except OSError:
        return None

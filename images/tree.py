"""A file tree as data: its digest, its listing, and making its times reproducible."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


def walk(root: Path) -> Iterator[Path]:
    """Every member below root, sorted, links not followed."""
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))


def clamp_times(root: Path, epoch: int) -> None:
    """No time stamp later than the epoch.

    What packages brought keeps its time; what the build made gets the epoch's.
    """
    for path in (root, *walk(root)):
        status = path.lstat()
        if status.st_mtime > epoch:
            os.utime(path, (epoch, epoch), follow_symlinks=False)


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(root: Path) -> Iterator[str]:
    """One line a member: type and mode, owner, time, content, name. Two trees are the same if these are."""
    for path in walk(root):
        status = path.lstat()
        kind = stat.filemode(status.st_mode)
        if stat.S_ISREG(status.st_mode):
            content = file_digest(path)
        elif stat.S_ISLNK(status.st_mode):
            content = f"-> {path.readlink()}"
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        else:
            content = "-"
        attributes = "".join(
            f" {name}={os.getxattr(path, name, follow_symlinks=False).hex()}"
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        )
        name = path.relative_to(root)
        yield f"{kind} {status.st_uid}:{status.st_gid} {int(status.st_mtime)} {content} {name}{attributes}"


def digest(root: Path) -> str:
    """sha256 over the listing."""
    total = hashlib.sha256()
    for line in listing(root):
        total.update(line.encode(errors="surrogateescape") + b"\n")
    return total.hexdigest()

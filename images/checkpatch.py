"""The kernel's own style checker, out of Debian's kernel source package: no binary package carries it."""

from __future__ import annotations

from pathlib import Path

from lab import console

from . import lock, source
from .definition import Workspace

_FILES = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")


def ensure(workspace: Workspace | None = None) -> Path:
    """Path of checkpatch.pl, below the output folder; fetched and unpacked when it is not there."""
    workspace = workspace or Workspace()
    folder = workspace.out / "checkpatch" / lock.read(source.LOCK).content[:16]
    script = folder / "scripts" / _FILES[0]
    if script.is_file():
        return script
    _lock, deb, _compile = source.ensure(workspace)
    partial = folder.with_name(f".{folder.name}")
    partial.mkdir(parents=True, exist_ok=True)
    with console.step("unpacking the kernel's style checker"):
        source.unpack(deb, partial, workspace, tuple(f"*/scripts/{name}" for name in _FILES))
    partial.rename(folder)
    return script


if __name__ == "__main__":
    with console.reporting():
        print(ensure())

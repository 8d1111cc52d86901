"""What a Debian root tree needs to play a machine reached over SSH, beside what the builder image has: an SSH
server, and the packages that the roles install on it. Nothing of it is in an image; tests put it together.
"""

from __future__ import annotations

from pathlib import Path

from lab import console

from . import choice, definition, fetch, lock
from .archive import discover
from .definition import TRACKED_LOCKS, Workspace
from .lock import Lock

NAME = "host"
LOCK = TRACKED_LOCKS / f"{NAME}.lock"
#: Is there before anything is applied.
SERVER = ("openssh-server",)
#: Is installed by applying: what our packages depend on, and some of what the suites call.
APPLIED = ("dkms", "gcc", "make", "python3-pyroute2", "ethtool")


def resolve() -> Lock:
    """The packages that the builder image has not."""
    from .resolve import Resolver

    data = definition.load()
    with Resolver(data, discover()) as resolver:
        found = resolver.lock(definition.Image(NAME, "a machine reached over SSH", (*SERVER, *APPLIED)))
    builder = {package.name for package in lock.read(choice.tracked_path("builder")).packages}
    return lock.make(found.header, [one for one in found.packages if one.name not in builder])


def ensure(workspace: Workspace | None = None) -> list[Path]:
    """The packages' files. Raises ``LabError`` when they cannot be had."""
    workspace = workspace or Workspace()
    with console.step("fetching packages of a machine reached over SSH") as shown:
        progress = fetch.Progress(on_change=shown.note)
        try:
            found = fetch.fetch(lock.read(LOCK), discover, workspace.cache, progress)
        except fetch.Stale:
            if choice.refused():
                raise
            found = fetch.fetch(resolve(), discover, workspace.cache, progress)
    return sorted(found.values())

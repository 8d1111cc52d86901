"""Which lock an image is built on: the tracked one while its packages can be had, else a fresh one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import console
from lab.errors import LabError

from . import definition, fetch, lock
from .archive import Sources, discover
from .definition import ORDER, TRACKED_LOCKS, Workspace
from .lock import Lock, Package


def refused() -> bool:
    """LOCKED=1: only the tracked locks will do."""
    return os.environ.get("LOCKED", "") not in ("", "0")


@dataclass(frozen=True)
class Choice:
    """The locks of a build and where the packages are.

    All are tracked or all are fresh: the kernel of one image and the headers of another must fit.
    """

    locks: dict[str, Lock]
    locked: bool
    debs: dict[Package, Path]


def tracked_path(image: str) -> Path:
    """The lock under version control."""
    return TRACKED_LOCKS / f"{image}.lock"


def fresh_path(image: str, workspace: Workspace) -> Path:
    """The untracked stand-in."""
    return workspace.fresh_locks / f"{image}.lock"


def file_digest(path: Path) -> str:
    """sha256 of a lock file; the empty string when it is missing."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def acceptable(workspace: Workspace) -> list[tuple[bool, dict[str, str]]]:
    """The lock digests an image may have been built from: (locked, digest by image), best first."""
    tracked = {name: file_digest(tracked_path(name)) for name in ORDER}
    found = [(True, tracked)]
    if not refused():
        fresh = _fresh(workspace)
        if fresh:
            found.append((False, {name: file_digest(fresh_path(name, workspace)) for name in ORDER}))
    return found


def _fresh(workspace: Workspace) -> dict[str, Lock] | None:
    """The fresh locks of an earlier build, if they stand in for the locks as tracked now."""
    if not all(fresh_path(name, workspace).is_file() for name in ORDER):
        return None
    try:
        locks = {name: lock.read(fresh_path(name, workspace)) for name in ORDER}
    except LabError:
        return None
    tracked = all(locks[name].header.replaces == file_digest(tracked_path(name)) for name in ORDER)
    return locks if tracked else None


def choose(images: Iterable[str], workspace: Workspace) -> Choice:
    """Have the packages of `images` in the cache, on the tracked locks or else on fresh ones.

    fetch.Stale under LOCKED=1 when packages are gone; LabError when the archive cannot be reached.
    """
    wanted = [name for name in ORDER if name in set(images)]
    tracked = {name: lock.read(tracked_path(name)) for name in ORDER}
    try:
        return Choice(tracked, True, _fetch(tracked, wanted, workspace))
    except fetch.Stale as stale:
        if refused():
            raise
        console.warn(f"{len(stale.gone)} locked package(s) are no longer in the archive")
    earlier = _fresh(workspace)
    if earlier:
        try:
            return Choice(earlier, False, _fetch(earlier, wanted, workspace))
        except fetch.Stale:
            console.say("the fresh locks of an earlier build are out of date, too")
    fresh = resolve({name: file_digest(tracked_path(name)) for name in ORDER})
    for name in ORDER:
        lock.write(fresh[name], fresh_path(name, workspace))
    for name in ORDER:
        changes = lock.compare(tracked[name], fresh[name])
        if changes:
            console.say(f"image {name}: the fresh lock differs from the tracked one:\n{lock.table(changes)}")
    console.warn(
        "building from fresh, untracked locks: the results are not those of the tracked lock",
        hint=f"they are in {workspace.fresh_locks}; make lock updates the tracked locks, LOCKED=1 refuses",
    )
    return Choice(fresh, False, _fetch(fresh, wanted, workspace))


def resolve(replaces: dict[str, str] | None = None) -> dict[str, Lock]:
    """New locks of all images, from the archive as it is now."""
    from .resolve import Resolver

    data = definition.load()
    with console.step("resolving packages"), Resolver(data, discover()) as resolver:
        return {
            name: resolver.lock(data.images[name], replaces=replaces[name] if replaces else None)
            for name in ORDER
        }


def _fetch(locks: dict[str, Lock], wanted: list[str], workspace: Workspace) -> dict[Package, Path]:
    """Packages of the wanted images; all that are gone in one Stale."""
    debs: dict[Package, Path] = {}
    known: list[Sources] = []

    def sources() -> Sources:
        if not known:
            known.append(discover())
        return known[0]

    with console.step(f"fetching packages of {', '.join(wanted)}") as shown:
        progress = fetch.Progress(on_change=lambda text: shown.note(text))
        stale: list[fetch.Stale] = []
        for name in wanted:
            try:
                debs.update(fetch.fetch(locks[name], sources, workspace.cache, progress))
            except fetch.Stale as error:
                stale.append(error)
        if stale:
            raise fetch.Stale(", ".join(s.image for s in stale), [gone for s in stale for gone in s.gone])
    return debs

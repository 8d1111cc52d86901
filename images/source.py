"""The source package of the dut's kernel, and what compiles a kernel beside the builder: a lock of their own.

Fetched on first use only, for it is the largest download of all: `make lint` wants checkpatch out of it, and
the kernels that report (`images.reporting`) are built from it.
"""

from __future__ import annotations

from pathlib import Path

from lab import console

from . import build, choice, definition, fetch, lock, sandbox
from .archive import discover
from .definition import TRACKED_LOCKS, Workspace
from .lock import Lock
from .sandbox import Bind

IMAGE = "source"
LOCK = TRACKED_LOCKS / f"{IMAGE}.lock"
#: What a kernel's own build calls, and modules' builds do not.
COMPILE = ("bison", "flex", "libelf-dev")
# $1 = the .deb, $2 = where to, $3... = patterns of what to unpack, default all. The inner archive is a member
# of the outer; both are read once, as a stream.
_UNPACK = """
set -e -o pipefail
deb=$1 to=$2; shift 2
dpkg-deb --fsys-tarfile "$deb" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' | xz -dc -T0 |
    tar -x -C "$to" --strip-components=1 --no-same-owner ${1:+--wildcards "$@"}
"""


def resolve() -> Lock:
    """The source of the builder's kernel, and what the builder lacks to compile it."""
    from .resolve import Resolver

    data = definition.load()
    series = f"linux-source-{data.kernel_series}"
    wanted = definition.Image(IMAGE, "the kernel's source", (series, *COMPILE))
    with Resolver(data, discover()) as resolver:
        alone = resolver.lock(wanted)
        beside = resolver.lock(
            definition.Image(IMAGE, wanted.description, (*data.images["builder"].packages, *COMPILE))
        )
        builder = resolver.lock(data.images["builder"])
    there = {package.name for package in builder.packages}
    more = [package for package in beside.packages if package.name not in there]
    return lock.make(alone.header, [*more, *(p for p in alone.packages if p.name == series)])


def ensure(workspace: Workspace) -> tuple[Lock, Path, tuple[Path, ...]]:
    """The lock in use, the source's package and the packages of COMPILE, all in the cache.

    fetch.Stale under LOCKED=1 when they are gone.
    """
    wanted = lock.read(LOCK)
    with console.step("fetching the kernel's source") as shown:
        progress = fetch.Progress(on_change=shown.note)
        try:
            debs = fetch.fetch(wanted, discover, workspace.cache, progress)
        except fetch.Stale:
            if choice.refused():
                raise
            wanted = resolve()
            debs = fetch.fetch(wanted, discover, workspace.cache, progress)
    (source,) = (path for package, path in debs.items() if package.name.startswith("linux-source-"))
    return wanted, source, tuple(path for path in debs.values() if path != source)


def unpack(deb: Path, folder: Path, workspace: Workspace, patterns: tuple[str, ...] = ()) -> None:
    """Unpack the source, or what the patterns name of it, into a folder that is there."""
    build.ensure(("tools",), workspace)
    binds = [Bind(deb.parent, "mnt/a"), Bind(folder, "out", writable=True)]
    argv = ["bash", "-c", _UNPACK, "unpack", f"/mnt/a/{deb.name}", "/out", *patterns]
    inside = sandbox.in_root(workspace.images / "tools" / "root", argv, binds)
    sandbox.run(inside, "unpacking the kernel's source")

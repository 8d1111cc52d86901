"""The kernel's own style checker, out of Debian's kernel source package: no binary package carries it.

Fetched on first use only, for it is the largest download of all: `make lint` wants it, the images do not.
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
_FILES = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")
# $1 = the .deb, $2 = where to. The inner archive is a member of the outer; both are read once, as a stream.
_EXTRACT = """
set -e -o pipefail
dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' | xz -dc -T0 |
    tar -x -C "$2" --strip-components=2 --no-same-owner --wildcards $3
"""


def resolve() -> Lock:
    """The source package of the dut's kernel, alone: nothing of it is installed."""
    from .resolve import Resolver

    data = definition.load()
    with Resolver(data, discover()) as resolver:
        wanted = definition.Image(IMAGE, "the kernel's source", (f"linux-source-{data.kernel_series}",))
        found = resolver.lock(wanted)
    only = [p for p in found.packages if p.name in wanted.packages]
    return lock.make(found.header, only)


def ensure(workspace: Workspace | None = None) -> Path:
    """Path of checkpatch.pl, below the output folder; fetched and unpacked when it is not there."""
    workspace = workspace or Workspace()
    wanted = lock.read(LOCK)
    folder = workspace.out / "checkpatch" / wanted.content[:16]
    if (folder / _FILES[0]).is_file():
        return folder / _FILES[0]
    with console.step("fetching the kernel's style checker") as shown:
        progress = fetch.Progress(on_change=shown.note)
        try:
            debs = fetch.fetch(wanted, discover, workspace.cache, progress)
        except fetch.Stale:
            if choice.refused():
                raise
            debs = fetch.fetch(resolve(), discover, workspace.cache, progress)
    (deb,) = debs.values()
    partial = folder.with_name(f".{folder.name}")
    partial.mkdir(parents=True, exist_ok=True)
    with console.step("unpacking the kernel's style checker"):
        patterns = " ".join(f"*/scripts/{name}" for name in _FILES)
        build.ensure(("tools",), workspace)
        binds = [Bind(deb.parent, "mnt/a"), Bind(partial, "out", writable=True)]
        script = _EXTRACT.replace("$3", patterns)
        argv = ["bash", "-c", script, "checkpatch", f"/mnt/a/{deb.name}", "/out"]
        sandbox.run(
            sandbox.in_root(workspace.images / "tools" / "root", argv, binds), "unpacking checkpatch.pl"
        )
    partial.rename(folder)
    return folder / _FILES[0]


if __name__ == "__main__":
    with console.reporting():
        print(ensure())

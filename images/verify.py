"""Proof that the images are reproducible: two builds from nothing, as different as we can make them.

They differ in folder (another depth and length), umask, locale, time zone, environment and time. Only the
packages are shared: they are verified against the lock anyhow.
"""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lab import console
from lab.errors import LabError

from . import build, manifest, sandbox, tree
from .definition import ORDER, ROOT, Workspace
from .sandbox import Bind

_REPORT_LINES = 200


@dataclass(frozen=True)
class Variation:
    """One of the two builds. `folder` below the checkout's out/verify."""

    folder: str
    umask: int
    environment: dict[str, str]


FIRST = Variation("a", 0o022, {"LC_ALL": "C.UTF-8", "TZ": "UTC", "LANG": "C.UTF-8"})
SECOND = Variation(
    "second/build/somewhere-else",
    0o077,
    {
        "LC_ALL": "POSIX",
        "LANG": "de_DE.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "USER": "somebody",
        "HOSTNAME": "elsewhere",
        "SOURCE_DATE_EPOCH": "1",
    },
)


@contextmanager
def _process_state(variation: Variation) -> Iterator[None]:
    """Umask and environment of this process (and so of the child that builds) for a while."""
    before = dict(os.environ)
    umask = os.umask(variation.umask)
    os.environ.update(variation.environment)
    try:
        yield
    finally:
        os.umask(umask)
        os.environ.clear()
        os.environ.update(before)


def verify(names: tuple[str, ...] = ORDER) -> None:
    """Build twice and compare. LabError with the differences (all of them in out/verify/report.txt)."""
    sandbox.require_root()
    top = Workspace().out / "verify"
    if top.exists():
        shutil.rmtree(top)
    spaces = []
    for variation in (FIRST, SECOND):
        space = Workspace(out=top / variation.folder, keep_base=False)
        what = f"building from nothing in {space.out.relative_to(ROOT)}"
        with console.step(what), _process_state(variation):
            build.ensure(names, space)
        spaces.append(space)
    different = []
    for name in names:
        one, two = (manifest.read(space.images / name) for space in spaces)
        if one is None or two is None:
            raise LabError(f"image {name} vanished while it was compared")
        same = one.digest == two.digest
        console.out.print(f"{name:8} {one.digest}  {'same' if same else 'DIFFERENT: ' + two.digest}")
        if not same:
            different.append(name)
    if different:
        report = top / "report.txt"
        report.write_text("".join(_explain(name, *spaces) for name in different), encoding="utf-8")
        head = "".join(islice(report.open(encoding="utf-8"), _REPORT_LINES))
        raise LabError(f"not reproducible: {', '.join(different)}\n{head}", hint=f"all of it: {report}")
    _against_checkout(spaces[0], names)
    shutil.rmtree(top)


def _against_checkout(space: Workspace, names: tuple[str, ...]) -> None:
    """The images in use must be the same bytes, too, when they are up to date."""
    for name in names:
        used, fresh = build.current(name), manifest.read(space.images / name)
        if used and fresh and used.locked == fresh.locked and used.digest != fresh.digest:
            raise LabError(
                f"out/images/{name} differs from what its inputs give: {used.digest},"
                f" from nothing {fresh.digest}",
                hint="build it anew: python -m images build --force",
            )


def _explain(name: str, one: Workspace, two: Workspace) -> str:
    """What differs: for a tree the listing's lines and then diffoscope on them; for files diffoscope."""
    folders = [space.images / name for space in (one, two)]
    text = f"==== image {name}\n"
    if name == "dut":
        first, second = (manifest.read(folder) for folder in folders)
        assert first and second
        for file in sorted(first.files):
            if first.files[file] != second.files.get(file):
                text += f"== {file}\n"
                if file == "root.erofs":
                    text += _trees(_unpacked(folders[0], one), _unpacked(folders[1], two))
                else:
                    text += _diffoscope(folders[0] / file, folders[1] / file)
        return text
    return text + _trees(folders[0] / "root", folders[1] / "root")


def _unpacked(folder: Path, space: Workspace) -> Path:
    """A root.erofs as a tree, by the tools' fsck.erofs."""
    target = space.out / "unpacked"
    target.mkdir()
    binds = [Bind(folder, "build"), Bind(target, "out", writable=True)]
    argv = ["fsck.erofs", "--extract=/out", "--overwrite", "/build/root.erofs"]
    sandbox.run(sandbox.in_root(space.images / "tools" / "root", argv, binds), "fsck.erofs")
    return target


def _trees(one: Path, two: Path) -> str:
    lines = list(difflib.unified_diff(list(tree.listing(one)), list(tree.listing(two)), lineterm="", n=0))
    rows = [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]
    names = {row.split(" ", 4)[4] for row in rows}
    text = "\n".join(lines) + "\n"
    for name in sorted(names)[:20]:
        pair = one / name, two / name
        if all(path.is_file() and not path.is_symlink() for path in pair):
            text += _diffoscope(*pair)
    if not lines:
        text += "the trees are the same: the difference is in how they were packed\n"
    return text


def _diffoscope(one: Path, two: Path) -> str:
    """diffoscope's report, run from the tools image in use; the plain fact when that is not there."""
    tools = Workspace().images / "tools" / "root"
    if not (tools / "usr/bin/diffoscope").exists():
        tools = one.parents[1] / "tools" / "root"
    if not (tools / "usr/bin/diffoscope").exists():
        return f"{one} and {two} differ (no tools image to run diffoscope from)\n"
    binds = [Bind(one.parent, "mnt/a"), Bind(two.parent, "mnt/b")]
    pair = [f"/mnt/a/{one.name}", f"/mnt/b/{two.name}"]
    argv = ["diffoscope", "--text", "-", "--max-report-size", "200000", *pair]
    done = subprocess.run(
        sandbox.in_root(tools, argv, binds),
        env=sandbox.CLEAN_ENV,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout or done.stderr or f"{one.name}: diffoscope saw no difference\n"


if __name__ == "__main__":
    sys.exit("python -m images verify")

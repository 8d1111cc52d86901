"""A copy of the checkout to put defects into: the checkout itself is never changed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.paths import ROOT, images, out
from suites.mutants.catalog import Mutant


@dataclass(frozen=True)
class Tree:
    """``root``: the copy, with outputs of its own."""

    root: Path

    @contextmanager
    def with_defect(self, mutant: Mutant) -> Iterator[None]:
        """The defect is in the copy while this lasts. LabError: its place has changed."""
        path = self.root / mutant.file
        before = path.read_text(encoding="utf-8")
        path.write_text(mutant.mutated(before), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")


def sources() -> list[Path]:
    """The files of the checkout, relative: under version control, or new and not ignored."""
    argv = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    told = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    return [Path(name) for name in told.split("\0") if name and (ROOT / name).is_file()]


def copy() -> Tree:
    """A fresh copy in ``out/mutants/tree``, with the images that are built already."""
    root = out() / "mutants/tree"
    if root.exists():
        shutil.rmtree(root)
    for relative in sources():
        target = root / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / relative, target)
    # A build replaces an image as a whole, so what is linked here is not written to. The lock is its own.
    if images().is_dir():
        (root / "out").mkdir()
        subprocess.run(["cp", "-al", str(images()), str(root / "out/images")], check=True)
        (root / "out/images/.lock").unlink(missing_ok=True)
    return Tree(root)

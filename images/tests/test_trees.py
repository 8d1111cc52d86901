"""The finished trees stay what they were when they were finished: nobody writes into them."""

from __future__ import annotations

import os

import pytest

from images import build, tree
from images.definition import Workspace


@pytest.mark.skipif(os.geteuid() != 0, reason="some files are root's alone")
@pytest.mark.parametrize("name", ["tools", "builder"])
def test_tree_is_the_manifests(name: str) -> None:
    """Every member's type, mode, owner, time and content."""
    found = build.current(name)
    if found is None:
        pytest.skip(f"no up-to-date image {name} (make images)")
    assert tree.digest(Workspace().images / name / "root") == found.files["root"]

"""The initramfs archive: same members, same bytes; and the kernel's unpacker is happy with it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from images import initramfs
from images.cpio import Archive
from lab.errors import LabError


def _sample(order: int) -> Archive:
    archive = Archive()
    steps: list[Callable[[], None]] = [
        lambda: archive.file("init", b"#!/bin/sh\n", 0o755),
        lambda: archive.file("bin/busybox", b"x" * 5, 0o755),
        lambda: archive.link("bin/sh", "busybox"),
        lambda: archive.character_device("dev/console", 5, 1),
        lambda: archive.directory("a/b/c"),
    ]
    for step in steps[::order]:
        step()
    return archive


def test_order_of_adding_does_not_matter() -> None:
    """Deterministic by construction."""
    assert _sample(1).encode() == _sample(-1).encode()


def test_cpio_reads_it(tmp_path: Path) -> None:
    """GNU cpio lists every member, parents before children, epoch time, root's."""
    if not shutil.which("cpio"):
        pytest.skip("this machine has no cpio")
    done = subprocess.run(
        ["cpio", "-tv", "--quiet", "--numeric-uid-gid"],
        input=_sample(1).encode(),
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )
    rows = done.stdout.decode().splitlines()
    names = [row.split(" -> ")[0].split()[-1] for row in rows]
    assert names == ["a", "a/b", "a/b/c", "bin", "bin/busybox", "bin/sh", "dev", "dev/console", "init"]
    assert all("Jan  1  1970" in row and row.split()[2:4] == ["0", "0"] for row in rows)


def test_twice_is_an_error() -> None:
    """A member that would shadow another is a mistake of ours."""
    archive = _sample(1)
    with pytest.raises(ValueError, match="init"):
        archive.file("init", b"")


def test_load_order(tmp_path: Path) -> None:
    """Dependencies first, each once; built-in ones left out; an unknown one named."""
    (tmp_path / "modules.dep").write_text(
        "k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\nk/d-e.ko.xz: k/c.ko\n"
    )
    (tmp_path / "modules.builtin").write_text("k/virtio_pci.ko\n")
    order = initramfs.load_order(tmp_path, ("a", "virtio_pci", "d_e"))
    assert order == ["k/c.ko", "k/b.ko", "k/a.ko", "k/d-e.ko.xz"]
    with pytest.raises(LabError, match="no module nowhere"):
        initramfs.load_order(tmp_path, ("nowhere",))

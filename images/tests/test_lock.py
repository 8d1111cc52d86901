"""Lock files: what is written is read back, what is wrong is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images import definition, lock
from lab.errors import LabError

from .conftest import lock_of, package


def test_round_trip_is_exact(tmp_path: Path) -> None:
    """Same lock, same bytes, whatever the order of the packages."""
    one, two = package("one", b"1"), package("two", b"2")
    path = tmp_path / "dut.lock"
    lock.write(lock_of(two, one), path)
    assert lock.read(path) == lock_of(one, two)
    assert path.read_text() == lock_of(one, two).dump()
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("path", "../../etc/passwd", "must be a path below pool/"),
        ("path", "pool/../../x", "must be a path below pool/"),
        ("sha256", "0" * 63, "sha256"),
        ("size", "0", "size"),
        ("archive", "elsewhere", "archive"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, field: str, value: str, complaint: str) -> None:
    """file:line: field: what is wrong."""
    good = package("one", b"1").model_dump()
    path = tmp_path / "dut.lock"
    path.write_text(lock_of().dump() + json.dumps(good) + "\n" + json.dumps({**good, field: value}) + "\n")
    with pytest.raises(LabError, match=rf"dut.lock:3: .*{complaint}"):
        lock.read(path)


def test_missing_and_empty(tmp_path: Path) -> None:
    """Both say what to do."""
    with pytest.raises(LabError, match="missing") as caught:
        lock.read(tmp_path / "dut.lock")
    assert caught.value.hint and "make lock" in caught.value.hint
    (tmp_path / "dut.lock").touch()
    with pytest.raises(LabError, match=r"dut\.lock:1"):
        lock.read(tmp_path / "dut.lock")


def test_compare_names_changes_only() -> None:
    """Changed, added, removed; equal ones do not appear."""
    old = lock_of(package("same", b"s"), package("moved", b"1", "1.0-1"), package("gone", b"g"))
    new = lock_of(package("same", b"s"), package("moved", b"2", "1.0-2"), package("added", b"a"))
    changes = lock.compare(old, new)
    assert [(c.name, c.before, c.after) for c in changes] == [
        ("added", None, "1.0-1"),
        ("gone", "1.0-1", None),
        ("moved", "1.0-1", "1.0-2"),
    ]
    assert lock.table(changes).splitlines()[-1].split() == ["moved", "1.0-1", "1.0-2"]


@pytest.mark.parametrize("name", definition.ORDER)
def test_tracked_lock_fits_the_definition(name: str) -> None:
    """What images.toml asks for is what the tracked lock was made for, and is in it."""
    data = definition.load()
    found = lock.read(definition.TRACKED_LOCKS / f"{name}.lock")
    wanted = data.images[name].packages
    assert (found.header.image, found.header.requested) == (name, wanted)
    assert set(wanted) <= {p.name for p in found.packages}
    assert (found.header.suite, found.header.architecture) == (data.suite, data.architecture)


def test_locks_agree_on_the_kernel() -> None:
    """The builder's headers are those of the dut's kernel, and QEMU is new enough for vfio-user."""
    locks = {name: lock.read(definition.TRACKED_LOCKS / f"{name}.lock") for name in definition.ORDER}
    assert locks["dut"].version("linux-image-amd64") == locks["builder"].version("linux-headers-amd64")
    qemu = locks["tools"].version("qemu-system-x86")
    assert qemu and int(qemu.split(":")[-1].split(".")[0]) >= 11


def test_no_host_names_in_locks() -> None:
    """Where packages come from is the machine's business."""
    for name in definition.ORDER:
        assert "://" not in (definition.TRACKED_LOCKS / f"{name}.lock").read_text()

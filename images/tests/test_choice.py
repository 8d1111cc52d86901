"""Which lock a build uses: tracked, fresh, or none; and that nothing is built when nothing changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from images import build, choice, definition, fetch, lock, manifest
from images.definition import ORDER, Workspace
from images.lock import Lock
from images.manifest import Manifest
from lab.errors import LabError

from .conftest import FakeArchive, lock_of, package


@pytest.fixture
def space(tmp_path: Path, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Tracked locks of one package each, on an archive of our own; re-resolving gives version 2."""
    tracked = tmp_path / "tracked"
    monkeypatch.setattr(choice, "TRACKED_LOCKS", tracked)
    monkeypatch.setattr(choice, "discover", lambda: archive.sources)
    monkeypatch.delenv("LOCKED", raising=False)
    for name in ORDER:
        old = package("hello", name.encode(), "1", f"pool/main/h/hello/{name}_1.deb")
        archive.files[old.path] = name.encode()
        lock.write(lock_of(old, image=name), tracked / f"{name}.lock")

    def resolve(replaces: dict[str, str] | None = None) -> dict[str, Lock]:
        fresh = {}
        for name in ORDER:
            new = package("hello", b"new " + name.encode(), "2", f"pool/main/h/hello/{name}_2.deb")
            archive.files[new.path] = b"new " + name.encode()
            fresh[name] = lock_of(new, image=name, replaces=replaces[name] if replaces else None)
        return fresh

    monkeypatch.setattr(choice, "resolve", resolve)
    return Workspace(out=tmp_path / "out", cache=tmp_path / "cache")


def test_tracked_lock_while_it_can_be_had(space: Workspace) -> None:
    """And then nothing is written to out/locks."""
    found = choice.choose(ORDER, space)
    assert found.locked and not space.fresh_locks.exists()
    assert {lock.version("hello") for lock in found.locks.values()} == {"1"}


def test_fresh_lock_when_the_archive_moved(
    space: Workspace, archive: FakeArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    """One package of one image is gone: all go to fresh locks together, and the difference is said."""
    del archive.files["pool/main/h/hello/dut_1.deb"]
    found = choice.choose(ORDER, space)
    assert not found.locked
    assert {lock.version("hello") for lock in found.locks.values()} == {"2"}
    for name in ORDER:
        written = lock.read(choice.fresh_path(name, space))
        assert written.header.replaces == choice.file_digest(choice.tracked_path(name))
    told = capsys.readouterr().err.split()
    assert told[told.index("hello") : told.index("hello") + 3] == ["hello", "1", "2"]


def test_fresh_lock_is_used_again(
    space: Workspace, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second build on a moved archive resolves nothing."""
    del archive.files["pool/main/h/hello/dut_1.deb"]
    first = choice.choose(ORDER, space)

    def never(_replaces: dict[str, str] | None = None) -> dict[str, Lock]:
        raise AssertionError("the fresh lock is good")

    monkeypatch.setattr(choice, "resolve", never)
    assert choice.choose(ORDER, space).locks == first.locks


def test_new_tracked_lock_ends_the_fresh_one(space: Workspace, archive: FakeArchive) -> None:
    """`make lock` and a commit bring everybody back onto the tracked lock."""
    del archive.files["pool/main/h/hello/dut_1.deb"]
    fresh = choice.choose(ORDER, space)
    for name in ORDER:
        lock.write(lock_of(*fresh.locks[name].packages, image=name), choice.tracked_path(name))
    assert choice.choose(ORDER, space).locked
    assert [locked for locked, _ in choice.acceptable(space)] == [True]


@pytest.mark.parametrize("value", ["1", "yes"])
def test_locked_refuses(
    space: Workspace, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """LOCKED=1 names what is stale and what to do, and writes nothing."""
    del archive.files["pool/main/h/hello/dut_1.deb"]
    monkeypatch.setenv("LOCKED", value)
    with pytest.raises(fetch.Stale, match=r"hello 1 \(pool/main/h/hello/dut_1\.deb\)") as caught:
        choice.choose(ORDER, space)
    assert caught.value.hint and "make lock" in caught.value.hint and "EXALAB_SNAPSHOT" in caught.value.hint
    assert not space.fresh_locks.exists()


def _pretend(space: Workspace, name: str, locked: bool, locks: dict[str, str]) -> Path:
    folder = space.images / name
    folder.mkdir(parents=True, exist_ok=True)
    described = Manifest(
        name=name,
        digest="sha256:0",
        kernel=None,
        lock=locks[name],
        locked=locked,
        inputs=manifest.inputs(name, locks),
        epoch=0,
        files={},
    )
    (folder / "manifest.json").write_text(described.dump())
    return folder


def test_current_needs_no_root_and_no_network(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to date: nothing is started."""
    locks = choice.acceptable(space)[0][1]
    for name in ORDER:
        _pretend(space, name, True, locks)
    monkeypatch.setattr(build, "_in_child", lambda *_: pytest.fail("there is nothing to build"))
    assert set(build.ensure(ORDER, space)) == set(ORDER)


def test_changed_lock_makes_stale(space: Workspace) -> None:
    """Each image by its own lock; the dut by all, for the builder compiles its driver."""
    locks = choice.acceptable(space)[0][1]
    for name in ORDER:
        _pretend(space, name, True, locks)
    lock.write(lock_of(package("hello", b"3", "3"), image="builder"), choice.tracked_path("builder"))
    assert [name for name in ORDER if build.current(name, space)] == ["tools"]


def test_changed_source_makes_stale(
    space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role, the agent, the driver: content and the executable bit count, products of compiling do not."""
    source = tmp_path / "root" / "datapath" / "exanic"
    source.mkdir(parents=True)
    monkeypatch.setattr(manifest, "ROOT", tmp_path / "root")
    (source / "main.c").write_text("int a;")
    locks = choice.acceptable(space)[0][1]
    before = manifest.inputs("dut", locks)
    (source / "exanic.ko").write_bytes(b"built")
    (source / "exanic.mod.c").write_bytes(b"built")
    (source / ".main.o.cmd").write_bytes(b"built")
    assert manifest.inputs("dut", locks) == before
    (source / "main.c").write_text("int b;")
    changed = manifest.inputs("dut", locks)
    assert changed != before
    (source / "main.c").chmod(0o755)
    assert manifest.inputs("dut", locks) != changed
    assert manifest.inputs("tools", locks) == manifest.inputs("tools", locks)


def test_fresh_build_is_stale_under_locked(
    space: Workspace, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of record does not take what a newcomer's build left."""
    del archive.files["pool/main/h/hello/dut_1.deb"]
    choice.choose(ORDER, space)
    locked, locks = choice.acceptable(space)[1]
    _pretend(space, "dut", locked, locks)
    assert build.current("dut", space)
    monkeypatch.setenv("LOCKED", "1")
    assert build.current("dut", space) is None


def test_unknown_image() -> None:
    """Says which there are."""
    with pytest.raises(LabError) as caught:
        build.ensure(["nowhere"])
    assert caught.value.hint and all(name in caught.value.hint for name in definition.ORDER)

"""Packages arrive whole, verified, once, from the best source; and it is said which ones no longer exist."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images import fetch
from images.archive import Sources
from lab.errors import LabError

from .conftest import FakeArchive, lock_of, package

BIG = bytes(range(256)) * 4096


def test_fetches_verifies_and_caches(archive: FakeArchive, tmp_path: Path) -> None:
    """A second fetch asks nobody, not even where the archive is."""
    one, two = package("one", b"1" * 1000), package("two", BIG)
    archive.files = {one.path: b"1" * 1000, two.path: BIG}
    lock = lock_of(one, two)
    progress = fetch.Progress()
    found = fetch.fetch(lock, lambda: archive.sources, tmp_path, progress)
    assert {p: f.read_bytes() for p, f in found.items()} == {one: b"1" * 1000, two: BIG}
    assert (progress.done, progress.received) == (2, len(BIG) + 1000)

    def nobody() -> Sources:
        raise AssertionError("a warm cache needs no archive")

    assert fetch.fetch(lock, nobody, tmp_path) == found
    assert len(archive.requests) == 2


def test_resumes_after_a_broken_connection(archive: FakeArchive, tmp_path: Path) -> None:
    """The second request asks for the rest only."""
    one = package("one", BIG)
    archive.files = {one.path: BIG}
    archive.broken = {one.path}
    found = fetch.fetch(lock_of(one), lambda: archive.sources, tmp_path)
    assert found[one].read_bytes() == BIG
    assert archive.requests == [(one.path, None), (one.path, f"bytes={len(BIG) // 2}-")]


def test_wrong_leftover_is_not_trusted(archive: FakeArchive, tmp_path: Path) -> None:
    """A .part file of other bytes costs a second download, nothing else."""
    one = package("one", BIG)
    archive.files = {one.path: BIG}
    final = fetch.cached(one, tmp_path)
    final.parent.mkdir(parents=True)
    final.with_suffix(".part").write_bytes(b"x" * 1000)
    assert fetch.fetch(lock_of(one), lambda: archive.sources, tmp_path)[one].read_bytes() == BIG


def test_truncated_cache_entry_is_fetched_again(archive: FakeArchive, tmp_path: Path) -> None:
    """A cache restored from a full disk heals itself."""
    one = package("one", BIG)
    archive.files = {one.path: BIG}
    final = fetch.cached(one, tmp_path)
    final.parent.mkdir(parents=True)
    final.write_bytes(BIG[:100])
    assert fetch.fetch(lock_of(one), lambda: archive.sources, tmp_path)[one].read_bytes() == BIG


def test_other_bytes_under_the_path_are_refused(archive: FakeArchive, tmp_path: Path) -> None:
    """Same name, same size, other content: gone, and not in the cache."""
    one = package("one", BIG)
    archive.files = {one.path: BIG[::-1]}
    with pytest.raises(fetch.Stale, match=r"one 1\.0-1"):
        fetch.fetch(lock_of(one), lambda: archive.sources, tmp_path)
    assert not fetch.cached(one, tmp_path).exists()


def test_every_gone_package_is_named(archive: FakeArchive, tmp_path: Path) -> None:
    """What is still there is fetched all the same."""
    one, two, three = package("one", b"1"), package("two", b"2"), package("three", b"3")
    archive.files = {one.path: b"1"}
    with pytest.raises(fetch.Stale) as caught:
        fetch.fetch(lock_of(one, two, three), lambda: archive.sources, tmp_path)
    assert [gone.package.name for gone in caught.value.gone] == ["three", "two"]
    assert "make lock" in (caught.value.hint or "")
    assert fetch.cached(one, tmp_path).exists()


def test_snapshot_comes_first_and_the_archive_after_it(archive: FakeArchive, tmp_path: Path) -> None:
    """The snapshot is asked at the lock's time and a little later; what it lacks the archive may have."""
    one, two = package("one", b"1"), package("two", b"2")
    archive.files = {f"archive/debian/20260101T060000Z/{one.path}": b"1", two.path: b"2"}
    sources = Sources(archive.url, snapshot=archive.url)
    fetch.fetch(lock_of(one), lambda: sources, tmp_path)
    asked = [path for path, _ in archive.requests]
    assert asked == [f"archive/debian/20260101T0{hour}0000Z/{one.path}" for hour in (0, 6)]
    fetch.fetch(lock_of(two), lambda: sources, tmp_path)
    assert fetch.cached(two, tmp_path).read_bytes() == b"2"


def test_server_trouble_is_not_a_missing_package(archive: FakeArchive, tmp_path: Path) -> None:
    """A failing server must not start a fresh lock."""
    one = package("one", b"1")
    archive.files = {one.path: b"1"}
    archive.status = {one.path: 503}
    with pytest.raises(LabError, match="503") as caught:
        fetch.fetch(lock_of(one), lambda: archive.sources, tmp_path)
    assert not isinstance(caught.value, fetch.Stale)


def test_two_builds_share_a_cache(archive: FakeArchive, tmp_path: Path) -> None:
    """Both get whole files; neither disturbs the other's part."""
    packages = [package(f"p{i}", BIG + bytes([i])) for i in range(6)]
    archive.files = {p.path: BIG + bytes([i]) for i, p in enumerate(packages)}
    together = threading.Barrier(2)

    def build() -> None:
        together.wait()
        fetch.fetch(lock_of(*packages), lambda: archive.sources, tmp_path)

    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(build) for _ in range(2)]:
            job.result()
    for i, p in enumerate(packages):
        assert fetch.cached(p, tmp_path).read_bytes() == BIG + bytes([i])
    assert not list(tmp_path.rglob("*.part"))

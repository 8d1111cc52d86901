"""The folder of earlier records: bounded, and no broken one hides the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.report import history
from suites.report.record import JOURNAL, as_json, write
from suites.report.tests import samples


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(history, "folder", lambda: tmp_path)
    return tmp_path


def test_records_come_back_in_order(folder: Path) -> None:
    for night in (2, 0, 1):
        record = samples.record(samples.sample("test_a"), night=night)
        write(record, history.path_of(record))
    (folder / "notes.txt").write_text("not ours")
    found = history.load()
    assert [one.started[8:10] for one in found.records] == ["20", "21", "22"]
    assert found.groups() == [("suites", "emulated")] and not found.problems


def test_a_broken_record_is_told_and_hides_no_other(folder: Path) -> None:
    good = samples.record(samples.sample("test_a"))
    write(good, history.path_of(good))
    bad = history.path_of(samples.record(night=1))
    bad.write_text("{")
    found = history.load()
    assert len(found.records) == 1
    assert bad.name in found.problems[0] and "rm" in found.problems[0]


def test_the_bound_keeps_the_newest(folder: Path) -> None:
    """Of every part by itself; somebody's own runs have a bound of their own."""
    for night in range(9):
        for part in ("suites", "unit", history.OWN):
            record = samples.record(part=part, night=night)
            write(record, history.path_of(record))
    gone = history.prune(kept=3)
    assert len(gone) == 6
    left = [one.part for one in history.load().records]
    assert left.count("suites") == left.count("unit") == 6 and left.count(history.OWN) == 9
    assert min(one.started for one in history.load().records if one.part == "unit")[8:10] == "23"


def test_a_run_that_goes_on_is_left_alone_and_a_killed_one_settled(folder: Path) -> None:
    record = samples.record(part="suites")
    record.ended = ""
    path = history.path_of(record, JOURNAL)
    with history.held(path) as _fd:
        path.write_text(as_json(record))
        assert history.is_held(path)
        assert history.settle() == [] and history.load().records == []
    (settled,) = history.settle()
    assert not path.exists() and settled.exists()
    (found,) = history.load().records
    assert found.end == "killed"

"""``python -m suites.report``: which records it takes, and what it says of those it cannot read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lab.errors import LabError
from suites.report import __main__ as command
from suites.report import history, page
from suites.report.record import Record, read, write
from suites.report.tests import samples
from suites.report.tests.samples import record, sample
from suites.report.tests.test_junit import PYTEST


def make(folder: Path, *words: str) -> page.Report:
    places = [f"--{name}={folder / name}" for name in ("history", "junit")]
    options = command.arguments().parse_args([*places, f"--bench={folder / 'bench.json'}", *words])
    return command.make(options)


def keep(folder: Path, *records: Record) -> None:
    for one in records:
        write(one, folder / "history" / history.path_of(one).name)


def test_without_any_run_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no run is recorded") as caught:
        make(tmp_path)
    assert "make test" in (caught.value.hint or "")


def test_runs_by_hand_are_taken_when_asked_for(tmp_path: Path) -> None:
    keep(tmp_path, record(sample("test_a"), part=history.OWN))
    with pytest.raises(LabError, match="by hand"):
        make(tmp_path)
    assert make(tmp_path, "--own").parts[0].name == history.OWN


def test_what_only_junit_knows_becomes_history(tmp_path: Path) -> None:
    """Once; and not where a record of the same part is as new."""
    keep(tmp_path, *samples.nights())
    (tmp_path / "junit").mkdir()
    (tmp_path / "junit/lint.xml").write_text(PYTEST.replace("2026-11-24", "2026-11-30"))
    (tmp_path / "junit/suites.xml").write_text(PYTEST.replace("2026-11-24", "2026-11-28"))
    report = make(tmp_path)
    assert {part.name for part in report.parts} == {"lint", "unit", "suites"}
    before = sorted((tmp_path / "history").iterdir())
    make(tmp_path)
    assert sorted((tmp_path / "history").iterdir()) == before
    assert len(before) == len(samples.nights()) + 1


def test_named_files_are_the_run_and_history_what_was_before(tmp_path: Path) -> None:
    """No part is missed then: they are what was asked for."""
    earlier, now = record(sample("test_a"), night=0), record(sample("test_a", "failed"), night=3)
    keep(tmp_path, earlier)
    write(now, tmp_path / "mine.json")
    (tmp_path / "unit.xml").write_text(PYTEST)
    report = make(tmp_path, str(tmp_path / "mine.json"), str(tmp_path / "unit.xml"))
    assert [part.name for part in report.parts] == ["unit", "suites"]
    assert [len(one.new_failures) for one in report.comparisons] == [1]
    assert not any("no run of" in doubt for doubt in report.verdict.doubts)


def test_a_named_file_that_is_broken_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(LabError, match=r"mine\.json: not JSON"):
        make(tmp_path, str(tmp_path / "mine.json"))


def test_what_cannot_be_read_is_a_problem_of_the_report(tmp_path: Path) -> None:
    """A broken record, broken XML, broken figures: each is named with its remedy, and the rest is shown."""
    keep(tmp_path, record(sample("test_a")))
    (tmp_path / "history/20260101T000000-unit-0123456789ab.json").write_text("{")
    (tmp_path / "junit").mkdir()
    (tmp_path / "junit/lint.xml").write_text(PYTEST[:300])
    (tmp_path / "bench.json").write_text("[]")
    report = make(tmp_path)
    told = "\n".join(report.problems)
    assert len(report.problems) == 3
    assert (
        all(name in told for name in ("0123456789ab.json", "lint.xml", "bench.json"))
        and told.count("rm ") == 3
    )
    assert report.parts[0].name == "suites" and "could not be read" in report.bench_told
    assert all(problem.split(" (")[0][:40] in page.render(report) for problem in report.problems)


def test_the_page_is_written_and_the_status_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, record(sample("test_a")))
    words = [
        "report",
        f"--history={tmp_path / 'history'}",
        f"--junit={tmp_path}",
        f"--output={tmp_path / 'r.html'}",
    ]
    monkeypatch.setattr("sys.argv", [*words, f"--bench={tmp_path / 'none.json'}"])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 0 and (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert f"report: {tmp_path / 'r.html'}" in capsys.readouterr().out
    (tmp_path / "bench.json").write_text("{")
    monkeypatch.setattr("sys.argv", [*words, f"--bench={tmp_path / 'bench.json'}"])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 3


def test_a_killed_run_is_settled_first(tmp_path: Path) -> None:
    one = record(sample("test_a"))
    journal = tmp_path / "history" / history.path_of(one, ".jsonl").name
    journal.parent.mkdir()
    one.ended = ""
    from suites.report.record import as_json

    journal.write_text(as_json(one))
    report = make(tmp_path)
    assert report.parts[0].first.end == "killed" and read(journal.with_suffix(".json")).end == "killed"


def test_figures_have_the_benchs_goals_and_age(tmp_path: Path) -> None:
    keep(tmp_path, record(sample("test_a")))
    bench = tmp_path / "bench.json"
    bench.write_text('{"lab_fps_64": 14000.0}')
    os.utime(bench, (time.time(), 1_795_000_000))
    report = make(tmp_path)
    assert report.goals["lab_fps_64"].met(14000.0)
    assert report.bench_told == "From bench.json, measured 2026-11-18 11:06 UTC."
    assert "12,000 frames/s" in page.render(report)


def test_parts_of_other_sources_are_named_not_shown(tmp_path: Path) -> None:
    keep(tmp_path, record(sample("test_a")), record(sample("test_f"), part="fuzz", tree="bbbb"))
    report = make(tmp_path)
    assert [part.name for part in report.parts] == ["suites"]
    assert "Not shown because they last ran on other sources: fuzz" in page.render(report)

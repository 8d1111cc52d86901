"""The plugin, in a pytest of its own: what it writes, and what is left when that is stopped or killed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import ROOT
from suites.report import history
from suites.report.record import Record, read
from suites.report.selection import WHOLE

CONFTEST = """
import os
from pathlib import Path
from suites.report import history
history.folder = lambda: Path(os.environ["RECORDS"])
"""
TESTS = '''
import pytest, os, signal
from suites import timeline

@pytest.mark.parametrize("count", [2, 16])
def test_good(count, record_property):
    """N3, N4: it
    is so."""
    with timeline.step(f"placing {count}"):
        with timeline.step("inside"):
            pass
    record_property("namespaces_kib", 12.5)
    record_property("words", "no number")

def test_bad():
    print("said")
    assert 1 == 2

def test_skipped(pytestconfig):
    from suites.report import recorder
    from suites.report.record import Card
    about = recorder.origin(pytestconfig)
    about.lab, about.cards = "lab", [Card("card0", "real", "X25")]
    pytest.skip("why not")

@pytest.mark.xfail(reason="known")
def test_known():
    assert False

@pytest.fixture
def torn():
    yield
    raise RuntimeError("at the end")

def test_torn(torn):
    pass

def test_stop():
    if os.environ.get("STOP") == "ctrl-c":
        raise KeyboardInterrupt
    if os.environ.get("STOP") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)

def test_last():
    pass
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    return tmp_path


def run(
    folder: Path, *options: str, stop: str = "", of: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "suites.report.recorder", "-c", os.devnull]
    return subprocess.run(
        [*argv, "--rootdir", str(folder), *(of or (str(folder),)), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RECORDS": str(folder / "history"), "STOP": stop},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def recorded(folder: Path) -> Record:
    (path,) = (folder / "history").glob("*.json")
    return read(path)


def test_a_whole_run(folder: Path) -> None:
    """Outcomes, properties, rules, cases, steps, figures, texts, times; the part and the night as told."""
    done = run(folder, "--record", "suites", "--night", "2026-01-02")
    record = recorded(folder)
    assert (record.part, record.night, record.end, record.exit_status) == (
        "suites",
        "2026-01-02",
        "complete",
        1,
    )
    assert record.collected == 8 and record.origin.source.commit and record.origin.locks
    tests = {test.id.split("::")[1]: test for test in record.tests}
    assert {name: test.outcome for name, test in tests.items()} == {
        "test_good[2]": "passed",
        "test_good[16]": "passed",
        "test_bad": "failed",
        "test_skipped": "skipped",
        "test_known": "xfailed",
        "test_torn": "error",
        "test_stop": "passed",
        "test_last": "passed",
    }, done.stdout
    good = tests["test_good[2]"]
    assert (good.proves, good.rules, good.case) == ("N3, N4: it is so.", ("N3", "N4"), {"count": "2"})
    assert [(step.name, step.depth) for step in good.steps] == [("placing 2", 0), ("inside", 1)]
    assert good.figures == {"namespaces_kib": 12.5} and set(good.phases) == {"setup", "call", "teardown"}
    assert "assert 1 == 2" in tests["test_bad"].failure and "1 == 2" in tests["test_bad"].reason
    assert tests["test_bad"].sections == {"Captured stdout call": "said\n"}
    assert tests["test_skipped"].reason == "why not" and tests["test_known"].reason == "known"
    assert "at the end" in tests["test_torn"].failure
    assert not list((folder / "history").glob("*.jsonl"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), ""),
        (("-k", "good"), "-k 'good'"),
        (("-m", "slow"), "-m 'slow'"),
        (("--ignore", "test_some.py"), "--ignore test_some.py"),
        (("--deselect", "test_some.py::test_bad"), "--deselect test_some.py::test_bad"),
        (("--last-failed",), "--last-failed"),
    ],
)
def test_a_selection_is_told(folder: Path, options: tuple[str, ...], told: str) -> None:
    """So that no report takes some tests of a part for all of it."""
    run(folder, "--record", "suites", *options)
    assert recorded(folder).selection == told


def test_a_test_by_name_is_a_selection(folder: Path) -> None:
    run(folder, "--record", "suites", of=("test_some.py::test_last",))
    assert recorded(folder).selection == "test_some.py::test_last"
    run(folder, "--record", "fuzz", of=("test_some.py::test_last",))
    assert [read(one).selection for one in sorted((folder / "history").glob("*-fuzz-*"))] == [""]


def test_parts_are_what_the_makefile_runs() -> None:
    """No run of ``make`` is told to be a selection."""
    lines = (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    takes_one = ("-m", "--ignore", "-n", "--dist")
    for part, whole in WHOLE.items():
        runs = [one for one in lines if f"--record {part} " in f"{one} " and "--again" not in one]
        assert runs
        for line in runs:
            words = shlex.split(line.split(f"--record {part}")[1])
            options = [(word, words[at + 1]) for at, word in enumerate(words) if word in takes_one]
            given = {word for option in options for word in option}
            assert tuple(one for one in words if one not in given) == whole.folders, line
            assert [value for name, value in options if name == "-m"] == [whole.marker] * bool(whole.marker)
            assert tuple(value for name, value in options if name == "--ignore") == whole.ignored


def test_again_is_of_what_failed_and_of_nothing_else(folder: Path) -> None:
    """With nothing failed but elsewhere, pytest by itself would run everything."""
    again = ("--record", "suites", "--again", "--last-failed", "--last-failed-no-failures", "none")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/test_other.py").write_text("def test_other():\n    assert False\n")
    cache = ("-o", f"cache_dir={folder}/cache", "-p", "cacheprovider")
    run(folder, *cache, of=("elsewhere",))
    done = run(folder, *again, *cache, of=("test_some.py",))
    assert done.returncode == 5, done.stdout
    (path,) = (folder / "history").glob("*-suites-*")
    assert (read(path).tests, read(path).bad) == ([], False)
    run(folder, *cache, of=("test_some.py",))
    run(folder, *again, *cache, of=("test_some.py",))
    newest = max((folder / "history").glob("*-suites-*"), key=lambda one: one.stat().st_mtime_ns)
    assert [one.id.split("::")[1] for one in read(newest).tests] == ["test_bad", "test_torn"]


def test_ctrl_c_leaves_a_record(folder: Path) -> None:
    """The test it came in is interrupted; those after it are known not to have been run."""
    run(folder, stop="ctrl-c")
    record = recorded(folder)
    assert (record.end, record.exit_status, record.part) == ("interrupted", 2, history.OWN)
    assert record.tests[-1].id.endswith("test_stop") and record.tests[-1].outcome == "interrupted"
    assert len(record.tests) == 7 < record.collected


def test_a_killed_run_leaves_a_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was run before is there once somebody looks."""
    done = run(folder, stop="kill")
    assert done.returncode == -signal.SIGKILL
    (settled,) = history.settle(folder / "history")
    record = read(settled)
    assert (record.end, record.card) == ("killed", "real") and [test.outcome for test in record.tests].count(
        "passed"
    ) == 2
    assert "6 of 8" in record.remarks[0]


def test_stopped_after_the_first_failure_is_not_complete(folder: Path) -> None:
    run(folder, "-x")
    assert recorded(folder).end == "interrupted"


def test_a_file_that_cannot_be_collected_is_an_error(folder: Path) -> None:
    (folder / "test_broken.py").write_text("import nothing_of_that_name")
    run(folder)
    record = recorded(folder)
    assert [(test.id, test.outcome) for test in record.tests] == [("test_broken.py", "error")]
    assert "nothing_of_that_name" in record.tests[0].failure and record.bad


def test_collecting_alone_is_no_run(folder: Path) -> None:
    run(folder, "--collect-only")
    assert not (folder / "history").exists()


def test_the_journal_is_as_good_as_the_record(folder: Path) -> None:
    """Of the same run: read from its lines, it has the same tests."""
    run(folder, stop="kill")
    (journal,) = (folder / "history").glob("*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert lines[0]["format"] == "exalab-record" and lines[1] == {
        "collected": 8,
        "deselected": 0,
        "left_out": {},
    }
    names = [line["test"]["id"].split("::")[1] for line in lines[2:] if "test" in line]
    assert names[:2] == ["test_good[2]", "test_good[16]"] and len(names) == 6

"""Tiers: what is left out of each, and that the record names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import ROOT
from suites.report.record import Record, read

CONFTEST = """
import json
import os
from pathlib import Path
from suites.report import history
history.folder = lambda: Path(os.environ["RECORDS"])
"""
TESTS = """
import pytest

@pytest.mark.parametrize("count", [2, pytest.param(128, marks=pytest.mark.full("more of the same"))])
def test_counts(count):
    pass

@pytest.mark.night("it takes hours")
def test_hours():
    pass
"""


def run(folder: Path, *options: str) -> tuple[Record | None, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "suites.tiers", "-p", "suites.report.recorder"]
    argv += ["-p", "no:cacheprovider", "--rootdir", str(folder), "--record", "some", *options, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RECORDS": str(folder / "history")}
    done = subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    files = sorted((folder / "history").glob("*.json"))
    return (read(files[-1]) if files else None), done.stdout + done.stderr


@pytest.mark.parametrize(
    "tier, ran, left_out",
    [
        ("core", 1, {"full tier: more of the same": 1, "night tier: it takes hours": 1}),
        ("full", 2, {"night tier: it takes hours": 1}),
        ("night", 3, {}),
    ],
)
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_what_a_tier_leaves_out_is_named(
    tmp_path: Path, tier: str, ran: int, left_out: dict[str, int], workers: tuple[str, ...]
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    record, told = run(tmp_path, "--tier", tier, *workers)
    assert record is not None, told
    assert (record.tier, len(record.tests)) == (tier, ran)
    assert {why: len(ids) for why, ids in record.left_out.items()} == left_out
    assert record.deselected == sum(left_out.values())
    assert all("test_some.py::test_" in one for ids in record.left_out.values() for one in ids)


def test_a_marker_without_a_reason_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS.replace('("it takes hours")', ""))
    _record, told = run(tmp_path)
    assert "test_hours: pytest.mark.night needs one argument: why" in told


COLLECTED = """
import json, os
from suites.report.record import rules_of

def pytest_collection_finish(session):
    found = {item.path.relative_to(session.config.rootpath).as_posix(): [] for item in session.items}
    for item in session.items:
        file = item.path.relative_to(session.config.rootpath).as_posix()
        found[file] += rules_of(item.function.__doc__ or "")
    with open(os.environ["COLLECTED"], "w") as out:
        json.dump(found, out)
"""


def collected(folder: Path, tier: str) -> dict[str, set[str]]:
    """The suites' files with tests in a tier, and the rules that these name."""
    (folder / "collected.py").write_text(COLLECTED)
    out = folder / f"{tier}.json"
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--collect-only",
        "-p",
        "collected",
        "--tier",
        tier,
        "suites",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "COLLECTED": str(out)}
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert out.exists(), done.stdout + done.stderr
    return {file: set(rules) for file, rules in json.loads(out.read_text()).items()}


def test_core_keeps_every_rule_and_part(tmp_path: Path) -> None:
    """Of each rule that a test names, and each file but those of more labs and volumes, core has a test."""
    core, full = collected(tmp_path, "core"), collected(tmp_path, "full")
    assert set().union(*full.values()) - set().union(*core.values()) == set()
    assert full.keys() - core.keys() == {
        "suites/exasock/test_tcp_volumes.py",
        "suites/real/test_stand_in.py",
        "suites/real/test_vfio.py",
        "suites/remote/test_host.py",
    }

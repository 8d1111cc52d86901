"""JUnit XML, ours, pytest's and broken."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab.errors import LabError
from suites.report import junit
from suites.report.record import Source

PYTEST = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="0" failures="1" skipped="1" tests="4" time="6.5"
 timestamp="2026-11-24T17:24:46.829381+00:00" hostname="vm">
<testcase classname="suites.test_a" name="test_good" file="suites/test_a.py" line="3" time="1.25">
<properties><property name="property" value="N3, N4: it is so."/></properties></testcase>
<testcase classname="suites.test_a" name="test_bad[x]" file="suites/test_a.py" time="0.5">
<failure message="AssertionError: 1 == 2&#10;second line">all of it</failure></testcase>
<testcase classname="suites.test_a" name="test_left" time="0">
<skipped message="why not">x</skipped></testcase>
<testcase classname="suites.test_a" name="test_torn" time="0">
<error message="at teardown">y</error></testcase>
</testsuite></testsuites>"""


def test_what_pytest_writes_is_read(tmp_path: Path) -> None:
    """Outcomes, times, texts, properties; the same file is the same record."""
    path = tmp_path / "suites.xml"
    path.write_text(PYTEST)
    record = junit.read(path)
    assert (record.part, record.seconds, record.started[:16]) == ("suites", 6.5, "2026-11-24T17:24")
    assert [(test.id, test.outcome) for test in record.tests] == [
        ("suites/test_a.py::test_good", "passed"),
        ("suites/test_a.py::test_bad[x]", "failed"),
        ("suites/test_a::test_left", "skipped"),
        ("suites/test_a::test_torn", "error"),
    ]
    assert record.tests[0].rules == ("N3", "N4")
    assert record.tests[1].reason == "AssertionError: 1 == 2" and record.tests[1].failure == "all of it"
    assert record.tests[2].reason == "why not"
    assert record.bad and junit.read(path).id == record.id
    assert record.origin.source == Source()
    assert junit.read(path.rename(tmp_path / "suites.again.xml")).part == "suites"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Also with characters that XML cannot say."""
    path = tmp_path / "lint.xml"
    cases = [junit.Case("ruff", 0.5), junit.Case("mypy", 2.0, "a.py:1: error\x1b[31m <b>\nmore")]
    source = Source("c" * 40, "main", "A <change>", True, "cccccccccccc+12345678")
    junit.write(path, "lint", cases, datetime(2026, 11, 24, tzinfo=UTC), source)
    record = junit.read(path)
    assert [(test.id, test.outcome, test.seconds) for test in record.tests] == [
        ("lint::ruff", "passed", 0.5),
        ("lint::mypy", "failed", 2.0),
    ]
    assert record.origin.source == source
    assert record.tests[1].failure == "a.py:1: error?[31m <b>\nmore"


BROKEN = {
    "cannot read": None,
    "not XML, or cut short": PYTEST[:400],
    "its root is <html>": "<html/>",
    "without a <testsuite>": "<testsuites/>",
    "without a name": '<testsuite><testcase classname="x"/></testsuite>',
    "could not convert": '<testsuite><testcase name="x" time="soon"/></testsuite>',
    "Invalid isoformat": '<testsuite timestamp="soon"/>',
}


@pytest.mark.parametrize("said", BROKEN)
def test_broken_xml_is_refused_by_name(tmp_path: Path, said: str) -> None:
    path = tmp_path / "unit.xml"
    if (text := BROKEN[said]) is not None:
        path.write_text(text)
    with pytest.raises(LabError, match=said) as caught:
        junit.read(path)
    assert "unit.xml" in caught.value.message
    assert text is None or "make unit" in (caught.value.hint or "")

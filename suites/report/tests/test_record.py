"""The record: written, read again, cut short, broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.errors import LabError
from suites.report.record import Record, Test, as_json, messages, read, rules_of, worst, write
from suites.report.tests import samples


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every field comes back."""
    record = samples.record(samples.rich(), samples.sample("test_b", "skipped"))
    record.drawings = samples.drawings()
    write(record, tmp_path / "r.json")
    assert read(tmp_path / "r.json") == record


def test_rules_are_found_in_docstrings() -> None:
    """Lists, ranges, each once; words that only look like one are none."""
    assert rules_of("N1, N3-N5 and N10: x. N3 again") == ("N1", "N3", "N4", "N5", "N10")
    assert rules_of("N0 N13 N100 XN1 an N") == ()


def test_the_worst_phase_is_the_outcome() -> None:
    assert worst([]) == "passed"
    assert worst(["passed", "failed", "error"]) == "failed"
    assert worst(["skipped", "error"]) == "error"


def test_repeated_kernel_messages_are_counted() -> None:
    """Only those in a row."""
    told = [{"seconds": float(at), "level": 6, "text": text, "bad": False} for at, text in enumerate("aaba")]
    assert [(one.text, one.count, one.seconds) for one in messages(told)] == [
        ("a", 2, 0.0),
        ("b", 1, 2.0),
        ("a", 1, 3.0),
    ]


def test_a_run_is_bad_for_more_reasons_than_a_failure() -> None:
    """Interrupted, ended by pytest with an error, or nothing run: but nothing to repeat is good."""
    assert not samples.record(samples.sample("test_a")).bad
    assert samples.record(samples.sample("test_a"), end="interrupted").bad
    assert samples.record(samples.sample("test_a"), exit_status=3).bad
    assert samples.record(exit_status=5).bad
    assert not samples.record(exit_status=5, again=True).bad


def _journal(record: Record, *tests: Test) -> list[str]:
    from dataclasses import asdict

    return [as_json(record), *(json.dumps({"test": asdict(test), "drawings": {}}) + "\n" for test in tests)]


def test_the_journal_of_a_killed_run_is_a_record(tmp_path: Path) -> None:
    """The line it died in is left out, what was whole is kept, and the record says what became of it."""
    record = samples.record(part="suites")
    record.ended, record.collected = "", 0
    lines = _journal(record, samples.sample("test_a"), samples.sample("test_b", "failed"))
    lines.insert(1, '{"collected": 7}\n')
    path = tmp_path / "j.jsonl"
    path.write_text("".join(lines) + '{"test": {"id": "cut sh')
    found = read(path)
    assert [test.outcome for test in found.tests] == ["passed", "failed"]
    assert (found.end, found.collected, found.bad) == ("killed", 7, True)
    assert "2 of 7" in found.remarks[-1] and "in the middle of a line" in found.remarks[-1]


BROKEN = {
    "cannot read": None,
    "not JSON": '{"format": ',
    "not a record: list": "[]",
    "no format": "{}",
    "schema 99": '{"format": "exalab-record", "schema": 99}',
    "part": '{"format": "exalab-record", "schema": 1, "started": "2026-01-01"}',
    "tests.0.outcome": '{"format": "exalab-record", "schema": 1, "part": "p", "started": "2026-01-01",'
    ' "tests": [{"id": "a", "outcome": "great"}]}',
    "started": '{"format": "exalab-record", "schema": 1, "part": "p", "started": "yesterday"}',
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_record_is_refused_by_name(tmp_path: Path, said: str) -> None:
    """The error names the file and what is wrong with it; where there is one, the remedy."""
    path = tmp_path / "broken.json"
    if (text := BROKEN[said]) is not None:
        path.write_text(text)
    with pytest.raises(LabError, match=said) as caught:
        read(path)
    assert "broken.json" in caught.value.message
    assert BROKEN[said] is None or "rm" in (caught.value.hint or "")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabError, match="cannot read"):
        read(tmp_path / "r.json")


@pytest.mark.parametrize("content", ["", "half a line"])
def test_an_empty_journal_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "j.jsonl").write_text(content)
    with pytest.raises(LabError, match="without its first line"):
        read(tmp_path / "j.jsonl")

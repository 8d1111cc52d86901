"""Pass rates over nights, and what is never green."""

from __future__ import annotations

from suites.report.history import OWN
from suites.report.ledger import ledger
from suites.report.tests import samples
from suites.report.tests.samples import record, sample


def test_a_pass_after_a_failure_is_flaky_in_its_night() -> None:
    runs = [
        record(sample("test_a"), night=0),
        record(sample("test_a", "failed"), night=1),
        record(sample("test_a"), night=1, hour=1, again=True),
        record(sample("test_a"), night=2),
    ]
    (row,) = ledger(runs).rows
    assert list(row.cells.values()) == ["passed", "flaky", "passed"]
    assert (row.passed, row.runs, row.flaky, row.steady) == (3, 4, True, False)


def test_of_other_sources_a_pass_is_a_repair() -> None:
    """Not flaky: the sources changed in between."""
    runs = [
        record(sample("test_a", "failed"), night=0, tree="aaaa"),
        record(sample("test_a"), night=0, hour=2, tree="bbbb"),
    ]
    (row,) = ledger(runs).rows
    assert list(row.cells.values()) == ["passed"] and not row.flaky and row.rate == 0.5


def test_of_the_same_sources_in_different_nights_it_is_flaky_as_a_whole() -> None:
    runs = [record(sample("test_a", "failed"), night=0), record(sample("test_a"), night=1)]
    (row,) = ledger(runs).rows
    assert list(row.cells.values()) == ["failed", "passed"] and row.flaky


def test_kinds_of_card_are_rows_of_their_own() -> None:
    runs = [record(sample("test_a")), record(sample("test_a", "failed", card="real"), card="real")]
    rows = ledger(runs).rows
    assert [(row.card, row.rate) for row in rows] == [("real", 0.0), ("emulated", 1.0)]


def test_skipped_is_no_run_and_absent_is_told() -> None:
    runs = [record(sample("test_a", "skipped"), night=0), record(sample("test_b"), night=1)]
    rows = {row.test.split("::")[1]: row for row in ledger(runs).rows}
    assert list(rows["test_a"].cells.values()) == ["skipped", "absent"] and rows["test_a"].rate is None
    assert rows["test_a"].steady


def test_the_night_may_be_named_and_own_runs_are_none() -> None:
    runs = [record(sample("test_a")), record(sample("test_a", "failed"), part=OWN)]
    runs[0].night = "2026-01-01"
    found = ledger(runs)
    assert found.nights == ["2026-01-01"] and len(found.rows) == 1


def test_only_the_last_nights_are_shown() -> None:
    found = ledger([record(sample("test_a"), night=at) for at in range(9)], nights=4)
    assert len(found.nights) == 4 and found.rows[0].runs == 4


def test_the_sample_of_ten_nights() -> None:
    found = ledger(samples.nights())
    worst = found.rows[0]
    assert worst.test.endswith("test_differs") or worst.rate == 0.0
    sometimes = [row for row in found.rows if row.test.endswith("test_sometimes")]
    assert [list(row.cells.values()).count("flaky") for row in sometimes] == [2, 2]
    assert all("passed" not in (row.cells[found.nights[4]], row.cells[found.nights[9]]) for row in sometimes)

"""Which run counts, and what a test that was run twice is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suites.report.history import OWN, History
from suites.report.merge import Verdict, current, of_one_state, parts_of, status_of, verdict
from suites.report.record import Outcome, Record
from suites.report.tests import samples
from suites.report.tests.samples import record, sample


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (["passed"], "passed"),
        (["failed", "passed"], "flaky"),
        (["error", "failed", "passed"], "flaky"),
        (["passed", "failed"], "failed"),
        (["failed", "skipped"], "flaky"),
        (["skipped"], "skipped"),
        (["interrupted", "passed"], "flaky"),
    ],
)
def test_a_pass_after_a_failure_is_flaky(outcomes: list[Outcome], status: str) -> None:
    assert status_of(outcomes) == status


def test_the_newest_run_counts_with_its_repetitions() -> None:
    """Of the same sources: a repetition of others is no second attempt."""
    old = record(sample("test_a", "failed"), night=0)
    new = record(sample("test_a", "failed"), sample("test_b"), night=1)
    again = record(sample("test_a"), night=1, hour=1, again=True)
    other = record(sample("test_b", "failed"), night=1, hour=2, again=True, tree="bbbbbbbbbbbb")
    (part,) = current(History([old, new, again, other]))
    assert part.records == [new, again] and part.earlier is old
    assert {key.split("::")[1]: told.status for key, told in part.tests.items()} == {
        "test_a": "flaky",
        "test_b": "passed",
    }
    assert part.status == "flaky" and part.tests[f"{samples.PLACE}::test_a"].shown.outcome == "failed"


def test_a_selection_is_never_taken_for_the_part() -> None:
    """Alone it is told as what it is; after a whole run of the same sources it is a second attempt."""
    whole = record(sample("test_a", "failed"), sample("test_b"), night=0)
    some = record(sample("test_a"), night=1, selection="suites/test_sample.py::test_a")
    (part,) = current(History([whole, some]))
    assert part.records == [whole, some] and part.counts == {"flaky": 1, "passed": 1}
    (part,) = current(History([whole, replace(some, tests=list(some.tests)), record(night=2, tree="b" * 12)]))
    assert part.earlier is whole
    (alone,) = current(History([some]))
    assert alone.label == "some of suites, emulated card" and alone.earlier is None
    told = verdict([alone], ())
    assert told.word == "incomplete" and "suites/test_sample.py::test_a" in told.doubts[0]


def test_kinds_of_card_are_parts_of_their_own_and_own_runs_are_left_out() -> None:
    runs = [record(sample("test_a")), record(sample("test_a", card="real"), card="real"), record(part=OWN)]
    assert [(one.name, one.card) for one in current(History(runs))] == [
        ("suites", "emulated"),
        ("suites", "real"),
    ]
    assert len(current(History(runs), own=True)) == 3


def test_an_interrupted_run_is_compared_with_only_when_there_is_no_other() -> None:
    whole, stopped = record(night=0), record(night=1, end="interrupted")
    assert current(History([whole, stopped, record(night=2)]))[0].earlier is whole
    assert current(History([stopped, record(night=2)]))[0].earlier is stopped


def _verdict(*records: Record, expected: tuple[str, ...] = ()) -> Verdict:
    return verdict(parts_of(records), expected)


def test_verdicts() -> None:
    """Passed is only what passed whole, of the same sources, with nothing missing."""
    assert _verdict(record(sample("test_a"))).word == "passed"
    assert (
        _verdict(record(sample("test_a"), sample("test_b", "skipped"))).sentence
        == "all 1 tests passed, 1 skipped"
    )
    assert _verdict(record(sample("test_a", "failed"))).word == "failed"
    assert (
        _verdict(record(sample("test_a", "failed")), record(sample("test_a"), hour=1, again=True)).word
        == "flaky"
    )
    assert _verdict().word == "incomplete"


@pytest.mark.parametrize(
    ("records", "doubt"),
    [
        ([record(sample("test_a"), end="interrupted", collected=9)], "interrupted after 1 of 9"),
        ([record(sample("test_a"), end="killed")], "killed"),
        ([record(sample("test_a"), exit_status=3)], "pytest ended with status 3"),
        ([record(sample("test_a")), record(sample("x"), part="unit", tree="b", hour=1)], "other sources"),
    ],
)
def test_doubts_keep_a_verdict_from_being_green(records: list[Record], doubt: str) -> None:
    found = _verdict(*records)
    assert found.word == "incomplete" and doubt in " ".join(found.doubts)


def test_a_part_that_is_expected_and_missing_is_a_doubt() -> None:
    found = _verdict(record(sample("test_a")), expected=("suites", "lint"))
    assert found.word == "incomplete" and found.doubts == ("no run of lint is recorded",)


def test_repetitions_alone_are_shown() -> None:
    """The run that they repeat may be beyond the bound of the history."""
    (part,) = parts_of([record(sample("test_a"), again=True)])
    assert part.status == "passed"


def test_what_make_test_does_not_run_is_shown_only_of_the_same_sources() -> None:
    """An old fuzz run neither spoils nor adorns the verdict; alone it is shown."""
    suites, same = record(sample("test_a"), night=1), record(sample("test_f"), part="fuzz", night=1)
    old = record(sample("test_p", "failed"), part="browser", card="", tree="bbbb")
    shown, left_out = of_one_state(parts_of([suites, same, old]))
    assert [part.name for part in shown] == ["suites", "fuzz"] and [part.name for part in left_out] == [
        "browser"
    ]
    assert verdict(shown, ()).word == "passed"
    assert of_one_state(parts_of([old]))[1] == []


def test_a_run_that_was_killed_before_it_had_a_lab_is_over_with_the_next() -> None:
    """Until then it is a doubt."""
    whole = record(sample("test_a"), night=0)
    killed = record(night=1, card="", end="killed", exit_status=137)
    parts = current(History([whole, killed]))
    assert [part.card for part in parts] == ["", "emulated"] and verdict(parts, ()).word == "incomplete"
    assert [part.card for part in current(History([whole, killed, record(sample("test_a"), night=2)]))] == [
        "emulated"
    ]

"""This run beside the one before."""

from __future__ import annotations

from collections.abc import Sequence

from suites.report.compare import Comparison, compare
from suites.report.history import History
from suites.report.merge import Told, current
from suites.report.record import Record, Test
from suites.report.tests.samples import record, sample


def _compared(*records: Record) -> Comparison:
    (part,) = current(History(list(records)))
    found = compare(part)
    assert found is not None
    return found


def _names(told: Sequence[Told | Test]) -> list[str]:
    return [one.id.split("::")[1] for one in told]


def test_what_changed_is_told_apart() -> None:
    before = record(
        sample("test_broke"),
        sample("test_mended", "failed"),
        sample("test_still", "failed"),
        sample("test_shaky"),
        sample("test_gone"),
    )
    now = record(
        sample("test_broke", "failed"),
        sample("test_mended"),
        sample("test_still", "failed"),
        sample("test_shaky", "failed"),
        sample("test_new"),
        sample("test_new_and_bad", "failed"),
        night=1,
    )
    again = record(sample("test_shaky"), night=1, hour=1, again=True)
    found = _compared(before, now, again)
    assert _names(found.new_failures) == ["test_broke", "test_new_and_bad"]
    assert _names(found.fixed) == ["test_mended"]
    assert _names(found.still_bad) == ["test_still"]
    assert _names(found.newly_flaky) == ["test_shaky"]
    assert _names(found.added) == ["test_new", "test_new_and_bad"]
    assert _names(found.gone) == ["test_gone"]
    assert not found.same


def test_a_test_that_was_flaky_and_passes_is_fixed_only_if_it_failed_last() -> None:
    before = record(sample("test_a", "failed"))
    found = _compared(
        before,
        record(sample("test_a", "failed"), night=0, hour=1, again=True),
        record(sample("test_a"), night=1),
    )
    assert _names(found.fixed) == ["test_a"]


def test_an_interrupted_run_makes_no_test_gone() -> None:
    found = _compared(
        record(sample("test_a"), sample("test_b")), record(sample("test_a"), night=1, end="interrupted")
    )
    assert found.gone == [] and found.same


def test_slower_is_by_factor_and_by_seconds() -> None:
    def run(night: int, quick: float, slow: float) -> Record:
        tests = (
            sample("test_quick", seconds=quick),
            sample("test_slow", seconds=slow),
            sample("test_even", seconds=10.0),
        )
        return record(*tests, night=night)

    found = _compared(run(0, 0.01, 2.0), run(1, 0.9, 5.0))
    assert [(one.told.id.split("::")[1], one.before, one.now) for one in found.slower] == [
        ("test_slow", 2.0, 5.0)
    ]


def test_times_of_different_accelerators_are_not_compared() -> None:
    other = record(sample("test_a", seconds=1.0))
    other.origin.accelerator = "kvm"
    found = _compared(other, record(sample("test_a", seconds=50.0), night=1))
    assert found.slower == [] and "kvm then, tcg now" in found.times


def test_without_an_earlier_run_there_is_no_comparison() -> None:
    (part,) = current(History([record(sample("test_a"))]))
    assert compare(part) is None

"""This run beside the one before: what is new, what is mended, what became slower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from suites.report.merge import Part, Told, status_of
from suites.report.record import Outcome, Record, Test

#: A test is slower when it takes so many times as long, and so many seconds more.
TIMES, SECONDS = 1.5, 1.0


@dataclass(frozen=True)
class Slower:
    """A test that takes longer than it did."""

    told: Told
    before: float
    now: float


@dataclass
class Comparison:
    """A part and its earlier run. ``times``: why times are not compared, empty when they are."""

    part: Part
    earlier: Record
    new_failures: list[Told] = field(default_factory=list)
    newly_flaky: list[Told] = field(default_factory=list)
    still_bad: list[Told] = field(default_factory=list)
    fixed: list[Told] = field(default_factory=list)
    added: list[Told] = field(default_factory=list)
    gone: list[Test] = field(default_factory=list)
    slower: list[Slower] = field(default_factory=list)
    times: str = ""

    @property
    def same(self) -> bool:
        """Nothing to tell."""
        lists = (self.new_failures, self.newly_flaky, self.still_bad, self.fixed, self.added, self.gone)
        return not any((*lists, self.slower))


def compare(part: Part) -> Comparison | None:
    """The part beside its earlier run; None: there is none."""
    earlier = part.earlier
    if earlier is None:
        return None
    found = Comparison(part, earlier)
    before: dict[str, list[Test]] = {}
    for test in earlier.tests:
        before.setdefault(test.id, []).append(test)
    found.times = _incomparable(part.first, earlier)
    for key, told in part.tests.items():
        if key not in before:
            found.added.append(told)
            if told.last.bad:
                found.new_failures.append(told)
            continue
        outcomes: list[Outcome] = [one.outcome for one in before[key]]
        was, now = before[key][-1], told.last
        if now.bad:
            (found.still_bad if was.bad else found.new_failures).append(told)
        elif told.status == "flaky":
            (found.newly_flaky if status_of(outcomes) == "passed" else found.still_bad).append(told)
        elif was.bad and now.outcome == "passed":
            found.fixed.append(told)
        passed = was.outcome == now.outcome == "passed"
        if passed and now.seconds > max(was.seconds * TIMES, was.seconds + SECONDS) and not found.times:
            found.slower.append(Slower(told, was.seconds, now.seconds))
    if part.first.end == earlier.end == "complete" and part.first.arguments == earlier.arguments:
        found.gone = [tests[-1] for key, tests in before.items() if key not in part.tests]
    found.slower.sort(key=lambda one: one.before - one.now)
    return found


def _incomparable(one: Record, other: Record) -> str:
    """Why their times say nothing about each other."""
    for what, ours, theirs in (
        ("accelerator", one.origin.accelerator, other.origin.accelerator),
        ("processor", one.origin.machine.get("processor"), other.origin.machine.get("processor")),
        ("number of cores", one.origin.machine.get("cores"), other.origin.machine.get("cores")),
    ):
        if ours != theirs:
            return f"another {what}: {theirs or 'not known'} then, {ours or 'not known'} now"
    return ""


def comparisons(parts: Sequence[Part]) -> list[Comparison]:
    return [found for part in parts if (found := compare(part)) is not None]

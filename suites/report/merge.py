"""From records to what is told: of each part and kind of card the newest run, with what was run again.

A test that failed and passed when it was run again, of the same sources, is flaky: never passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from suites.report.history import OWN, History
from suites.report.record import BAD, Outcome, Record, Test, when

Status = Literal[Outcome, "flaky"]
#: From what needs a person first to what does not.
STATUSES: tuple[Status, ...] = (
    "failed",
    "error",
    "xpassed",
    "interrupted",
    "flaky",
    "skipped",
    "xfailed",
    "passed",
)
#: What `make test` runs; a report without one of them says so.
PARTS = ("lint", "unit", "image", "suites")


def status_of(outcomes: Sequence[Outcome]) -> Status:
    """Of one test that was run so often, in order, of the same sources."""
    last = outcomes[-1]
    if last not in BAD and any(one in BAD for one in outcomes):
        return "flaky"
    return last


@dataclass
class Told:
    """A test of a part, with every time that it was run; the last one is what is shown."""

    part: str
    attempts: list[Test]

    @property
    def card(self) -> str:
        """The kind of card it was run on; empty: it needs none."""
        return next((one.card for one in self.attempts if one.card), "")

    @property
    def id(self) -> str:
        return self.attempts[0].id

    @property
    def last(self) -> Test:
        return self.attempts[-1]

    @property
    def shown(self) -> Test:
        """The attempt to look into: the last bad one of a flaky test, else the last."""
        if self.status == "flaky":
            return next(one for one in reversed(self.attempts) if one.bad)
        return self.last

    @property
    def status(self) -> Status:
        return status_of([one.outcome for one in self.attempts])


@dataclass
class Part:
    """A part on a kind of card: its newest run, the repetitions of that, the run before."""

    name: str
    card: str
    records: list[Record]
    earlier: Record | None = None
    tests: dict[str, Told] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for record in self.records:
            for test in record.tests:
                if test.id in self.tests:
                    self.tests[test.id].attempts.append(test)
                else:
                    self.tests[test.id] = Told(self.name, [test])

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def tree(self) -> str:
        return self.first.origin.source.tree

    @property
    def label(self) -> str:
        label = f"{self.name}, {self.card} card" if self.card else self.name
        return f"some of {label}" if self.selection else label

    @property
    def selection(self) -> str:
        """What was asked for, where that is less than the part; empty: all of it was."""
        return self.first.selection

    @property
    def counts(self) -> Counter[Status]:
        return Counter(told.status for told in self.tests.values())

    @property
    def stopped(self) -> bool:
        """Whether its run did not come to its end, and nothing made up for it."""
        return self.first.end != "complete"

    @property
    def status(self) -> Status:
        """As one word: what needs a person first."""
        counts = self.counts
        if self.stopped:
            return "failed" if any(counts[one] for one in ("failed", "error")) else "interrupted"
        found = next((one for one in STATUSES if counts[one] and one not in ("skipped", "xfailed")), None)
        if found is None:
            return "skipped" if counts else "error"
        if found == "passed" and self.first.bad and len(self.records) == 1:
            return "error"  # pytest says so, for a reason that is no test's
        return found

    @property
    def seconds(self) -> float:
        return sum(record.seconds for record in self.records)


def parts_of(records: Iterable[Record], history: History | None = None) -> list[Part]:
    """The parts that these records are; ``history``: where the earlier run of each is found."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=lambda one: when(one.started)):
        groups.setdefault((record.part, record.card), []).append(record)
    found = []
    for (name, card), runs in groups.items():
        newest = _newest(runs)
        before = [one for one in runs if when(one.started) < when(newest[0].started)]
        if history is not None:
            before += history.of(name, card)
        found.append(Part(name, card, newest, _earlier(newest, before)))
    order = {name: number for number, name in enumerate(PARTS)}
    return sorted(found, key=lambda part: (order.get(part.name, len(PARTS)), part.name, part.card))


def current(history: History, own: bool = False) -> list[Part]:
    """The newest of everything there is, without runs that are somebody's own unless asked for."""
    parts = parts_of([one for one in history.records if own or one.part != OWN], history)
    # A run that was killed before it had a lab has no kind of card; it is over once the part was run again.
    newest = {
        part.name: max(when(one.first.started) for one in parts if one.name == part.name) for part in parts
    }
    return [part for part in parts if part.card or when(part.first.started) == newest[part.name]]


def of_one_state(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """The parts to show, and those left out: what `make test` does not run, and was last run on other sources
    than it, says nothing about these."""
    usual = [part for part in parts if part.name in PARTS]
    if not usual:
        return list(parts), []
    tree = max(usual, key=lambda part: when(part.first.started)).tree
    shown = [part for part in parts if part.name in PARTS or part.tree == tree]
    return shown, [part for part in parts if part not in shown]


def _newest(runs: list[Record]) -> list[Record]:
    """The last run of all of the part, and what was run again after it of the same sources, be it repetitions
    or a selection. Only such runs: the last."""
    whole = [number for number, one in enumerate(runs) if not one.again and not one.selection]
    if not whole:
        return runs[-1:]
    first = runs[whole[-1]]
    tree = first.origin.source.tree
    return [first, *(one for one in runs[whole[-1] + 1 :] if one.origin.source.tree == tree)]


def _earlier(newest: list[Record], before: Iterable[Record]) -> Record | None:
    """The run before, of those that came to their end when there is one. A selection is beside none."""
    if newest[0].selection:
        return None
    ids, began = {one.id for one in newest}, when(newest[0].started)
    older = [
        one
        for one in before
        if one.id not in ids and not one.again and not one.selection and when(one.started) < began
    ]
    older.sort(key=lambda one: when(one.started))
    whole = [one for one in older if one.end == "complete"]
    return (whole or older)[-1] if older else None


@dataclass(frozen=True)
class Verdict:
    """The run in one word and one sentence. ``word``: passed, flaky, failed, incomplete."""

    word: Literal["passed", "flaky", "failed", "incomplete"]
    sentence: str
    doubts: tuple[str, ...] = ()


def verdict(parts: Sequence[Part], expected: Sequence[str] = PARTS) -> Verdict:
    """What a reader may rely on; doubts are what keeps a run without failures from being called passed."""
    counts = sum((part.counts for part in parts), Counter[Status]())
    total = sum(counts.values())
    bad = sum(counts[one] for one in STATUSES if one in BAD)
    doubts = []
    for part in parts:
        if part.stopped:
            doubts.append(
                f"{part.label}: {part.first.end} after {len(part.first.tests)} of {part.first.collected}"
            )
        elif part.status == "error" and not any(told.last.bad for told in part.tests.values()):
            doubts.append(f"{part.label}: pytest ended with status {part.first.exit_status}")
        if part.selection:
            doubts.append(f"{part.label}: only a selection was run: {part.selection}")
    there = {part.name for part in parts}
    doubts += [f"no run of {name} is recorded" for name in expected if name not in there]
    newest = max(parts, key=lambda part: when(part.first.started)) if parts else None
    for part in parts:
        if newest is not None and part.tree != newest.tree:
            doubts.append(
                f"{part.label} was run on other sources ({part.tree}) than {newest.label} ({newest.tree})"
            )
    if bad:
        return Verdict("failed", f"{bad} of {total} tests failed", tuple(doubts))
    if counts["flaky"]:
        return Verdict("flaky", f"{counts['flaky']} of {total} tests are flaky", tuple(doubts))
    if not total:
        return Verdict("incomplete", "no test was run", tuple(doubts))
    run = total - counts["skipped"]
    tiers = {part.first.tier for part in parts if part.first.left_out}
    of_tier = f" of the {min(tiers)} tier" if len(tiers) == 1 else " of several tiers" if tiers else ""
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    if doubts:
        return Verdict("incomplete", f"{run} tests{of_tier} passed{skipped}, with gaps", tuple(doubts))
    return Verdict("passed", f"all {run} tests{of_tier} passed{skipped}")

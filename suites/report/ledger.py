"""The ledger over nights: how often each test passed, on each kind of card, and what never shows green.

A cell is a test in a night. It is flaky when of the same sources the test both failed and passed, whoever ran
it again; a test that did so in different nights is flaky as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from suites.report.history import OWN
from suites.report.merge import status_of
from suites.report.record import BAD, Outcome, Record, when

Cell = Literal["passed", "flaky", "failed", "skipped", "absent"]
#: Nights shown, the last ones.
NIGHTS = 30


@dataclass
class Row:
    """One test on one kind of card. ``runs`` counts what was not skipped."""

    part: str
    test: str
    card: str
    cells: dict[str, Cell] = field(default_factory=dict)
    runs: int = 0
    passed: int = 0
    flaky: bool = False

    @property
    def rate(self) -> float | None:
        """Of its runs, those that passed; None: it never ran."""
        return self.passed / self.runs if self.runs else None

    @property
    def steady(self) -> bool:
        """Always passed (or was never run): nothing to look at."""
        return self.passed == self.runs and not self.flaky


@dataclass
class Ledger:
    """Nights, oldest first, and rows: those that need looking at first."""

    nights: list[str]
    rows: list[Row]

    @property
    def unsteady(self) -> list[Row]:
        return [row for row in self.rows if not row.steady]


def night_of(record: Record) -> str:
    return record.night or when(record.started).date().isoformat()


def ledger(records: Iterable[Record], nights: int = NIGHTS) -> Ledger:
    """From all records there are, but those that are somebody's own."""
    known = sorted((one for one in records if one.part != OWN), key=lambda one: when(one.started))
    shown = sorted({night_of(one) for one in known})[-nights:]
    runs: dict[tuple[str, str, str], list[tuple[str, str, Outcome]]] = {}
    for record in known:
        night, tree = night_of(record), record.origin.source.tree
        if night in shown:
            for test in record.tests:
                key = (record.part, test.id, test.card)
                runs.setdefault(key, []).append((night, tree, test.outcome))
    rows = [_row(*key, told) for key, told in runs.items()]
    for row in rows:
        row.cells = {night: row.cells.get(night, "absent") for night in shown}
    rows.sort(key=lambda row: (row.steady, 1.0 if row.rate is None else row.rate, row.part, row.test))
    return Ledger(shown, rows)


def _row(part: str, test: str, card: str, told: Sequence[tuple[str, str, Outcome]]) -> Row:
    row = Row(part, test, card)
    nights: dict[str, dict[str, list[Outcome]]] = {}
    trees: dict[str, list[Outcome]] = {}
    for night, tree, outcome in told:
        nights.setdefault(night, {}).setdefault(tree, []).append(outcome)
        trees.setdefault(tree, []).append(outcome)
        if outcome != "skipped":
            row.runs += 1
            row.passed += outcome not in BAD
    for night, by_tree in nights.items():
        row.cells[night] = _cell(list(by_tree.values()))
    row.flaky = any(_both(outcomes) for outcomes in trees.values())
    return row


def _both(outcomes: Sequence[Outcome]) -> bool:
    """Failed and passed, of the same sources."""
    return any(one in BAD for one in outcomes) and any(one == "passed" for one in outcomes)


def _cell(by_tree: list[list[Outcome]]) -> Cell:
    """Of a night with several states of the sources the last one counts, but flaky stays flaky."""
    last = status_of(by_tree[-1])
    if last in BAD:
        return "failed"
    if any(_both(outcomes) for outcomes in by_tree):
        return "flaky"
    return "skipped" if last == "skipped" else "passed"

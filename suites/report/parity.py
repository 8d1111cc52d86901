"""Emulated against real, test by test. A difference is a defect: of emulator, driver or test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from suites.report.merge import Part, Status, Told

Verdict = Literal["same", "different", "skipped", "missing"]
EMULATED, REAL = "emulated", "real"


@dataclass(frozen=True)
class Pair:
    """A test on both kinds. ``why``: of a skip its reason, of a difference what each says."""

    test: str
    emulated: Told | None
    real: Told | None
    verdict: Verdict
    why: str = ""


@dataclass
class Parity:
    """``kinds``: the kinds there are; with fewer than two there is nothing to compare."""

    kinds: list[str]
    pairs: list[Pair] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[Verdict]:
        return Counter(pair.verdict for pair in self.pairs)


def parity(parts: Sequence[Part]) -> Parity:
    """Of every part that was run on both kinds."""
    kinds = sorted({part.card for part in parts} & {EMULATED, REAL})
    found = Parity(kinds)
    by_part: dict[str, dict[str, Part]] = {}
    for part in parts:
        if part.card in (EMULATED, REAL):
            by_part.setdefault(part.name, {})[part.card] = part
    for name, both in by_part.items():
        if len(both) == 2:
            one, other = both[EMULATED], both[REAL]
            if one.tree != other.tree:
                found.doubts.append(
                    f"{name}: the emulated card was tested with {one.tree}, the real one with {other.tree}:"
                    " a difference may be the sources'"
                )
            for key in dict.fromkeys((*one.tests, *other.tests)):
                # Tests that need no lab are the same test twice.
                pair = _pair(key, one.tests.get(key), other.tests.get(key))
                if pair is not None:
                    found.pairs.append(pair)
    order: dict[Verdict, int] = {"different": 0, "missing": 1, "skipped": 2, "same": 3}
    found.pairs.sort(key=lambda pair: (order[pair.verdict], pair.test))
    return found


def _pair(key: str, emulated: Told | None, real: Told | None) -> Pair | None:
    if not any(one is not None and one.card for one in (emulated, real)):
        return None
    if emulated is None or real is None:
        where = REAL if emulated is None else EMULATED
        return Pair(key, emulated, real, "missing", f"it was run on the {where} card only")
    skipped = [one for one in (emulated, real) if one.status == "skipped"]
    if skipped:
        return Pair(key, emulated, real, "skipped", skipped[0].last.reason)
    if _alike(emulated.status) == _alike(real.status):
        return Pair(key, emulated, real, "same")
    told = [one.shown.reason for one in (emulated, real) if one.shown.reason]
    return Pair(key, emulated, real, "different", told[0] if told else "")


def _alike(status: Status) -> str:
    """A failure is a failure, in whichever phase."""
    return "failed" if status in ("failed", "error", "xpassed", "interrupted") else status

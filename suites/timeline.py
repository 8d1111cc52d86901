"""What a test was at, and for how long: steps with times, for the report.

    with timeline.step("placing 16 namespaces"):
        ...

A step costs microseconds. Outside of a test that is recorded it costs nothing and goes nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from suites.report.record import Step

#: Steps kept of one test; a test that sends ten thousand questions does not make a report of them.
KEPT = 150


@dataclass
class Timeline:
    """The steps of one test so far."""

    began: float = field(default_factory=time.monotonic)
    steps: list[Step] = field(default_factory=list)
    left_out: int = 0
    depth: int = 0


_now: Timeline | None = None


def begin() -> Timeline:
    """From now on steps go to this one."""
    global _now
    _now = Timeline()
    return _now


def current() -> Timeline | None:
    """Where steps go now."""
    return _now


def end() -> None:
    """From now on steps go nowhere."""
    global _now
    _now = None


@contextmanager
def step(name: str) -> Iterator[None]:
    """Note what goes on, and how long it took; also when it fails."""
    line = _now
    if line is None:
        yield
        return
    if len(line.steps) >= KEPT:
        line.left_out += 1
        yield
        return
    started = time.monotonic()
    this = Step(name, round(started - line.began, 4), 0.0, line.depth)
    line.steps.append(this)
    line.depth += 1
    try:
        yield
    finally:
        line.depth -= 1
        this.seconds = round(time.monotonic() - started, 4)

"""The card's free-running 64-bit counter.

All arithmetic is in whole numbers so that the C core (``lab/core/clock.c``) gives the very same ticks.
Source: reference/exanic-hardware.md sections 3 and 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_FRACTION = 48
_MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class ClockState:
    """The counter as a line: at ``origin_ns`` it was ``base`` + ``fraction``/2^48 and goes up ``step``/2^48 a
    nanosecond."""

    base: int
    fraction: int
    origin_ns: int
    step: int

    def at(self, now_ns: int) -> tuple[int, int]:
        """Counter (64 bits) and fraction at a time not before the origin."""
        total = self.fraction + max(0, now_ns - self.origin_ns) * self.step
        return self.base + (total >> _FRACTION) & _MASK64, total & (1 << _FRACTION) - 1


class Clock:
    """Counter at ``hz`` ticks per second over a nanosecond time source that never goes back."""

    def __init__(self, hz: int, now_ns: Callable[[], int]) -> None:
        self.hz = hz
        self._now_ns = now_ns
        self._nominal = (hz << _FRACTION) // 1_000_000_000
        self.state = ClockState(0, 0, now_ns(), self._nominal)

    def ticks(self) -> int:
        """The counter now, 64 bits."""
        return self.state.at(self._now_ns())[0]

    def set(self, ticks: int) -> None:
        """Load the counter."""
        self.state = ClockState(ticks & _MASK64, 0, self._now_ns(), self.state.step)

    def adjust(self, ticks: int, add: bool, extended: int) -> None:
        """Change the rate: one tick more (``add``) or less every ``ticks`` (0: none), and ``extended``
        parts per 2^40 (signed)."""
        step = self._nominal
        if ticks:
            step += self._nominal // ticks if add else -(self._nominal // ticks)
        step += (self._nominal * extended) >> 40
        now = self._now_ns()
        base, fraction = self.state.at(now)
        self.state = ClockState(base, fraction, now, max(0, step))

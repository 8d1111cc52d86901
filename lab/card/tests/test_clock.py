"""The counter's arithmetic."""

from __future__ import annotations

from lab.card.clock import Clock


class Time:
    """A time source that stands still until told."""

    now = 1_000

    def __call__(self) -> int:
        return self.now


def test_rate_and_wrap() -> None:
    """A second is CLK_HZ ticks (to 2^-48 per nanosecond), also across the end of 64 bits."""
    time = Time()
    clock = Clock(250_000_000, time)
    clock.set(2**64 - 1)
    time.now += 1_000_000_000
    assert clock.ticks() == 250_000_000 - 1


def test_coarse_adjustment() -> None:
    """One tick more or less every n."""
    time = Time()
    clock = Clock(250_000_000, time)
    clock.adjust(1000, True, 0)
    time.now += 1_000_000_000
    fast = clock.ticks()
    assert abs(fast - 250_250_000) <= 1
    clock.adjust(1000, False, 0)
    time.now += 1_000_000_000
    assert abs(clock.ticks() - fast - 249_750_000) <= 1


def test_fine_adjustment() -> None:
    """Parts per 2^40: 1 ppm is 1099512."""
    time = Time()
    clock = Clock(250_000_000, time)
    clock.adjust(0, False, -1_099_512)
    time.now += 1_000_000_000
    assert abs(clock.ticks() - 249_999_750) <= 1

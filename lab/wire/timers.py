"""Things that happen later, on one descriptor that an event loop can watch.

A kernel timer (timerfd) is set to the earliest entry, so the loop needs no time-out of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_CLOCK_MONOTONIC = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec`` of timerfd_settime(2) on 64-bit Linux."""

    _fields_ = [
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    ]


@dataclass(order=True)
class Timer:
    """One thing to do at ``due`` (monotonic nanoseconds). ``cancel`` makes it never happen."""

    due: int
    number: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Do not do it."""
        self.cancelled = True


class Timers:
    """A heap of timers behind one descriptor."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._numbers = itertools.count()
        self._fd = int(_libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def fileno(self) -> int:
        """The descriptor that becomes readable when :meth:`run_due` has something to do."""
        return self._fd

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` once, ``seconds`` from now."""
        timer = Timer(time.monotonic_ns() + int(seconds * 1e9), next(self._numbers), action)
        heapq.heappush(self._heap, timer)
        if self._heap[0] is timer:
            self._arm()
        return timer

    def run_due(self) -> int:
        """Do everything that is due; returns how many. Timers set by an action wait for the next call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        now = time.monotonic_ns()
        due: list[Timer] = []
        while self._heap and self._heap[0].due <= now:
            due.append(heapq.heappop(self._heap))
        ran = 0
        for timer in due:
            if not timer.cancelled:
                timer.action()
                ran += 1
        self._arm()
        return ran

    def close(self) -> None:
        """Forget everything and give the descriptor back."""
        self._heap.clear()
        os.close(self._fd)

    def _arm(self) -> None:
        while self._heap and self._heap[0].cancelled:
            heapq.heappop(self._heap)
        # An absolute time in the past fires at once; zero would disarm.
        due = max(1, self._heap[0].due) if self._heap else 0
        spec = _TimerSpec(0, 0, due // 1_000_000_000, due % 1_000_000_000)
        if _libc.timerfd_settime(self._fd, 1, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

"""The daemon's event loop: descriptors and timers, one thread, no magic."""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

#: Called with the ready events (:data:`READ`, :data:`WRITE`).
Callback = Callable[[int], None]


@dataclass(order=True)
class Timer:
    """One call in the future; :meth:`cancel` makes it never happen."""

    when: float
    serial: int
    call: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Level-triggered descriptors and one-shot timers. Everything runs in the thread that calls it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._serial = itertools.count()
        self._stopped = False

    def watch(self, fd: int, callback: Callback, events: int = READ) -> None:
        """Call ``callback(events)`` whenever ``fd`` is ready."""
        self._selector.register(fd, events, callback)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on a watched descriptor."""
        key = self._selector.get_key(fd)
        if key.events != events:
            self._selector.modify(fd, events, key.data)

    def forget(self, fd: int) -> None:
        """Stop watching; before the descriptor is closed, please. Unknown descriptors are fine."""
        if fd >= 0 and fd in self._selector.get_map():
            self._selector.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, ``seconds`` from now."""
        timer = Timer(time.monotonic() + seconds, next(self._serial), call)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Make :meth:`run` return after the current round. Safe in a signal handler."""
        self._stopped = True

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        while not self._stopped:
            self.turn()

    def turn(self, limit: float | None = None) -> None:
        """One round: wait for the first event, at most ``limit`` seconds, and serve what is ready."""
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if self._timers:
            due = max(0.0, self._timers[0].when - time.monotonic())
            limit = due if limit is None else min(limit, due)
        for key, events in self._selector.select(limit):
            # An earlier callback of this round may have closed this one's descriptor.
            if self._selector.get_map().get(key.fd) is key:
                key.data(events)
        if self._timers:
            self._fire(time.monotonic())

    def close(self) -> None:
        self._selector.close()

    def _fire(self, now: float) -> None:
        while self._timers and self._timers[0].when <= now:
            timer = heapq.heappop(self._timers)
            call, timer.call = timer.call, None
            if call is not None:
                call()

"""The daemon's event loop: descriptors and timers, one thread, no magic."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field

#: Numbers of epoll(7); a closed or broken descriptor is reported as readable.
READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_TROUBLE = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP

#: Called with the ready events (:data:`READ`, :data:`WRITE`).
Callback = Callable[[int], None]
#: Like ``select.epoll.poll``: (descriptor of the epoll, seconds or None) -> ready descriptors.
Wait = Callable[[int, float | None], list[tuple[int, int]]]


@dataclass(order=True)
class Timer:
    """One call in the future; :meth:`cancel` makes it never happen."""

    when: float
    serial: int
    call: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        self.call = None


@dataclass
class _Watch:
    callback: Callback
    events: int


class Loop:
    """Level-triggered descriptors and one-shot timers. Everything runs in the thread that calls it.

    ``wait`` replaces the system call that waits, for what serves some descriptors below Python
    (:mod:`lab.vfio_user.pump`).
    """

    def __init__(self, wait: Wait | None = None) -> None:
        self._epoll = select.epoll()
        self._wait = wait
        self._watches: dict[int, _Watch] = {}
        self._timers: list[Timer] = []
        self._serial = itertools.count()
        self._stopped = False

    def watch(self, fd: int, callback: Callback, events: int = READ) -> None:
        """Call ``callback(events)`` whenever ``fd`` is ready."""
        self._epoll.register(fd, events)
        self._watches[fd] = _Watch(callback, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on a watched descriptor."""
        entry = self._watches[fd]
        if entry.events != events:
            self._epoll.modify(fd, events)
            entry.events = events

    def forget(self, fd: int) -> None:
        """Stop watching; before the descriptor is closed, please. Unknown descriptors are fine."""
        if self._watches.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

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
        ready = self._wait(self._epoll.fileno(), limit) if self._wait else self._epoll.poll(limit)
        # An earlier callback of this round may have closed a later one's descriptor, and a new one may
        # have got its number: only those that were watched when the round began are served.
        entries = [(fd, events, self._watches.get(fd)) for fd, events in ready]
        for fd, events, entry in entries:
            if entry is not None and self._watches.get(fd) is entry:
                entry.callback(events & WRITE | (READ if events & (READ | _TROUBLE) else 0))
        if self._timers:
            self._fire(time.monotonic())

    def close(self) -> None:
        self._epoll.close()

    def _fire(self, now: float) -> None:
        while self._timers and self._timers[0].when <= now:
            timer = heapq.heappop(self._timers)
            call, timer.call = timer.call, None
            if call is not None:
                call()

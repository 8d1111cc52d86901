"""The C message pump, seen from Python: which sockets it serves, and what it leaves for Python.

The pump (lab/core/pump.c) answers reads and writes of registers that live in the core, on the sockets it
was given, inside the loop's wait. It hands every other message over as far as it was read, with its
descriptors; the session goes on with it as if there were no pump.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from lab.core.library import Library, load
from lab.vfio_user.access import Access

#: Sockets served by one set; more are left to Python.
MAX_PUMPS = 16
_EVENTS = 64
#: Accesses kept by a pump's log: 400 kB, and a second or so of full traffic.
LOG_ROOM = 16384
#: Messages per call from Python; the C loop has its own.
_BUDGET = 64


@dataclass(frozen=True)
class Handed:
    """A message for Python: its first bytes, and the descriptors that came with them."""

    data: bytes
    fds: list[int]


@dataclass(frozen=True)
class Stalled:
    """The rest of a reply that the socket did not take."""

    data: bytes


class Pump:
    """One socket and the core's card behind it."""

    def __init__(self, library: Library, card: Any, fd: int, window: int, spin_ns: int = 0) -> None:
        self._library = library
        self.raw = library.ffi.new("struct exa_pump *")
        self.raw.card = card
        self.raw.fd = fd
        self.raw.window = window
        self.raw.spin_ns = spin_ns
        self.raw.result = library.lib.EXA_PUMP_IDLE
        self._log: Any = None

    def log(self, on: bool) -> None:
        """Keep the last accesses that are served here, from an empty log; or stop."""
        self._log = self._library.ffi.new("struct exa_pump_access[]", LOG_ROOM) if on else None
        self.raw.logged = 0
        self.raw.log_room = LOG_ROOM
        self.raw.log = self._log if on else self._library.ffi.NULL

    def accesses(self) -> list[Access]:
        """What the log has, oldest first."""
        if self._log is None:
            return []
        total = int(self.raw.logged)
        entries = (self._log[at % LOG_ROOM] for at in range(max(0, total - LOG_ROOM), total))
        return [
            Access(
                int(one.ns),
                "w" if one.write else "r",
                0,
                int(one.offset),
                int(one.value).to_bytes(4, "little"),
            )
            for one in entries
        ]

    @property
    def paused(self) -> bool:
        """While true the loop's wait leaves the socket to Python."""
        return bool(self.raw.paused)

    @paused.setter
    def paused(self, on: bool) -> None:
        self.raw.paused = on

    @property
    def served(self) -> int:
        """Messages answered in C so far."""
        return int(self.raw.reads + self.raw.writes)

    def take(self) -> Handed | Stalled | None:
        """What the last run inside the loop's wait left for Python."""
        lib, raw = self._library.lib, self.raw
        result, raw.result = raw.result, lib.EXA_PUMP_IDLE
        return self._outcome(result)

    def run(self) -> Handed | Stalled | None:
        """Serve what is there; None when nothing is left to read now.

        Raises EOFError at the end of the stream, OSError when it broke (descriptors are closed then).
        """
        lib, raw = self._library.lib, self.raw
        result = lib.exa_pump_run(raw, _BUDGET)
        raw.result = lib.EXA_PUMP_IDLE
        return self._outcome(result)

    def _outcome(self, result: int) -> Handed | Stalled | None:
        lib, ffi, raw = self._library.lib, self._library.ffi, self.raw
        if result == lib.EXA_PUMP_HANDED:
            handed = Handed(bytes(ffi.buffer(raw.data, raw.used)), list(raw.fds[0 : raw.fd_count]))
            raw.used = raw.fd_count = 0
            return handed
        if result == lib.EXA_PUMP_STALLED:
            return Stalled(bytes(ffi.buffer(raw.reply, raw.reply_size))[raw.reply_sent :])
        if result == lib.EXA_PUMP_END:
            raise EOFError("the client closed the connection")
        if result == lib.EXA_PUMP_BROKEN:
            raise ConnectionError(raw.error, os.strerror(raw.error))
        return None


class PumpSet:
    """The pumps of one loop; :meth:`wait` takes the place of the loop's ``epoll.poll``."""

    def __init__(self, spin_ns: int = 0) -> None:
        self._library = load()
        self._spin_ns = spin_ns
        self._pumps: list[Pump] = []
        self._array = self._library.ffi.new("struct exa_pump *[]", MAX_PUMPS)
        self._events = self._library.ffi.new("struct exa_pump_event[]", _EVENTS)

    def add(self, card: Any, fd: int, window: int) -> Pump:
        """Serve ``card`` (the core's pointer) on a connected socket; ``window`` is the size of BAR0."""
        pump = Pump(self._library, card, fd, window, self._spin_ns)
        self._pumps.append(pump)
        self._refresh()
        return pump

    def remove(self, pump: Pump) -> None:
        """Leave the socket to Python; before it is closed, please."""
        if pump in self._pumps:
            self._pumps.remove(pump)
            self._refresh()

    def __contains__(self, pump: Pump) -> bool:
        return pump in self._pumps

    def wait(self, epoll_fd: int, seconds: float | None) -> list[tuple[int, int]]:
        """Ready descriptors that need Python, as ``select.epoll.poll`` gives them."""
        # Rounded up: a timer that is due in half a millisecond must not make the loop spin.
        timeout = -1 if seconds is None or seconds < 0 else min(int(seconds * 1000 + 0.999), 2**31 - 1)
        count = min(len(self._pumps), MAX_PUMPS)
        lib, events = self._library.lib, self._events
        found = lib.exa_pump_wait(self._array, count, epoll_fd, timeout, events, _EVENTS)
        if found < 0:
            raise OSError(-found, os.strerror(-found))
        return [(events[at].fd, events[at].events) for at in range(found)]

    def _refresh(self) -> None:
        for at, pump in enumerate(self._pumps[:MAX_PUMPS]):
            self._array[at] = pump.raw

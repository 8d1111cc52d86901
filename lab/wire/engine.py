"""What carries frames: the seam between a fabric and its data path, and the one in Python.

The other is :class:`lab.core.engine.CoreEngine`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from lab.card.datapath import PythonPlane
from lab.card.models import Model
from lab.card.plane import CardPlane
from lab.card.transmit import TxMemory
from lab.wire.capture import FLUSH_AFTER_S, SEGMENT_SIZE, Capture
from lab.wire.timers import Timers
from lab.wire.wire import Wire


class Engine(Protocol):
    """What differs between the Python data path and the C core."""

    wire: Wire

    def plane(self, name: str, model: Model, tx_memory: TxMemory) -> CardPlane:
        """The data path of a new card; its ports are attached to the wire as ``name:P``."""

    def flush(self) -> None:
        """Make what was captured visible."""

    def dropped(self) -> int:
        """Frames that Python was too slow to take from the data path."""

    def captures_lost(self) -> int:
        """Captures that were given up because their file could not be written."""

    def fileno(self) -> int | None:
        """Descriptor that is ready when :meth:`poll` has something to do, if there is one."""

    def poll(self) -> None:
        """Do what the data path left for Python."""

    def close(self) -> None:
        """Give everything back."""


class PythonEngine:
    """Everything in Python."""

    def __init__(
        self,
        seed: int,
        timers: Timers,
        capture_dir: Path | None,
        capture_limit: int = SEGMENT_SIZE,
        now_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.wire = Wire(seed, timers)
        self._timers = timers
        self._captures: list[Capture] = []
        self._capture_dir = capture_dir
        self._capture_limit = capture_limit
        self._now_ns = now_ns
        self._wall_ns = wall_ns
        self._flush_planned = False

    def plane(self, name: str, model: Model, tx_memory: TxMemory) -> CardPlane:
        """See Engine."""
        plane = PythonPlane(tx_memory.memory, self._now_ns, self._timers)
        for number, region in enumerate(tx_memory.regions(model.ports)):
            end = f"{name}:{number}"
            port = plane.add_port(region, self._sender(end), self._capture(end))
            self.wire.attach(end, port.receive, ready=False, speed=model.speeds[0])
        return plane

    def flush(self) -> None:
        """See Engine."""
        self._flush_planned = False
        for capture in self._captures:
            capture.flush()

    def dropped(self) -> int:
        """See Engine."""
        return 0

    def captures_lost(self) -> int:
        """See Engine."""
        return sum(1 for capture in self._captures if capture.failed)

    def fileno(self) -> int | None:
        """See Engine: Python leaves nothing for later."""
        return None

    def poll(self) -> None:
        """See Engine."""

    def close(self) -> None:
        """See Engine."""
        self.flush()

    def _sender(self, end: str) -> Callable[[bytes], None]:
        return lambda frame: self.wire.send(end, frame)

    def _capture(self, end: str) -> Capture | None:
        if self._capture_dir is None:
            return None
        path = self._capture_dir / f"{end.replace(':', '-')}.pcapng"
        capture = Capture(path, end, self._wall_ns, self._dirty, self._capture_limit)
        self._captures.append(capture)
        return capture

    def _dirty(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._timers.after(FLUSH_AFTER_S, self.flush)

"""The wire and the cards of a lab with their hot paths in C.

Where a rule applies or an end is outside the core (a tester), the core leaves a note; :meth:`CoreEngine.poll`
carries the notes out with the same Python code as the oracle.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.card.models import Model
from lab.card.plane import CardPlane
from lab.card.transmit import TxMemory
from lab.core.library import load
from lab.core.plane import CorePlane
from lab.wire.capture import FLUSH_AFTER_S, SEGMENT_SIZE, preamble
from lab.wire.frame import MAX_FRAME
from lab.wire.segments import Cable, Switch
from lab.wire.switch import SwitchCounters
from lab.wire.timers import Timers
from lab.wire.wire import End, EndCounters, Wire, ignore_link

#: Notes carried out before the event loop gets its turn again.
_NOTES_A_POLL = 4096


class CoreWire(Wire):
    """The wire in C; what it knows of ends, links and rules is kept the same as here."""

    def __init__(self, seed: int, timers: Timers, ffi: Any, lib: Any, core: Any) -> None:
        super().__init__(seed, timers)
        self._ffi = ffi
        self._lib = lib
        self._core = core
        self._numbers: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self._switch_numbers: dict[str, int] = {}

    def attach(
        self,
        name: str,
        receive: Callable[[bytes], None],
        on_link: Callable[[bool], None] = ignore_link,
        ready: bool = True,
        speed: int | None = None,
    ) -> None:
        """See Wire."""
        number = int(self._lib.exa_end_add(self._core))
        if number < 0:
            raise MemoryError("no memory for another end in the core")
        self._numbers[name] = number
        self.names[number] = name
        super().attach(name, receive, on_link, ready, speed)

    def number(self, name: str) -> int:
        """The core's number of an end."""
        return self._numbers[name]

    def detach(self, name: str) -> None:
        """See Wire."""
        super().detach(name)
        number = self._numbers.pop(name)
        del self.names[number]
        self._lib.exa_end_remove(self._core, number)

    def send(self, name: str, frame: bytes) -> None:
        """See Wire."""
        self._lib.exa_wire_send(self._core, self._numbers[name], frame, len(frame))

    def counters(self) -> dict[str, dict[str, Any]]:
        """See Wire."""
        values = self._ffi.new("uint64_t[5]")
        for name, end in self.ends.items():
            self._lib.exa_end_counters(self._core, self._numbers[name], values)
            end.counters = EndCounters(*map(int, values))
        return super().counters()

    def _switch_counters(self, end: str) -> dict[str, Any]:
        values = self._ffi.new("uint64_t[3]")
        self._lib.exa_switch_counters(self._core, self._switch_numbers[end], values)
        return asdict(SwitchCounters(*map(int, values)))

    def _forward(self, name: str, frame: bytes) -> None:
        if name in self._numbers:
            self._lib.exa_wire_forward(self._core, self._numbers[name], frame, len(frame))

    def _arrive(self, name: str, frame: bytes) -> None:
        if name in self._numbers:
            self._lib.exa_wire_arrive(self._core, self._numbers[name], frame, len(frame))

    def _rewired(self) -> None:
        self._lib.exa_wire_clear(self._core)
        self._switch_numbers.clear()
        for segment in self.wiring.segments:
            if isinstance(segment, Cable):
                first, second = segment.ends
                self._lib.exa_wire_cable(self._core, self._numbers[first], self._numbers[second])
            else:
                self._add_switch(segment)

    def _add_switch(self, segment: Switch) -> None:
        number = int(self._lib.exa_switch_add(self._core))
        if number < 0:
            raise MemoryError("no memory for another switch in the core")
        for port in segment.ports:
            tagged = self._ffi.NULL
            if port.tagged != "all":
                bits = bytearray(512)
                for vlan in port.tagged:
                    bits[vlan // 8] |= 1 << vlan % 8
                tagged = bytes(bits)
            end = self._numbers[port.end]
            if self._lib.exa_switch_plug(self._core, number, end, port.pvid or 0, tagged) < 0:
                raise MemoryError("no memory for another switch port in the core")
            self._switch_numbers[port.end] = number

    def _carrier_changed(self, end: End) -> None:
        self._lib.exa_end_set_carrier(self._core, self._numbers[end.name], end.carrier)

    def _ruled(self, end: End) -> None:
        number = self._numbers[end.name]
        self._lib.exa_end_set_rules(self._core, number, "tx" in end.rules, "rx" in end.rules)

    def carry_out(self, kind: int, number: int, frame: bytes) -> None:
        """Do what a note of the core asks for. An end that is gone by now loses the frame."""
        name = self.names.get(number)
        if name is None:
            return
        end = self.ends[name]
        if kind == self._lib.EXA_NOTE_DELIVER:
            end.receive(frame)
            return
        direction, leave = (
            ("tx", self._forward) if kind == self._lib.EXA_NOTE_TX_RULES else ("rx", self._arrive)
        )
        ruleset = end.rules.get(direction)
        if ruleset is not None:
            ruleset.process(frame)
        else:
            leave(name, frame)


class CoreEngine:
    """Implements :class:`lab.wire.engine.Engine` over the C core. ``pointer`` is its ``struct exa_core``."""

    def __init__(
        self, seed: int, timers: Timers, capture_dir: Path | None, capture_limit: int = SEGMENT_SIZE
    ) -> None:
        self._library = load()
        self._ffi, self._lib = self._library.ffi, self._library.lib
        self._timers = timers
        self._capture_dir = capture_dir
        self._capture_limit = capture_limit
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.pointer = self._lib.exa_core_new(self._wake)
        if self.pointer == self._ffi.NULL:
            raise MemoryError("no memory for the core")
        self._wire = CoreWire(seed, timers, self._ffi, self._lib, self.pointer)
        self.wire: Wire = self._wire
        self._planes: list[CorePlane] = []
        self._note = self._ffi.new("struct exa_note *")
        self._frame = self._ffi.new(f"uint8_t[{MAX_FRAME}]")
        self._flush_planned = False

    def plane(self, name: str, model: Model, tx_memory: TxMemory) -> CardPlane:
        """See Engine."""
        plane = CorePlane(self._library, self.pointer, model, tx_memory, self._timers)
        self._planes.append(plane)
        for number, region in enumerate(tx_memory.regions(model.ports)):
            end = f"{name}:{number}"
            self._wire.attach(end, plane.ports[number].receive, ready=False, speed=model.speeds[0])
            self._lib.exa_port_attach(
                plane.pointer, number, self._wire.number(end), region.offset, region.size
            )
            self._open_capture(plane, number, end)
        return plane

    def flush(self) -> None:
        """See Engine."""
        self._flush_planned = False
        self._lib.exa_capture_flush(self.pointer)

    def set_time(self, monotonic_ns: int, wall_ns: int) -> None:
        """For tests: time stands still at these values."""
        self._lib.exa_core_set_time(self.pointer, monotonic_ns, wall_ns)

    def fileno(self) -> int | None:
        """See Engine."""
        return self._wake

    def dropped(self) -> int:
        """Frames that Python was too slow to take from the core."""
        return int(self._lib.exa_outbox_dropped(self.pointer))

    def captures_lost(self) -> int:
        """See Engine."""
        return int(self._lib.exa_captures_lost(self.pointer))

    def poll(self, notes: int = _NOTES_A_POLL) -> None:
        """See Engine; carries out at most ``notes`` notes."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 8)
        if self._lib.exa_capture_dirty(self.pointer) and not self._flush_planned:
            self._flush_planned = True
            self._timers.after(FLUSH_AFTER_S, self.flush)
        note, frame = self._note, self._frame
        for _ in range(notes):
            if not self._lib.exa_outbox_take(self.pointer, note, frame, MAX_FRAME):
                return
            if note.kind == self._lib.EXA_NOTE_INTERRUPT:
                self._planes[note.end].interrupt_later()
            else:
                data = self._ffi.buffer(frame, note.length)[:]
                self._wire.carry_out(note.kind, note.end, data)
        self._lib.exa_core_wake(self.pointer)

    def close(self) -> None:
        """See Engine. The cards' memory may be given back after this."""
        self.flush()
        for plane in self._planes:
            plane.dma_unmap_all()
        self._lib.exa_core_free(self.pointer)
        for plane in self._planes:
            plane.release()
        os.close(self._wake)

    def _open_capture(self, plane: CorePlane, port: int, end: str) -> None:
        if self._capture_dir is None:
            return
        # A directory that cannot be made is noticed when the file in it is opened.
        with contextlib.suppress(OSError):
            self._capture_dir.mkdir(parents=True, exist_ok=True)
        path = self._capture_dir / f"{end.replace(':', '-')}.pcapng"
        head = preamble(end)
        self._lib.exa_capture_open(
            plane.pointer,
            port,
            os.fsencode(path),
            os.fsencode(path.with_suffix(".1.pcapng")),
            head,
            len(head),
            self._capture_limit,
        )

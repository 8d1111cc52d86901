"""The data path in Python: readable, and the oracle of the C core. Source: reference sections 5, 7 and 8."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.card.clock import ClockState
from lab.card.dma import DmaTable
from lab.card.layout import (
    MAX_FRAME,
    MIN_FRAME,
    RX_POSITIONS,
    TX_COMMAND_BYTES,
    TX_FEEDBACK_SLOTS,
    TX_NO_FEEDBACK,
    TX_PADDING,
    TX_TYPE_RAW,
    RxStatus,
)
from lab.card.plane import COUNTERS, CardPlane, InterruptFault, PortPlane, PortSettings
from lab.card.ring import RxRing
from lab.card.transmit import TxRegion, fetch
from lab.wire.capture import INBOUND, OUTBOUND, Capture
from lab.wire.frame import RUNT, fcs, intact
from lab.wire.timers import Timers
from lab.wire.wire import LOOP_LIMIT

_ARM = 1 << 31
_ONE = (1).to_bytes(8, "little")
_MASK32 = 0xFFFFFFFF
#: The counters that a write to the port's statistics reset register zeroes.
HARDWARE_COUNTERS = COUNTERS[:5]


@dataclass
class PythonPort(PortPlane):
    """One port: TX from chunks in BAR2, RX to a ring in guest memory."""

    card: PythonPlane
    region: TxRegion
    send: Callable[[bytes], None]
    capture: Capture | None
    settings: PortSettings = field(default_factory=PortSettings)
    ring: RxRing | None = None
    irq_config: int = 0
    last_time: int = 0
    spoiled: tuple[int, int] = (0, 0)
    stalled: bool = False
    commands: list[int] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))

    def configure(self, settings: PortSettings) -> None:
        self.settings = settings

    def start(self, ring: int) -> None:
        self.ring = RxRing(ring)

    def stop(self) -> None:
        self.ring = None

    def arm(self, value: int) -> None:
        self.irq_config = value
        self._interrupt_if_written()

    def armed(self) -> int:
        return self.irq_config

    def transmit(self, offset: int) -> None:
        if not self.card.present:
            return
        if not self.stalled:
            self._serve(offset)
        elif len(self.commands) < self.region.size // TX_COMMAND_BYTES:
            self.commands.append(offset)
        else:
            self.values["tx_bad_command"] += 1

    def stall(self, stalled: bool) -> None:
        self.stalled = stalled
        if not stalled:
            for offset in self.commands if self.card.present else ():
                self._serve(offset)
            self.forget()

    def forget(self) -> None:
        self.commands.clear()

    def _serve(self, offset: int) -> None:
        chunk = fetch(self.card.tx_memory, self.region, offset)
        if chunk is None:
            self.values["tx_bad_command"] += 1
            return
        frame = chunk.payload[TX_PADDING:]
        if chunk.kind == TX_TYPE_RAW and frame:
            self._send(frame)
        else:
            self.values["tx_bad_chunk"] += 1
        if not chunk.feedback_slot & TX_NO_FEEDBACK:
            self.card.feed_back(chunk.feedback_slot, chunk.feedback_id)

    def receive(self, frame: bytes, status: int = 0) -> None:
        if not (self.settings.link or self.settings.loopback):
            self.values["rx_no_link"] += 1
            return
        if not RUNT <= len(frame) <= MAX_FRAME:
            self.values["rx_error"] += 1
            return
        status = self._judge(frame, status)
        if self.capture is not None:
            self.capture.write(frame, INBOUND, status == RxStatus.BAD_CRC)
        stamp = self.card.ticks() & _MASK32
        self._deliver(frame, stamp, status)
        if status == RxStatus.GOOD:
            self.card.pass_on(self, frame)

    def spoil(self, status: int, count: int) -> None:
        self.spoiled = (status, count)

    def last_sent(self) -> int:
        return self.last_time

    def counters(self) -> dict[str, int]:
        return dict(self.values)

    def reset_counters(self) -> None:
        for name in HARDWARE_COUNTERS:
            self.values[name] = 0

    def emit(self, frame: bytes) -> bool:
        """Put a finished frame (with FCS) on the wire; False when there is no link, or a loop."""
        if not (self.settings.link or self.settings.loopback) or self.card.depth >= LOOP_LIMIT:
            self.values["tx_no_link"] += 1
            return False
        if self.capture is not None:
            self.capture.write(frame, OUTBOUND)
        self.last_time = self.card.ticks() & _MASK32
        self._count("tx")
        # Bridged ports in loopback would send one frame for ever.
        self.card.depth += 1
        try:
            if self.settings.loopback:
                self.receive(frame)
            else:
                self.send(frame)
        finally:
            self.card.depth -= 1
        return True

    def _send(self, frame: bytes) -> None:
        if self.settings.pad and len(frame) < MIN_FRAME:
            frame = frame.ljust(MIN_FRAME, b"\0")
        if self.settings.crc:
            frame += fcs(frame)
        if not RUNT <= len(frame) <= MAX_FRAME:
            self.values["tx_bad_chunk"] += 1
            return
        if self.emit(frame) and self.settings.mirror_tx:
            self.card.mirror(self, frame)

    def _judge(self, frame: bytes, status: int) -> int:
        forced, count = self.spoiled
        if count:
            self.spoiled = (forced, count - 1)
            return forced
        if status == RxStatus.GOOD and not intact(frame):
            return RxStatus.BAD_CRC
        return status

    def _deliver(self, frame: bytes, stamp: int, status: int) -> None:
        settings = self.settings
        wanted = settings.promiscuous or bool(frame[0] & 1) or frame[:6] == settings.mac
        taken = wanted and self.ring is not None and self.card.present
        if taken and self.ring is not None:
            self.ring.write(self.card.dma, frame, stamp, status)
        if status == RxStatus.OVERFLOW:
            self._count("rx_dropped")
        elif status != RxStatus.GOOD:
            self._count("rx_error")
        else:
            self._count("rx" if taken else "rx_ignored")
        if taken:
            self._interrupt_if_written()

    def _interrupt_if_written(self) -> None:
        if self.irq_config & _ARM and self.ring and self.ring.written(self.irq_config % RX_POSITIONS):
            self.irq_config &= ~_ARM
            self.values["interrupts"] += 1
            self.card.interrupt()

    def _count(self, name: str) -> None:
        self.values[name] = self.values[name] + 1 & _MASK32


class PythonPlane(CardPlane):
    """The data path of a card, in Python.

    ``tx_memory`` is BAR2; ``now_ns`` the time source of the clock; ``timers`` serve interrupt faults.
    """

    def __init__(self, tx_memory: mmap.mmap, now_ns: Callable[[], int], timers: Timers | None) -> None:
        self.tx_memory = tx_memory
        self.dma = DmaTable()
        self.present = True
        self.depth = 0
        self.ports: list[PortPlane] = []
        self._paths: list[PythonPort] = []
        self._now_ns = now_ns
        self._timers = timers
        self._clock = ClockState(0, 0, now_ns(), 0)
        self._feedback = 0
        self._msi: int | None = None
        self._undelivered = False
        self._fault: InterruptFault | None = None
        self._faulted_interrupts = 0
        self._mirror_output: int | None = None
        self._bridge = False

    def add_port(
        self, region: TxRegion, send: Callable[[bytes], None], capture: Capture | None
    ) -> PythonPort:
        """Another port, with its part of BAR2; ``send`` puts its frames on the wire."""
        port = PythonPort(self, region, send, capture)
        self.ports.append(port)
        self._paths.append(port)
        return port

    def dma_map(self, iova: int, size: int, memory: mmap.mmap, prot: int) -> None:
        self.dma.map(iova, size, memory, prot)

    def dma_unmap(self, iova: int, size: int) -> None:
        self.dma.unmap(iova, size)

    def dma_unmap_all(self) -> None:
        self.dma.clear()

    def dma_faults(self) -> int:
        return self.dma.faults

    def faulted_interrupts(self) -> int:
        return self._faulted_interrupts

    def set_msi(self, eventfd: int | None) -> None:
        self._msi = eventfd
        if eventfd is not None and self._undelivered:
            self._undelivered = False
            self._signal()

    def set_interrupt_fault(self, fault: InterruptFault | None) -> None:
        self._fault = fault

    def set_feedback(self, base: int) -> None:
        self._feedback = base

    def set_clock(self, state: ClockState) -> None:
        self._clock = state

    def set_mirror(self, output: int | None, bridge: bool) -> None:
        self._mirror_output = output
        self._bridge = bridge

    def set_present(self, present: bool) -> None:
        self.present = present

    def publish(self, address: int, value: int) -> None:
        """Nothing to do: the register file is Python's own."""

    def withdraw_interrupt(self) -> None:
        self._undelivered = False

    def ticks(self) -> int:
        """The counter now."""
        return self._clock.at(self._now_ns())[0]

    def feed_back(self, slot: int, feedback_id: int) -> None:
        """Tell the guest that a chunk is done with."""
        if slot < TX_FEEDBACK_SLOTS:
            self.dma.write(self._feedback + 2 * slot, feedback_id.to_bytes(2, "little"))
        else:
            self.dma.faults += 1

    def mirror(self, source: PythonPort, frame: bytes) -> None:
        """Send a copy of a frame of ``source`` out of the mirror port, unless that is the source."""
        if self._mirror_output is None or self._mirror_output >= len(self._paths):
            return
        output = self._paths[self._mirror_output]
        if output is not source:
            output.emit(frame)

    def pass_on(self, source: PythonPort, frame: bytes) -> None:
        """What a good received frame causes besides its delivery: mirroring and bridging."""
        if source.settings.mirror_rx:
            self.mirror(source, frame)
        if self._bridge and len(self._paths) > 1 and source in self._paths[:2]:
            self._paths[1 if source is self._paths[0] else 0].emit(frame)

    def interrupt(self) -> None:
        """Raise the card's one interrupt, or do what the fault says instead."""
        fault = self._fault
        if fault is not None:
            self._faulted_interrupts += 1
        if fault is None:
            self._signal()
            return
        if fault.lose:
            return
        for _ in range(1 + fault.repeat):
            if fault.delay_s and self._timers is not None:
                self._timers.after(fault.delay_s, self._signal)
            else:
                self._signal()

    def _signal(self) -> None:
        if not self.present:
            return
        if self._msi is None:
            self._undelivered = True
            return
        with contextlib.suppress(BlockingIOError):
            os.write(self._msi, _ONE)

"""A card's data path in C, seen from Python: :class:`lab.card.plane.CardPlane` over the core."""

from __future__ import annotations

import mmap
from typing import Any

from lab.card import registers as reg
from lab.card.clock import ClockState
from lab.card.models import Model
from lab.card.plane import COUNTERS, CardPlane, InterruptFault, PortPlane, PortSettings
from lab.card.register_table import Register
from lab.card.transmit import TxMemory
from lab.core.library import Library
from lab.vfio_user.device import DMA_WRITE
from lab.wire.timers import Timers

_STATS = (reg.STATS_TX, reg.STATS_RX, reg.STATS_RX_IGNORED, reg.STATS_RX_ERROR, reg.STATS_RX_DROPPED)


class CorePort(PortPlane):
    """One port of the core."""

    def __init__(self, library: Library, card: Any, number: int) -> None:
        self._ffi = library.ffi
        self._lib = library.lib
        self._card = card
        self._number = number
        self._values = self._ffi.new(f"uint64_t[{len(COUNTERS)}]")

    def configure(self, settings: PortSettings) -> None:
        plain = dict(vars(settings), mac=list(settings.mac))
        self._lib.exa_port_configure(
            self._card, self._number, self._ffi.new("struct exa_port_settings *", plain)
        )

    def start(self, ring: int) -> None:
        self._lib.exa_port_start(self._card, self._number, ring)

    def stop(self) -> None:
        self._lib.exa_port_stop(self._card, self._number)

    def arm(self, value: int) -> None:
        self._lib.exa_port_arm(self._card, self._number, value)

    def armed(self) -> int:
        return int(self._lib.exa_port_armed(self._card, self._number))

    def transmit(self, offset: int) -> None:
        self._lib.exa_port_transmit(self._card, self._number, offset)

    def receive(self, frame: bytes, status: int = 0) -> None:
        self._lib.exa_port_receive(self._card, self._number, frame, len(frame), status)

    def spoil(self, status: int, count: int) -> None:
        self._lib.exa_port_spoil(self._card, self._number, status, count)

    def stall(self, stalled: bool) -> None:
        if self._lib.exa_port_stall(self._card, self._number, stalled):
            raise MemoryError("no memory for the commands of a stalled port in the core")

    def forget(self) -> None:
        self._lib.exa_port_forget(self._card, self._number)

    def last_sent(self) -> int:
        return int(self._lib.exa_port_last_sent(self._card, self._number))

    def counters(self) -> dict[str, int]:
        self._lib.exa_port_counters(self._card, self._number, self._values)
        return dict(zip(COUNTERS, map(int, self._values), strict=True))

    def reset_counters(self) -> None:
        self._lib.exa_port_reset_counters(self._card, self._number)


class CorePlane(CardPlane):
    """A card of the core. ``pointer`` is its ``struct exa_card``, for the message pump.

    The memory of BAR2 must outlive the core: see :meth:`lab.core.engine.CoreEngine.close`.
    """

    def __init__(
        self, library: Library, core: Any, model: Model, tx_memory: TxMemory, timers: Timers
    ) -> None:
        ffi, self._lib = library.ffi, library.lib
        self._ffi = ffi
        self._timers = timers
        self._tx_view = ffi.from_buffer(tx_memory.memory, require_writable=True)
        self._views: dict[int, tuple[int, Any]] = {}
        self._fault = InterruptFault()
        self.pointer = self._lib.exa_card_new(
            core, model.ports, ffi.cast("uint8_t *", self._tx_view), tx_memory.size
        )
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for another card in the core")
        self.number = int(self._lib.exa_card_number(self.pointer))
        self.ports: list[PortPlane] = [CorePort(library, self.pointer, port) for port in range(model.ports)]
        for port in range(model.ports):
            self._declare_live(port)

    def _declare_live(self, port: int) -> None:
        """Say which registers of the card live in the core."""
        lib = self._lib
        live: list[tuple[Register, int]] = [
            (reg.PORT_TX_COMMAND, lib.EXA_LIVE_TX_COMMAND),
            (reg.PORT_IRQ_CONFIG, lib.EXA_LIVE_IRQ_CONFIG),
            (reg.PORT_TX_LAST_TIME, lib.EXA_LIVE_LAST_TIME),
        ]
        live += [(register, lib.EXA_LIVE_COUNTER + place) for place, register in enumerate(_STATS)]
        for register, what in live:
            lib.exa_register_live(self.pointer, register.address(port), what, port)
        lib.exa_register_live(self.pointer, reg.HW_TIME.address(), lib.EXA_LIVE_TIME_LOW, 0)
        lib.exa_register_live(self.pointer, reg.HW_TIME_HI.address(), lib.EXA_LIVE_TIME_HIGH, 0)

    def dma_map(self, iova: int, size: int, memory: mmap.mmap, prot: int) -> None:
        # Memory that the card may only read (the BIOS area of a PC) comes as a mapping without write access.
        view = self._ffi.from_buffer(memory, require_writable=bool(prot & DMA_WRITE))
        if self._lib.exa_dma_map(self.pointer, iova, size, self._ffi.cast("uint8_t *", view), prot):
            self._ffi.release(view)
            raise MemoryError("no memory for another DMA range in the core")
        self._views[iova] = (size, view)

    def dma_unmap(self, iova: int, size: int) -> None:
        self._lib.exa_dma_unmap(self.pointer, iova, size)
        for start in [start for start in self._views if iova <= start < iova + size]:
            self._ffi.release(self._views.pop(start)[1])

    def dma_unmap_all(self) -> None:
        self._lib.exa_dma_unmap_all(self.pointer)
        for _, view in self._views.values():
            self._ffi.release(view)
        self._views.clear()

    def dma_faults(self) -> int:
        return int(self._lib.exa_dma_faults(self.pointer))

    def faulted_interrupts(self) -> int:
        return int(self._lib.exa_card_faulted_interrupts(self.pointer))

    def set_msi(self, eventfd: int | None) -> None:
        self._lib.exa_card_set_msi(self.pointer, -1 if eventfd is None else eventfd)

    def set_interrupt_fault(self, fault: InterruptFault | None) -> None:
        self._fault = fault or InterruptFault()
        self._lib.exa_card_set_interrupt_fault(
            self.pointer, self._fault.lose, self._fault.delay_s > 0, self._fault.repeat
        )

    def interrupt_later(self) -> None:
        """The core wants an interrupt that a fault delays."""
        for _ in range(1 + self._fault.repeat):
            self._timers.after(self._fault.delay_s, self._signal)

    def _signal(self) -> None:
        self._lib.exa_card_signal(self.pointer)

    def set_feedback(self, base: int) -> None:
        self._lib.exa_card_set_feedback(self.pointer, base)

    def set_clock(self, state: ClockState) -> None:
        self._lib.exa_card_set_clock(self.pointer, state.base, state.fraction, state.origin_ns, state.step)

    def set_mirror(self, output: int | None, bridge: bool) -> None:
        self._lib.exa_card_set_mirror(self.pointer, -1 if output is None else output, bridge)

    def set_present(self, present: bool) -> None:
        self._lib.exa_card_set_present(self.pointer, present)

    def publish(self, address: int, value: int) -> None:
        self._lib.exa_register_publish(self.pointer, address, value)

    def withdraw_interrupt(self) -> None:
        self._lib.exa_card_withdraw_interrupt(self.pointer)

    def register_read(self, address: int) -> int | None:
        """What the core answers to a read; None when it leaves that to Python."""
        value = self._ffi.new("uint32_t *")
        served = self._lib.exa_register_read(self.pointer, address, value)
        return int(value[0]) if served else None

    def register_write(self, address: int, value: int) -> bool:
        """Whether the core took a write."""
        return bool(self._lib.exa_register_write(self.pointer, address, value))

    def release(self) -> None:
        """Let go of BAR2, when the core is gone."""
        self._ffi.release(self._tx_view)

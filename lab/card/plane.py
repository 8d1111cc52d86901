"""The seam between a card's registers and its data path.

:mod:`lab.card.device` decodes registers and calls these; :mod:`lab.card.datapath` (Python, the oracle) and
:mod:`lab.core.datapath` (C) carry them out.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Protocol

from lab.card.clock import ClockState

#: Counters of a port as the hardware shows them (section 5), then what only the lab shows.
COUNTERS = (
    "tx",
    "rx",
    "rx_ignored",
    "rx_error",
    "rx_dropped",
    "tx_bad_command",
    "tx_bad_chunk",
    "tx_no_link",
    "rx_no_link",
    "interrupts",
)


@dataclass(frozen=True)
class PortSettings:
    """What the registers say about a port. ``mac`` in wire order; the rest as in FLAGS and section 7."""

    mac: bytes = bytes(6)
    promiscuous: bool = False
    loopback: bool = False
    pad: bool = True
    crc: bool = True
    link: bool = False
    mirror_rx: bool = False
    mirror_tx: bool = False


@dataclass(frozen=True)
class InterruptFault:
    """What happens to interrupts: ``delay_s`` later, ``repeat`` more times, or (``lose``) not at all."""

    delay_s: float = 0.0
    repeat: int = 0
    lose: bool = False


class PortPlane(Protocol):
    """The data path of one port."""

    def configure(self, settings: PortSettings) -> None:
        """New settings, from the next frame on."""

    def start(self, ring: int) -> None:
        """Begin writing received frames to the ring at ``ring``, at chunk 0 of generation 0."""

    def stop(self) -> None:
        """Write no more."""

    def arm(self, value: int) -> None:
        """Value written to IRQ_CONFIG."""

    def armed(self) -> int:
        """Value of IRQ_CONFIG to read: bit 31 is clear once the interrupt was raised."""

    def transmit(self, offset: int) -> None:
        """Value written to TX_COMMAND."""

    def receive(self, frame: bytes, status: int = 0) -> None:
        """A frame (with FCS) came off the wire; ``status`` not 0 says what the card found wrong with it."""

    def spoil(self, status: int, count: int) -> None:
        """Report the next ``count`` received frames with this status."""

    def stall(self, stalled: bool) -> None:
        """The link partner pauses the port: commands wait, their chunks are fetched when it goes on."""

    def forget(self) -> None:
        """The commands that wait are gone."""

    def last_sent(self) -> int:
        """TX_LAST_TIME."""

    def counters(self) -> dict[str, int]:
        """Values by the names of :data:`COUNTERS`."""

    def reset_counters(self) -> None:
        """Zero those that the hardware has."""


class CardPlane(Protocol):
    """The data path of one card."""

    ports: list[PortPlane]

    def dma_map(self, iova: int, size: int, memory: mmap.mmap, prot: int) -> None:
        """See :meth:`lab.vfio_user.device.PciDevice.dma_map`."""

    def dma_unmap(self, iova: int, size: int) -> None:
        """No view of the range is kept."""

    def dma_unmap_all(self) -> None:
        """No view of any range is kept."""

    def dma_faults(self) -> int:
        """Accesses that were refused so far."""

    def faulted_interrupts(self) -> int:
        """Interrupts so far that the fault has delayed, repeated or lost."""

    def set_msi(self, eventfd: int | None) -> None:
        """Where interrupts go; one that could not be delivered is kept until they go somewhere."""

    def set_interrupt_fault(self, fault: InterruptFault | None) -> None:
        """Misbehave with interrupts, or (None) stop doing so."""

    def set_feedback(self, base: int) -> None:
        """Address of the TX feedback page."""

    def set_clock(self, state: ClockState) -> None:
        """The counter's line from now on."""

    def set_mirror(self, output: int | None, bridge: bool) -> None:
        """Port that sends mirrored frames, and whether ports 0 and 1 are bridged."""

    def set_present(self, present: bool) -> None:
        """Whether the card is on the bus at all: when not, it neither moves data nor interrupts."""

    def publish(self, address: int, value: int) -> None:
        """The register at this offset of BAR0 reads as ``value`` until told otherwise."""

    def withdraw_interrupt(self) -> None:
        """Forget an undelivered interrupt."""

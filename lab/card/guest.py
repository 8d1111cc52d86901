"""A guest without a machine: memory, doorbells and ring readers, to drive a card in tests and benches.

It does what a driver does (reference/exanic-hardware.md sections 6 to 8), through the card's BARs only.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

from lab.card import registers as reg
from lab.card.device import Card
from lab.card.i2c import I2cGpio
from lab.card.layout import (
    PAGE_SIZE,
    RX_CHUNK_DATA,
    RX_CHUNK_SIZE,
    RX_POSITIONS,
    RX_RING_CHUNKS,
    RX_RING_SIZE,
    TX_HEADER_SIZE,
    TX_NO_FEEDBACK,
    TX_TYPE_RAW,
)
from lab.card.register_table import Register
from lab.vfio_user.device import DMA_READ, DMA_WRITE

#: Where the guest's memory begins, in the card's view.
MEMORY_BASE = 0x1_0000_0000
_ARM = 1 << 31


@dataclass(frozen=True)
class Received:
    """A frame as the ring gave it: bytes with FCS, counter's low half, status nibble, chunks it took."""

    frame: bytes
    time: int
    status: int
    chunks: int


class Guest:
    """Guest memory with a feedback page and a ring per port; interrupts are counted in ``eventfd``."""

    def __init__(self, card: Card, rings: int | None = None) -> None:
        self.card = card
        self.ports = rings or card.model.ports
        size = PAGE_SIZE + self.ports * RX_RING_SIZE
        self.memory = mmap.mmap(-1, size)
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.position = [0] * self.ports
        self._feedback_id = 0
        card.dma_map(MEMORY_BASE, size, self.memory, DMA_READ | DMA_WRITE)
        card.set_msi(self.eventfd)
        self.write(reg.TX_FEEDBACK_BASE_LO, MEMORY_BASE & 0xFFFF_FFFF)
        self.write(reg.TX_FEEDBACK_BASE_HI, MEMORY_BASE >> 32)

    def read(self, register: Register, port: int = 0) -> int:
        """Read a register."""
        return int.from_bytes(self.card.read(0, register.address(port), 4), "little")

    def write(self, register: Register, value: int, port: int = 0) -> None:
        """Write a register."""
        self.card.write(0, register.address(port), value.to_bytes(4, "little"))

    def ring_offset(self, port: int) -> int:
        """Where a port's ring is in ``memory``."""
        return PAGE_SIZE + port * RX_RING_SIZE

    def up(self, port: int = 0, mac: bytes | None = None) -> None:
        """Power on, fill the ring with 0xFF, give it to the card, enable."""
        start = self.ring_offset(port)
        self.memory[start : start + RX_RING_SIZE] = b"\xff" * RX_RING_SIZE
        self.position[port] = 0
        self.write(reg.POWERDOWN, self.read(reg.POWERDOWN) | 1 << (4 + port))
        if mac is not None:
            self.write(reg.PORT_MAC_OUI, int.from_bytes(mac[:3], "little"), port)
            self.write(reg.PORT_MAC_NIC, int.from_bytes(mac[3:], "little"), port)
        self.write(reg.PORT_RX_BASE_LO, (MEMORY_BASE + start) & 0xFFFF_FFFF, port)
        self.write(reg.PORT_RX_BASE_HI, (MEMORY_BASE + start) >> 32, port)
        self.write(reg.PORT_ENABLED, 1, port)

    def down(self, port: int = 0) -> None:
        """Disarm and disable."""
        self.write(reg.PORT_IRQ_CONFIG, 0, port)
        self.write(reg.PORT_ENABLED, 0, port)

    def arm(self, port: int = 0) -> None:
        """Ask for an interrupt when the next chunk to read is written."""
        self.write(reg.PORT_IRQ_CONFIG, _ARM | self.position[port], port)

    def interrupts(self) -> int:
        """Interrupts since the last call."""
        try:
            return int.from_bytes(os.read(self.eventfd, 8), "little")
        except BlockingIOError:
            return 0

    def place(
        self, frame: bytes, port: int = 0, at: int = 0, slot: int | None = 0, kind: int = TX_TYPE_RAW
    ) -> int:
        """Write a chunk with ``frame`` (no FCS) into TX memory at ``at`` bytes of the port's region.

        ``slot`` None asks for no feedback. Returns the value to write to TX_COMMAND.
        """
        self._feedback_id = self._feedback_id + 1 & 0xFFFF
        offset = self.read(reg.PORT_TX_OFFSET, port) + at
        header = self._feedback_id.to_bytes(2, "little")
        header += (TX_NO_FEEDBACK if slot is None else slot).to_bytes(2, "little")
        header += (len(frame) + 2).to_bytes(2, "little") + bytes((kind, 0))
        assert len(header) == TX_HEADER_SIZE
        self.card.write(2, offset, header + b"\0\0" + frame)
        return offset

    def send(self, frame: bytes, port: int = 0, at: int = 0, slot: int | None = 0) -> int:
        """Send a frame (no FCS); returns its feedback id."""
        self.write(reg.PORT_TX_COMMAND, self.place(frame, port, at, slot), port)
        return self._feedback_id

    def feedback(self, slot: int = 0) -> int:
        """The feedback slot's value."""
        return int.from_bytes(self.memory[2 * slot : 2 * slot + 2], "little")

    def receive(self, port: int = 0) -> Received | None:
        """The next frame of the port's ring, None when there is none.

        Raises RuntimeError when the reader was lapped, AssertionError when a started frame has no end.
        """
        parts: list[bytes] = []
        position = self.position[port]
        while True:
            chunk, generation = position % RX_RING_CHUNKS, position // RX_RING_CHUNKS
            at = self.ring_offset(port) + chunk * RX_CHUNK_SIZE
            data = self.memory[at : at + RX_CHUNK_SIZE]
            if data[127] == (generation - 1) & 0xFF:
                assert not parts, "a started frame must be finished"
                return None
            if data[127] != generation:
                raise RuntimeError(f"lapped at chunk {chunk}: generation {data[127]}, expected {generation}")
            length = data[125]
            parts.append(data[: length or RX_CHUNK_DATA])
            position = (position + 1) % RX_POSITIONS
            if length:
                self.position[port] = position
                time = int.from_bytes(data[120:124], "little")
                return Received(b"".join(parts), time, data[124] & 0x0F, len(parts))
            assert not data[124] & 0x0F, "only the last chunk may carry a status"

    def receive_all(self, port: int = 0) -> list[Received]:
        """Every frame there is."""
        found: list[Received] = []
        while (frame := self.receive(port)) is not None:
            found.append(frame)
        return found

    def close(self) -> None:
        """Unmap."""
        self.card.set_msi(None)
        self.card.dma_unmap_all()
        self.memory.close()
        os.close(self.eventfd)


class I2cMaster:
    """A bit-banging master on the card's GPIO register; ``drive`` and ``sense`` are register access."""

    def __init__(self, guest: Guest | I2cGpio, bus: int) -> None:
        self._guest = guest
        self._bus = bus
        self._low = 0

    def read(self, address: int, position: int, count: int) -> bytes | None:
        """Random read of a memory; None when nobody answers."""
        self._start()
        if not (self._byte(address << 1) and self._byte(position)):
            self._stop()
            return None
        self._start()
        if not self._byte(address << 1 | 1):
            self._stop()
            return None
        data = bytes(self._take(last=number == count - 1) for number in range(count))
        self._stop()
        return data

    def write(self, address: int, position: int, data: bytes) -> bool:
        """Write within a page; False when somebody refused."""
        self._start()
        good = all(self._byte(value) for value in (address << 1, position, *data))
        self._stop()
        return good

    def _lines(self, scl: bool, sda: bool) -> None:
        value = (0 if scl else 1 << 7) | (0 if sda else 1 << self._bus)
        if isinstance(self._guest, I2cGpio):
            self._guest.write(value)
        else:
            self._guest.write(reg.I2C_GPIO, value)

    def _sense(self) -> bool:
        value = self._guest.read() if isinstance(self._guest, I2cGpio) else self._guest.read(reg.I2C_GPIO)
        return bool(value >> (8 + self._bus) & 1)

    def _start(self) -> None:
        for scl, sda in ((False, True), (True, True), (True, False), (False, False)):
            self._lines(scl, sda)

    def _stop(self) -> None:
        for scl, sda in ((False, False), (True, False), (True, True)):
            self._lines(scl, sda)

    def _bit(self, value: bool) -> bool:
        self._lines(False, value)
        self._lines(True, value)
        seen = self._sense()
        self._lines(False, value)
        return seen

    def _byte(self, value: int) -> bool:
        for place in range(7, -1, -1):
            self._bit(bool(value >> place & 1))
        return not self._bit(True)

    def _take(self, last: bool) -> int:
        value = 0
        for _ in range(8):
            value = value << 1 | self._bit(True)
        self._bit(last)
        return value

"""The RX ring as its writer sees it. Source: reference/exanic-hardware.md sections 7.1 and 7.2."""

from __future__ import annotations

import struct

from lab.card.dma import DmaTable
from lab.card.layout import RX_CHUNK_DATA, RX_CHUNK_SIZE, RX_POSITIONS, RX_RING_CHUNKS
from lab.vfio_user.device import DMA_WRITE

_META = struct.Struct("<IBBBB")


class RxRing:
    """16384 chunks of 128 bytes at ``base`` in guest memory; ``position`` is the next to be written.

    Positions are generation * 16384 + chunk, modulo 2^22.
    """

    def __init__(self, base: int) -> None:
        self.base = base
        self.position = 0

    def write(self, dma: DmaTable, frame: bytes, stamp: int, status: int) -> None:
        """Write a frame (with FCS) to consecutive chunks; ``stamp`` is the counter's low half.

        Per chunk the payload goes before the 8 bytes of metadata, which are one aligned store. A chunk that
        is not in reach is skipped: the position moves on, as the reader's must.
        """
        size = len(frame)
        for start in range(0, size, RX_CHUNK_DATA):
            part = frame[start : start + RX_CHUNK_DATA]
            last = start + RX_CHUNK_DATA >= size
            chunk, generation = self.position % RX_RING_CHUNKS, self.position // RX_RING_CHUNKS
            address = self.base + chunk * RX_CHUNK_SIZE
            if dma.reaches(address, RX_CHUNK_SIZE, DMA_WRITE):
                dma.write(address, part)
                meta = _META.pack(stamp, status if last else 0, len(part) if last else 0, 0, generation)
                dma.write(address + RX_CHUNK_DATA, meta)
            self.position = (self.position + 1) % RX_POSITIONS

    def written(self, position: int) -> bool:
        """Whether ``position`` has been written: it lies less than half of all positions behind."""
        return 0 < (self.position - position) % RX_POSITIONS <= RX_POSITIONS // 2

"""TX memory (BAR2) and fetching a chunk from it. Source: reference/exanic-hardware.md sections 8.1 and 8.2.

The guest can change the memory at any moment, so header and payload are each copied once and only the
copies are looked at.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass

from lab.card.layout import PAGE_SIZE, TX_ALIGN, TX_HEADER_SIZE

_HEADER = struct.Struct("<HHHBB")


@dataclass(frozen=True)
class TxRegion:
    """A port's part of BAR2, bytes."""

    offset: int
    size: int


class TxMemory:
    """BAR2: a memory file, so that the guest can map it, and our mapping of it."""

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("exalab-bar2", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        # Whoever is given the descriptor could shrink the file under our mapping and end us with SIGBUS.
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.memory = mmap.mmap(self.fd, size)
        self.size = size

    def regions(self, ports: int) -> list[TxRegion]:
        """The ports' shares: equal, whole pages, in order."""
        share = self.size // ports // PAGE_SIZE * PAGE_SIZE
        return [TxRegion(port * share, share) for port in range(ports)]

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()
        os.close(self.fd)


@dataclass(frozen=True)
class TxChunk:
    """A chunk as fetched; ``payload`` is what follows the header, its two padding bytes included."""

    feedback_id: int
    feedback_slot: int
    kind: int
    payload: bytes


def fetch(memory: mmap.mmap, region: TxRegion, offset: int) -> TxChunk | None:
    """The chunk at ``offset`` of BAR2; None when it is misaligned or not wholly within the port's region."""
    end = region.offset + region.size
    if offset % TX_ALIGN or not region.offset <= offset <= end - TX_HEADER_SIZE:
        return None
    slot_id, slot, length, kind, _flags = _HEADER.unpack_from(memory, offset)
    start = offset + TX_HEADER_SIZE
    if start + length > end:
        return None
    return TxChunk(slot_id, slot, kind, memory[start : start + length])

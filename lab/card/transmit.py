"""Fetching a chunk from TX memory. Source: reference/exanic-hardware.md section 8.2.

The guest can change the memory at any moment, so header and payload are each copied once and only the
copies are looked at.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from lab.card.layout import TX_ALIGN, TX_HEADER_SIZE

_HEADER = struct.Struct("<HHHBB")


@dataclass(frozen=True)
class TxRegion:
    """A port's part of BAR2, bytes."""

    offset: int
    size: int


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

"""What test traffic carries: a record says which flow it belongs to, its number in it, and who answered.

Layout, network order: magic ``XLAB``, flow u32, sequence u32, tag u32 (0 from a client; an echo server puts
its own), length of the whole record u16, zero u16; then filling that depends on flow and sequence, so that a
mix-up of payloads shows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"XLAB"
HEADER = struct.Struct("!4sIIIHH")
#: Bytes of the shortest record (a 64-byte frame holds 18 bytes of UDP payload: records make it 66).
SHORTEST = HEADER.size
_FILLING = bytes(range(256)) * 40


@dataclass(frozen=True)
class Record:
    """One decoded record; ``intact`` says that the filling is what its sender put."""

    flow: int
    sequence: int
    tag: int
    length: int
    intact: bool


def filling(flow: int, sequence: int, size: int) -> bytes:
    start = (flow * 31 + sequence * 7) & 0xFF
    return _FILLING[start : start + size]


def encode(flow: int, sequence: int, size: int = SHORTEST, tag: int = 0) -> bytes:
    """A record of ``size`` bytes (at least SHORTEST, at most about 9,900)."""
    head = HEADER.pack(MAGIC, flow, sequence, tag, size, 0)
    return head + filling(flow, sequence, size - HEADER.size)


def decode(data: bytes) -> Record | None:
    """The record at the start of ``data``; None when there is none (or not all of it)."""
    if len(data) < HEADER.size:
        return None
    magic, flow, sequence, tag, length, zero = HEADER.unpack_from(data)
    if magic != MAGIC or zero or length < HEADER.size or len(data) < length:
        return None
    intact = data[HEADER.size : length] == filling(flow, sequence, length - HEADER.size)
    return Record(flow, sequence, tag, length, intact)


def answer(data: bytes, tag: int) -> bytes:
    """The same record with the answering server's tag."""
    return data[:12] + struct.pack("!I", tag) + data[16:]

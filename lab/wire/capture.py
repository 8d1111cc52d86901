"""Everything that passed a port, as a bounded pair of pcapng files.

The current segment is ``NAME.pcapng``; when it is full it becomes ``NAME.1.pcapng`` (replacing the one
before)
and a new one begins. Each has one section and one interface, nanosecond timestamps, and per packet the
direction and the FCS length. Source: draft-ietf-opsawg-pcapng (SHB, IDB, EPB and their options).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

#: Default bound of one segment, bytes.
SEGMENT_SIZE = 16 << 20
#: Buffered bytes after which they are written without being asked.
BUFFER_SIZE = 64 << 10
#: How long the owner of a capture may leave frames in its buffer before a flush.
FLUSH_AFTER_S = 0.05

INBOUND = 1
OUTBOUND = 2
#: epb_flags: the frame carries a 4-byte FCS (bits 5 to 8).
_FCS_LENGTH = 4 << 5
#: epb_flags bit 24: CRC error.
CRC_ERROR = 1 << 24


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def preamble(interface: str) -> bytes:
    """Section header and interface description of one segment; ``interface`` is its if_name."""
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(4, b"exalab") + _option(0, b"")
    description = struct.pack("<HHI", 1, 0, 0)
    description += (
        _option(2, interface.encode()) + _option(9, b"\x09") + _option(13, b"\x04") + _option(0, b"")
    )
    return _block(0x0A0D0D0A, section) + _block(1, description)


def packet(frame: bytes, time_ns: int, direction: int, bad_fcs: bool = False) -> bytes:
    """One enhanced packet block; ``frame`` with FCS, ``time_ns`` since the epoch."""
    flags = direction | _FCS_LENGTH | (CRC_ERROR if bad_fcs else 0)
    length = len(frame)
    total = 44 + (length + 3 & ~3)
    return b"".join(
        (
            struct.pack("<IIIIIII", 6, total, 0, time_ns >> 32, time_ns & 0xFFFFFFFF, length, length),
            frame,
            b"\0" * (-length % 4),
            struct.pack("<HHIII", 2, 4, flags, 0, total),
        )
    )


class Capture:
    """The capture of one port.

    ``on_dirty`` is called when the buffer stops being empty: whoever owns the capture then sees to a flush
    within 100 ms. A directory that cannot be written stops the capture, never the card: see ``failed``.
    """

    def __init__(
        self,
        path: Path,
        interface: str,
        now_ns: Callable[[], int],
        on_dirty: Callable[[], None],
        limit: int = SEGMENT_SIZE,
    ) -> None:
        self.path = path
        self.failed: str | None = None
        self._now_ns = now_ns
        self._on_dirty = on_dirty
        self._limit = limit
        self._preamble = preamble(interface)
        self._buffer = bytearray()
        self._size = 0
        self._begin()

    @property
    def previous(self) -> Path:
        """Where the segment before the current one is kept."""
        return self.path.with_suffix(".1.pcapng")

    def write(self, frame: bytes, direction: int, bad_fcs: bool = False) -> None:
        """Record one frame (with FCS) that passed now."""
        block = packet(frame, self._now_ns(), direction, bad_fcs)
        if self._size + len(block) > self._limit:
            self.flush()
            self._rotate()
        if not self._buffer:
            self._on_dirty()
        self._buffer += block
        self._size += len(block)
        if len(self._buffer) >= BUFFER_SIZE:
            self.flush()

    def flush(self) -> None:
        """Make everything recorded so far visible to readers of the file."""
        if not self._buffer or self.failed:
            self._buffer.clear()
            return
        try:
            with self.path.open("ab") as file:
                file.write(self._buffer)
        except OSError as error:
            self.failed = str(error)
        self._buffer.clear()

    def _rotate(self) -> None:
        try:
            self.path.replace(self.previous)
        except OSError as error:
            self.failed = str(error)
        self._begin()

    def _begin(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(self._preamble)
        except OSError as error:
            self.failed = str(error)
        self._size = len(self._preamble)

"""io_uring by its system calls: one operation at a time, submitted and waited for. Runs *in the guest*.

Numbers and layouts: include/uapi/linux/io_uring.h.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from typing import Any

from suites.exasock import guest_tcp

SETUP, ENTER = 425, 426
SEND, RECV = 26, 27
GETEVENTS = 1
AT_SQES, AT_RINGS = 0x10000000, 0
SQE_SIZE = 64
#: struct io_uring_params: its own fields; offsets in the submission and in the completion ring.
PARAMS = struct.Struct("=10I 8IQ 8IQ")
_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: Any) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Ring:
    """A ring with room for one operation."""

    def __init__(self) -> None:
        params = ctypes.create_string_buffer(PARAMS.size)
        self.fd = _call(SETUP, 1, params)
        told = PARAMS.unpack(params.raw)
        self.sq, self.cq = told[10:18], told[19:27]
        entries = told[1]
        size = max(self.sq[6] + entries * 4, self.cq[5] + entries * 16) + 4096
        self.rings = mmap.mmap(self.fd, size, mmap.MAP_SHARED, offset=AT_RINGS)
        self.sqes = mmap.mmap(self.fd, max(SQE_SIZE, 4096), mmap.MAP_SHARED, offset=AT_SQES)

    def close(self) -> None:
        self.rings.close()
        self.sqes.close()
        os.close(self.fd)

    def _word(self, offset: int) -> int:
        return int(struct.unpack_from("=I", self.rings, offset)[0])

    def one(self, operation: int, fd: int, buffer: Any, length: int, flags: int = 0) -> int:
        """Its result; OSError as it says."""
        address = ctypes.addressof(buffer)
        entry = struct.pack("=BBHiQQIIQ24x", operation, 0, 0, fd, 0, address, length, flags, 1)
        tail, mask = self._word(self.sq[1]), self._word(self.sq[2])
        self.sqes[0:SQE_SIZE] = entry
        struct.pack_into("=I", self.rings, self.sq[6] + (tail & mask) * 4, 0)
        struct.pack_into("=I", self.rings, self.sq[1], tail + 1)
        _call(ENTER, self.fd, 1, 1, GETEVENTS, None, 0)
        head, mask = self._word(self.cq[0]), self._word(self.cq[2])
        _data, result, _flags = struct.unpack_from("=QiI", self.rings, self.cq[5] + (head & mask) * 16)
        struct.pack_into("=I", self.rings, self.cq[0], head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(result)


_ring: list[Ring] = []


def _own() -> Ring:
    if not _ring:
        _ring.append(Ring())
    return _ring[0]


def send(label: str, seed: int, size: int) -> int:
    """``content(seed, size)`` by the ring; how much it took."""
    data = guest_tcp.content(seed, size)
    done = 0
    while done < size:
        buffer = ctypes.create_string_buffer(data[done:], size - done)
        done += _own().one(SEND, guest_tcp._ends[label].fileno(), buffer, size - done)
    return done


def receive(label: str, seed: int, size: int) -> int | None:
    """Receive by the ring; the first byte that is not ``content(seed, size)``'s, None: all are."""
    got = b""
    while len(got) < size:
        buffer = ctypes.create_string_buffer(size - len(got))
        count = _own().one(RECV, guest_tcp._ends[label].fileno(), buffer, size - len(got))
        if not count:
            break
        got += buffer.raw[:count]
    return guest_tcp._difference(got, guest_tcp.content(seed, size))


def end() -> None:
    while _ring:
        _ring.pop().close()

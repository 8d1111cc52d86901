"""TCP through /dev/exasock for the bench: what is taken and why not, and by hand. Runs *in the guest*.

Numbers and layouts: datapath/include/exasock_stream.h (compared by ``suites/tests/test_exasock_abi.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import time
from typing import Any

from suites.guest import exasock

#: enum exasock_stream_reason, from FIRST_REASON on.
REASONS = (
    "call", "order", "flags", "tcpoption", "paws", "dupack", "badack", "window", "loss", "ecn",
    "room", "state", "queued", "callers", "rest", "unseen", "over", "unused", "foreign",
)  # fmt: skip
FIRST_REASON = 32
#: struct exasock_stream_stat without its reasons; then 64 counters each, gives and refused.
STAT = struct.Struct("=Q4s4s2s2si16sIIQQQQQQQQ")
COUNTERS = struct.Struct("=64Q")
STAT_SIZE = STAT.size + 2 * COUNTERS.size
SEND_FORMAT = "=IiQII"
MAP_STREAMS, MAP_STRIDE, MAP_RING = 1 << 60, 0x200000, 0x10000
RING_HEADER, CONTROL_SIZE = 4096, 4096
OPEN = 1
Json = dict[str, Any]

STREAM_ATTACH = exasock._number(3, 0x50, 16)
STREAM_DETACH = exasock._number(1, 0x51, 4)
STREAM_HOME = exasock._number(1, 0x52, 4)
STREAM_TAKE = exasock._number(1, 0x53, 4)
STREAM_SEND = exasock._number(1, 0x54, 24)
STREAM_LIST = exasock._number(3, 0x55, struct.calcsize(exasock.LIST_FORMAT))


def reason_name(number: int) -> str:
    if number < len(exasock.REASONS):
        return exasock.REASONS[number]
    at = number - FIRST_REASON
    return REASONS[at] if 0 <= at < len(REASONS) else f"reason{number}"


def _reasons(data: bytes) -> dict[str, int]:
    counts = COUNTERS.unpack_from(data)
    return {reason_name(number): count for number, count in enumerate(counts) if count}


def _stat(data: bytes) -> Json:
    fields = STAT.unpack_from(data)
    cookie, laddr, raddr, lport, rport, pid, comm, taken, last, since = fields[:10]
    names = ("takes", "rx_segments", "rx_bytes", "rx_home", "tx_segments", "tx_bytes", "acks")
    return {
        "netns": cookie,
        "local": [socket.inet_ntoa(laddr), int.from_bytes(lport, "big")],
        "peer": [socket.inet_ntoa(raddr), int.from_bytes(rport, "big")],
        "pid": pid,
        "comm": comm.rstrip(b"\0").decode(errors="replace"),
        "taken": bool(taken),
        "last": reason_name(last),
        "since_us": since,
        **dict(zip(names, fields[10:], strict=True)),
        "gives": _reasons(data[STAT.size :]),
        "refused": _reasons(data[STAT.size + COUNTERS.size :]),
    }


def attached(netns: str | None = None, everything: bool = True) -> list[Json]:
    """Every attached connection: of all namespaces, or of ``netns`` alone as one sees it who is there."""
    room = 64
    while True:
        buffer = ctypes.create_string_buffer(room * STAT_SIZE)
        flags = exasock.LIST_ALL if everything else 0
        request = struct.pack(exasock.LIST_FORMAT, ctypes.addressof(buffer), room, flags, *exasock.NOTHING)
        count = struct.unpack(exasock.LIST_FORMAT, exasock.control(STREAM_LIST, request, netns))[3]
        if count <= room:
            return [_stat(buffer.raw[at * STAT_SIZE :]) for at in range(count)]
        room = count + 16


class Context:
    """An open /dev/exasock, and streams attached by hand as the library does it."""

    def __init__(self) -> None:
        self.fd = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)

    def attach(self, sock: socket.socket) -> Stream:
        return Stream(self, sock)

    def close(self) -> None:
        os.close(self.fd)


class Stream:
    """One attached connection."""

    def __init__(self, context: Context, sock: socket.socket) -> None:
        self.context, self.sock = context, sock
        buffer = bytearray(struct.pack(exasock.ATTACH_FORMAT, sock.fileno(), 0, 0))
        fcntl.ioctl(context.fd, STREAM_ATTACH, buffer, True)
        _fd, self.handle, self.netns = struct.unpack(exasock.ATTACH_FORMAT, buffer)
        at = MAP_STREAMS + self.handle * MAP_STRIDE
        shared, read, write = mmap.MAP_SHARED, mmap.PROT_READ, mmap.PROT_WRITE
        self.control = mmap.mmap(context.fd, CONTROL_SIZE, shared, read | write, offset=at)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.control))
        header = mmap.mmap(context.fd, RING_HEADER, shared, read, offset=at + MAP_RING)
        self.size = struct.unpack_from("=I", header, 4)[0]
        header.close()
        self.ring = mmap.mmap(context.fd, RING_HEADER + self.size, shared, read, offset=at + MAP_RING)

    def look(self, looking: bool = True) -> None:
        """The heartbeat."""
        struct.pack_into("=Q", self.control, 0, rdtsc() if looking else 0)

    def take(self) -> bool:
        try:
            fcntl.ioctl(self.context.fd, STREAM_TAKE, struct.pack("=I", self.handle))
        except OSError as error:
            if error.errno != 95:
                raise
            return False
        return True

    def home(self) -> None:
        fcntl.ioctl(self.context.fd, STREAM_HOME, struct.pack("=I", self.handle))

    def detach(self) -> None:
        fcntl.ioctl(self.context.fd, STREAM_DETACH, struct.pack("=I", self.handle))

    def send(self, data: bytes) -> bool:
        """True: past the stack. False: not taken."""
        buffer = ctypes.create_string_buffer(data, len(data))
        iov = struct.pack("=QQ", ctypes.addressof(buffer), len(data))
        vector = ctypes.create_string_buffer(iov, len(iov))
        where = ctypes.addressof(vector)
        request = struct.pack(SEND_FORMAT, self.handle, self.sock.fileno(), where, 1, 0)
        try:
            sent = fcntl.ioctl(self.context.fd, STREAM_SEND, request)
        except OSError as error:
            if error.errno != 95:
                raise
            return False
        assert isinstance(sent, (int, bytes))
        return True

    @property
    def word(self) -> int:
        return int(struct.unpack_from("=Q", self.control, 64)[0])

    @property
    def taken(self) -> bool:
        return bool(self.word & OPEN)

    @property
    def unread(self) -> int:
        word = self.word
        head = int(struct.unpack_from("=Q", self.ring, 64)[0])
        return head - (word >> 1) if word & OPEN else 0

    def receive(self, most: int = 1 << 20) -> bytes:
        """From the ring, without waiting; nothing when the kernel was first."""
        word = self.word
        head = int(struct.unpack_from("=Q", self.ring, 64)[0])
        offset = word >> 1
        count = min(head - offset, most) if word & OPEN else 0
        if count <= 0:
            return b""
        at = RING_HEADER + offset % self.size
        first = min(count, self.size - offset % self.size)
        data = self.ring[at : at + first] + self.ring[RING_HEADER : RING_HEADER + count - first]
        swapped = swap_if(self.address + 64, word, (offset + count) << 1 | OPEN)
        return bytes(data) if swapped else b""

    def expect(self, count: int, seconds: float) -> bytes:
        """``count`` bytes from wherever they are; what came when time is over."""
        data = b""
        deadline = time.monotonic() + seconds
        while len(data) < count and time.monotonic() < deadline:
            self.look()
            if self.taken:
                data += self.receive(count - len(data))
                continue
            with contextlib.suppress(BlockingIOError):
                data += self.sock.recv(count - len(data), socket.MSG_DONTWAIT)
        return data


def _machine(code: str, result: Any, *arguments: Any) -> Any:
    """A function of a few instructions (x86-64), which Python has no words for."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex(code))
    function = ctypes.CFUNCTYPE(result, *arguments)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    function.page = page  # type: ignore[attr-defined]
    return function


#: The time stamp counter: rdtsc; shl rdx, 32; or rax, rdx; ret.
rdtsc = _machine("0f31 48c1e220 4809d0 c3", ctypes.c_uint64)
#: Compare and swap a word: mov rax, rsi; lock cmpxchg [rdi], rdx; sete al; movzx eax, al; ret.
swap_if = _machine(
    "4889f0 f0480fb117 0f94c0 0fb6c0 c3", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64
)

"""As many datagrams as the kernel's sockets can carry, for the bench: batches by sendmmsg(2), recvmmsg(2).

Two processes: one sends for a while and says how many, the other counts until it hears nothing for a moment.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from typing import Any

from suites.guest import sockets
from suites.guest.messages import Iovec, Mmsghdr

Json = dict[str, Any]
MSG_WAITFORONE = 0x10000
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
SO_RCVBUFFORCE = 33
#: Bytes of UDP payload in a frame of 64 bytes with FCS.
PAYLOAD = 18
#: Datagrams in one segmented send; the kernel takes 64 at most.
SEGMENTS = 60
_libc = ctypes.CDLL(None, use_errno=True)


class Batch:
    """``count`` messages of up to ``size`` bytes that share nothing, for one system call."""

    def __init__(self, count: int, size: int, content: bytes = b"") -> None:
        self.count = count
        self.buffers = [ctypes.create_string_buffer(content, size) for _ in range(count)]
        self.vectors = (Iovec * count)()
        self.messages = (Mmsghdr * count)()
        for number in range(count):
            self.vectors[number].base = ctypes.addressof(self.buffers[number])
            self.vectors[number].length = size
            self.messages[number].header.iov = ctypes.pointer(self.vectors[number])
            self.messages[number].header.iovlen = 1
        words = memoryview(self.messages).cast("B").cast("I")
        self._lengths = words[Mmsghdr.length.offset // 4 :: ctypes.sizeof(Mmsghdr) // 4]

    def send(self, fd: int) -> int:
        """How many went out; OSError when none did."""
        return self._done(_libc.sendmmsg(fd, self.messages, self.count, 0))

    def lengths(self, count: int) -> int:
        """Bytes in the first ``count`` messages."""
        return sum(self._lengths[:count])

    def receive(self, fd: int) -> int:
        """How many came: waits for the first one only. TimeoutError as SO_RCVTIMEO says."""
        return self._done(_libc.recvmmsg(fd, self.messages, self.count, MSG_WAITFORONE, None))

    @staticmethod
    def _done(result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result


def _timeout(sock: socket.socket, seconds: float) -> None:
    sock.setblocking(True)
    whole = int(seconds)
    micros = int((seconds - whole) * 1e6)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", whole, micros))


_receiver: socket.socket | None = None


def listen(netns: str | None, address: str, port: int, merged: bool = False, buffer: int = 8 << 20) -> None:
    """Open the receiver's socket, so that the sender may start. ``merged``: take what GRO merges as it is."""
    global _receiver
    _receiver = sockets.make(netns, "udp")
    _receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    if merged:
        _receiver.setsockopt(SOL_UDP, UDP_GRO, 1)
    _receiver.bind((address, port))


def count(first: float = 20.0, silence: float = 1.0) -> Json:
    """Count datagrams of PAYLOAD bytes until ``silence`` seconds pass without one.

    {"received", "seconds": first to last}.
    """
    assert _receiver is not None, "listen first"
    batch = Batch(64, 2048)
    fd = _receiver.fileno()
    received, began, last = 0, 0.0, 0.0
    _timeout(_receiver, first)
    with _receiver:
        while True:
            try:
                got = batch.receive(fd)
            except BlockingIOError:
                break
            last = time.monotonic()
            if not received:
                began = last
                _timeout(_receiver, silence)
            received += batch.lengths(got) // PAYLOAD
    return {"received": received, "seconds": last - began}


def blast(netns: str | None, to: str, port: int, seconds: float, segmented: bool = False) -> Json:
    """Send datagrams that make frames of 64 bytes, for ``seconds``; {"sent", "refused", "seconds"}.

    ``segmented``: many in one send, cut apart by the kernel just above the driver (UDP_SEGMENT), so that the
    stack above costs next to nothing.
    """
    sent = refused = 0
    with sockets.make(netns, "udp", blocking=True) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sock.connect((to, port))
        each = SEGMENTS if segmented else 1
        if segmented:
            sock.setsockopt(SOL_UDP, UDP_SEGMENT, PAYLOAD)
        messages = Batch(1 if segmented else 32, PAYLOAD * each, b"x" * PAYLOAD * each)
        fd = sock.fileno()
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            try:
                sent += messages.send(fd) * each
            except OSError:
                refused += 1
    return {"sent": sent, "refused": refused, "seconds": time.monotonic() - began}

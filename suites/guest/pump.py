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

Json = dict[str, Any]
MSG_WAITFORONE = 0x10000
_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [("header", _Msghdr), ("length", ctypes.c_uint)]


class Batch:
    """``count`` messages of up to ``size`` bytes that share nothing, for one system call."""

    def __init__(self, count: int, size: int, content: bytes = b"") -> None:
        self.count = count
        self.buffers = [ctypes.create_string_buffer(content, size) for _ in range(count)]
        self.vectors = (_Iovec * count)()
        self.messages = (_Mmsghdr * count)()
        for number in range(count):
            self.vectors[number].base = ctypes.addressof(self.buffers[number])
            self.vectors[number].length = size
            self.messages[number].header.iov = ctypes.pointer(self.vectors[number])
            self.messages[number].header.iovlen = 1

    def send(self, fd: int) -> int:
        """How many went out; OSError when none did."""
        return self._done(_libc.sendmmsg(fd, self.messages, self.count, 0))

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


def listen(netns: str | None, address: str, port: int, buffer: int = 8 << 20) -> None:
    """Open the receiver's socket, so that the sender may start."""
    global _receiver
    _receiver = sockets.make(netns, "udp")
    _receiver.setsockopt(socket.SOL_SOCKET, 33, buffer)  # SO_RCVBUFFORCE
    _receiver.bind((address, port))


def count(first: float = 20.0, silence: float = 1.0) -> Json:
    """Count datagrams until ``silence`` seconds pass without one. {"received", "seconds": first to last}."""
    assert _receiver is not None, "listen first"
    batch = Batch(64, 64)
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
            received += got
    return {"received": received, "seconds": last - began}


def blast(
    netns: str | None, to: str, port: int, seconds: float, payload: int = 18, batch: int = 32, rate: int = 0
) -> Json:
    """Send for ``seconds``; {"sent", "refused": calls that found no room, "seconds"}.

    The default payload makes frames of 64 bytes with FCS. ``rate``: frames a second at most, 0 for no limit.
    """
    sent = refused = 0
    with sockets.make(netns, "udp", blocking=True) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sock.connect((to, port))
        messages = Batch(batch, payload, b"x" * payload)
        fd = sock.fileno()
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            if rate and sent > (now - began) * rate:
                time.sleep(batch / rate)  # pacing is the point here
                continue
            try:
                sent += messages.send(fd)
            except OSError:
                refused += 1
    return {"sent": sent, "refused": refused, "seconds": time.monotonic() - began}

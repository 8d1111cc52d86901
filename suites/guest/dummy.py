"""Dummy sends of the vendor's interface (MSG_EXA_WARM), by every call there is. Runs *in the guest*, under
test."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Any

from suites.guest.messages import Iovec, Mmsghdr

MSG_EXA_WARM = 0x100000
#: What must never be seen on a wire.
ORDER = b"FAKE-ORDER-THAT-MUST-NOT-BE-PLACED"
#: What ``by_every_call`` says when nothing is wrong.
TAKEN = [len(ORDER)] * 4 + [2] + [len(ORDER)] * 2
_libc = ctypes.CDLL(None, use_errno=True)


def _sockaddr(to: Sequence[Any]) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", to[1]) + socket.inet_aton(to[0]) + bytes(8)


def by_every_call(sock: socket.socket, to: Sequence[Any] | None) -> list[int]:
    """What send, __send, sendto, sendmsg and sendmmsg (two messages) of the C library say was sent, and the
    lengths that the last one tells."""
    fd, length = sock.fileno(), ctypes.c_size_t(len(ORDER))
    text = ctypes.create_string_buffer(ORDER)
    vector = Iovec(ctypes.addressof(text), len(ORDER))
    messages = (Mmsghdr * 2)()
    name, size = None, 0
    if to is not None:
        name, size = ctypes.create_string_buffer(_sockaddr(to)), 16
    for message in messages:
        message.header.name = ctypes.addressof(name) if name else None
        message.header.namelen = size
        message.header.iov = ctypes.pointer(vector)
        message.header.iovlen = 1
    told = [
        _libc.send(fd, text, length, MSG_EXA_WARM),
        getattr(_libc, "__send")(fd, text, length, MSG_EXA_WARM | socket.MSG_NOSIGNAL),
        _libc.sendto(fd, text, length, MSG_EXA_WARM | socket.MSG_DONTWAIT, name, size),
        _libc.sendmsg(fd, ctypes.byref(messages[0].header), MSG_EXA_WARM),
        _libc.sendmmsg(fd, messages, 2, MSG_EXA_WARM),
    ]
    return [*told, messages[0].length, messages[1].length]

"""Neighbours and routes changed by one system call each, with the time it took. Runs *in the guest*."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from lab.guest.agent import in_netns

NEWROUTE, NEWNEIGH, ERROR = 24, 28, 2
REQUEST, ACK, REPLACE, CREATE = 0x1, 0x4, 0x100, 0x400
PERMANENT, MAIN_TABLE, STATIC, UNICAST = 0x80, 254, 4, 1


def _attribute(number: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)


def _message(kind: int, body: bytes) -> bytes:
    flags = REQUEST | ACK | REPLACE | CREATE
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def neighbour(index: int, address: str, mac: str) -> bytes:
    """The message for a permanent neighbour."""
    body = struct.pack("=BxxxiHBB", socket.AF_INET, index, PERMANENT, 0, 0)
    attributes = _attribute(1, socket.inet_aton(address)) + _attribute(2, bytes.fromhex(mac.replace(":", "")))
    return _message(NEWNEIGH, body + attributes)


def route(index: int, address: str, gateway: str) -> bytes:
    """The message for a route to one address."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, MAIN_TABLE, STATIC, 0, UNICAST, 0)
    attributes = _attribute(1, socket.inet_aton(address)) + _attribute(5, socket.inet_aton(gateway))
    return _message(NEWROUTE, body + attributes + _attribute(4, struct.pack("=i", index)))


def change(
    netns: str, device: str, what: str, address: str, values: list[str], count: int, gap: float
) -> list[list[int]]:
    """``what`` (``neighbour``: MAC addresses, ``route``: gateways) of ``address`` takes each of ``values`` by
    turns, ``count`` times, ``gap`` seconds apart.

    Returns CLOCK_MONOTONIC in ns, just before and just after each change: the kernel makes it within the
    system call. OSError with its errno when it refuses.
    """
    make = {"neighbour": neighbour, "route": route}[what]
    times: list[list[int]] = []
    with in_netns(netns), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        index = socket.if_nametoindex(device)
        for number in range(count):
            message = make(index, address, values[number % len(values)])
            time.sleep(gap)
            began = time.monotonic_ns()
            sock.send(message)
            times.append([began, time.monotonic_ns()])
            code = _refusal(sock.recv(65536))
            if code:
                raise OSError(code, f"{what}: {os.strerror(code)}")
    return times


def _refusal(answer: bytes) -> Any:
    """The errno of an acknowledgement, 0 for none."""
    kind, code = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
    return -code if kind == ERROR else 0

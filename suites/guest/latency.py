"""A blocking echo server and a client that measures it. Runs *in the guest*."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from suites.guest import sockets

Json = dict[str, Any]
_server: socket.socket | None = None


_occupants: list[socket.socket] = []


def occupy(netns: list[str], address: str, port: int) -> None:
    """A socket in each of these namespaces, received from once: accelerated, if it can be."""
    for name in netns:
        sock = sockets.make(name, "udp")
        sock.bind((address, port))
        with contextlib.suppress(BlockingIOError):
            sock.recv(1)
        _occupants.append(sock)


def leave() -> None:
    """Close what :func:`occupy` opened."""
    while _occupants:
        _occupants.pop().close()


def listen(netns: str | None, address: str, port: int) -> None:
    """Bind the server; :func:`serve` answers."""
    global _server
    _server = sockets.make(netns, "udp", blocking=True)
    _server.bind((address, port))


def serve(count: int) -> None:
    """Answer ``count`` datagrams with themselves, then close."""
    assert _server is not None, "listen first"
    with _server as sock:
        for _ in range(count):
            data, peer = sock.recvfrom(2048)
            sock.sendto(data, peer)


def ask(netns: str | None, to: str, port: int, count: int, size: int = 64) -> Json:
    """Ask and wait for the answer, ``count`` times; microseconds: {"round_trip": [...], "send": [...]}.

    The first ten, which wait for ARP and find out whose they are, do not count.
    """
    trips: list[float] = []
    sends: list[float] = []
    with sockets.make(netns, "udp", blocking=True) as sock:
        sock.connect((to, port))
        for _ in range(count):
            began = time.monotonic()
            sock.send(bytes(size))
            sent = time.monotonic()
            sock.recv(2048)
            trips.append(time.monotonic() - began)
            sends.append(sent - began)
    return {"round_trip": [trip * 1e6 for trip in trips[10:]], "send": [send * 1e6 for send in sends[10:]]}

"""A tester end of the wire: a unix socket on which scapy, or anything else, sends and sees frames.

SOCK_SEQPACKET, one message per Ethernet frame without FCS, both directions. Any number of clients may be
connected: each sees every frame. A client that does not read fast enough loses frames, counted, and never
holds up the wire.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.wire.frame import FCS_SIZE, MAX_FRAME, intact, seal

#: Frames kept for a client beyond what the kernel's socket buffer holds.
QUEUE_LIMIT = 4096
_BUFFER = 4 << 20
_CLIENTS = 16
#: Frames taken from one client before the others get a turn.
_BURST = 64


@dataclass
class TesterCounters:
    """Frames at a tester end."""

    sent: int = 0
    seen: int = 0
    dropped: int = 0
    bad_fcs: int = 0
    refused: int = 0
    unattended: int = 0


@dataclass
class _Client:
    connection: socket.socket
    queue: deque[bytes] = field(default_factory=deque)


class Tester:
    """The socket of one tester end; ``send`` puts a client's frame (with FCS) on the wire."""

    def __init__(self, path: Path, poller: select.epoll, send: Callable[[bytes], None]) -> None:
        self.path = path
        self.counters = TesterCounters()
        self._poller = poller
        self._send = send
        self._clients: dict[int, _Client] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._listener.bind(str(path))
        self._listener.listen(_CLIENTS)
        poller.register(self._listener, select.EPOLLIN)

    def filenos(self) -> set[int]:
        """Descriptors of this tester in the poller."""
        return {self._listener.fileno(), *self._clients}

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def deliver(self, frame: bytes) -> None:
        """Show a frame of the wire to every client."""
        if not intact(frame):
            self.counters.bad_fcs += 1
            return
        if not self._clients:
            self.counters.unattended += 1
            return
        self.counters.seen += 1
        message = frame[:-FCS_SIZE]
        for client in list(self._clients.values()):
            self._offer(client, message)

    def ready(self, fd: int, events: int) -> None:
        """Handle what the poller reported about one of our descriptors."""
        if fd == self._listener.fileno():
            self._accept()
            return
        client = self._clients.get(fd)
        if client is None:
            return
        if events & select.EPOLLOUT:
            self._drain(client)
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive(client)

    def close(self) -> None:
        """Disconnect everyone and remove the socket."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._poller.unregister(self._listener)
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            if len(self._clients) >= _CLIENTS:
                connection.close()
                return
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._clients[connection.fileno()] = _Client(connection)
            self._poller.register(connection, select.EPOLLIN)

    def _receive(self, client: _Client) -> None:
        for _ in range(_BURST):
            try:
                message = client.connection.recv(MAX_FRAME + 1)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._drop(client)
                return
            if not 14 <= len(message) <= MAX_FRAME - FCS_SIZE:
                self.counters.refused += 1
                continue
            self.counters.sent += 1
            self._send(seal(message))

    def _offer(self, client: _Client, message: bytes) -> None:
        if not client.queue:
            try:
                client.connection.send(message)
                return
            except BlockingIOError:
                self._poller.modify(client.connection, select.EPOLLIN | select.EPOLLOUT)
            except OSError:
                self._drop(client)
                return
        if len(client.queue) >= QUEUE_LIMIT:
            self.counters.dropped += 1
            return
        client.queue.append(message)

    def _drain(self, client: _Client) -> None:
        while client.queue:
            try:
                client.connection.send(client.queue[0])
            except BlockingIOError:
                return
            except OSError:
                self._drop(client)
                return
            client.queue.popleft()
        self._poller.modify(client.connection, select.EPOLLIN)

    def _drop(self, client: _Client) -> None:
        fd = client.connection.fileno()
        if self._clients.pop(fd, None) is None:
            return
        self._poller.unregister(fd)
        client.connection.close()

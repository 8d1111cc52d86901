"""Many connections of one process, in as many namespaces, by one thread. Runs *in the guest*, under test.

Both ends of a connection know what is to come: ``content(seed, size)`` each way, of seeds that no other
connection has. The thread goes from one to the next without waiting for any.
"""

from __future__ import annotations

import contextlib
import errno
import random
import select
import socket
import threading
import time
from typing import Any

from suites.exasock import guest_tcp

Json = dict[str, Any]
#: Most bytes of one send or receive.
PIECES = (1, 64, 512, 1448, 4000)
_threads: dict[str, threading.Thread] = {}
_told: dict[str, Json] = {}


def listen(names: list[str], address: str, port: int) -> None:
    """A listener in each of the namespaces, called as the namespace is."""
    for name in names:
        guest_tcp.listen(label=f"l{name}", netns=name, address=address, port=port)


def connect(names: list[str], labels: list[str], to: tuple[str, int], local: tuple[str, int]) -> None:
    for name, label in zip(names, labels, strict=True):
        guest_tcp.connect(label=label, netns=name, address=to[0], port=to[1], local=local)


def accept(names: list[str], labels: list[str]) -> None:
    """One connection of each listener, which then ends."""
    for name, label in zip(names, labels, strict=True):
        guest_tcp.accept(label=label, listener=f"l{name}")
        guest_tcp.close(label=f"l{name}")


def restore(names: list[str], labels: list[str], **given: Any) -> None:
    for name, label in zip(names, labels, strict=True):
        guest_tcp.restore(label=label, netns=name, **given)


class _One:
    """A connection, and how far it is."""

    def __init__(self, label: str, send: list[int], receive: list[int], first: bool) -> None:
        self.sock = guest_tcp._ends[label]
        self.sock.setblocking(False)
        self.out = guest_tcp.content(*send)
        self.wanted = guest_tcp.content(*receive)
        self.sent = self.received = 0
        self.error: str | None = None
        self.differs: int | None = None
        self.first, self.chance = first, random.Random(send[0])

    @property
    def done(self) -> bool:
        if self.error is not None or self.differs is not None:
            return True
        return self.sent == len(self.out) and self.received == len(self.wanted)

    def step(self) -> bool:
        """One send and one receive; whether anything moved."""
        moved = False
        try:
            with contextlib.suppress(BlockingIOError):
                part = self.out[self.sent : self.sent + self._may()]
                if part:
                    self.sent += self.sock.send(part)
                    moved = True
            with contextlib.suppress(BlockingIOError):
                moved = self._receive() or moved
        except OSError as error:
            self.error = errno.errorcode.get(error.errno or 0, str(error))
        return moved

    def _may(self) -> int:
        """How much may be sent: by turns, so that the connection is quiet in between. Who is first sends when
        it has as much back as it sent, the other as much as it has had."""
        if self.first:
            return self.chance.choice(PIECES) if self.received >= self.sent else 0
        return self.received - self.sent

    def _receive(self) -> bool:
        if self.received == len(self.wanted):
            return False
        data = self.sock.recv(self.chance.choice(PIECES))
        if not data:
            self.error = "end"
        elif data != self.wanted[self.received : self.received + len(data)]:
            self.differs = self.received
        self.received += len(data)
        return bool(data)


def start(name: str, labels: list[str], send: list[list[int]], receive: list[list[int]], first: bool) -> None:
    """Exchange by all of these connections; ``send`` and ``receive``: [seed, size] of each, sizes alike."""
    ones = {
        label: _One(label, out, back, first) for label, out, back in zip(labels, send, receive, strict=True)
    }

    def work() -> None:
        deadline = time.monotonic() + guest_tcp.SECONDS * 2
        while time.monotonic() < deadline:
            left = [one for one in ones.values() if not one.done]
            if not left:
                break
            if not any([one.step() for one in left]):
                time.sleep(0.001)  # the other end may share the processor
        _told[name] = {
            label: {"sent": one.sent, "received": one.received, "differs": one.differs, "error": one.error}
            for label, one in ones.items()
        }

    _threads[name] = threading.Thread(target=work, daemon=True)
    _threads[name].start()


def finish(name: str) -> dict[str, Json]:
    """By label: {"sent", "received", "differs": the first byte that is another one, "error"}."""
    _threads.pop(name).join()
    return _told.pop(name)


def quiet(labels: list[str]) -> list[str]:
    """Those that have something to read, an error or an end, which nobody sent them."""
    found = []
    for label in labels:
        waiting = select.poll()
        sock = guest_tcp._ends[label]
        waiting.register(sock, select.POLLIN | select.POLLRDHUP)
        if waiting.poll(0) or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            found.append(label)
    return found

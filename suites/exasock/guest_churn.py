"""Connections that come and go by one epoll loop; one socket in many epoll sets. Runs *in the guest*."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any

from suites.exasock import guest_tcp
from suites.guest import sockets

Json = dict[str, Any]
_servers: dict[str, Server] = {}


class Server:
    """An echo of any number of connections: a listener and what it accepts in one epoll set."""

    def __init__(self, netns: str | None, address: str, port: int, backlog: int) -> None:
        self.listener = sockets.make(netns, "tcp")
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(backlog)
        self.open: dict[int, socket.socket] = {}
        self.accepted = self.ended = self.failed = 0
        self.bell, self._ring = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with select.epoll() as waiting:
            waiting.register(self.listener, select.EPOLLIN)
            waiting.register(self.bell, select.EPOLLIN)
            while True:
                for fd, _events in waiting.poll():
                    if fd == self.bell:
                        return
                    if fd == self.listener.fileno():
                        self._accept(waiting)
                    else:
                        self._serve(fd)

    def _accept(self, waiting: select.epoll) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _peer = self.listener.accept()
                sock.setblocking(False)
                self.open[sock.fileno()] = sock
                self.accepted += 1
                waiting.register(sock, select.EPOLLIN)

    def _serve(self, fd: int) -> None:
        sock = self.open[fd]
        try:
            data = sock.recv(4096)
            if data:
                sock.send(data)
                return
            self.ended += 1
        except BlockingIOError:
            return
        except OSError:
            self.failed += 1
        del self.open[fd]
        sock.close()

    def stop(self) -> Json:
        os.write(self._ring, b"x")
        self.thread.join()
        told = {
            "accepted": self.accepted, "ended": self.ended, "failed": self.failed, "open": len(self.open),
        }  # fmt: skip
        for sock in (*self.open.values(), self.listener):
            sock.close()
        os.close(self.bell)
        os.close(self._ring)
        return told


def serve(label: str, netns: str | None, address: str, port: int, backlog: int = 128) -> None:
    _servers[label] = Server(netns, address, port, backlog)


def stop(label: str) -> Json:
    """{"accepted", "ended": so many by their peer, "failed", "open"}."""
    return _servers.pop(label).stop()


def churn(netns: str | None, to: tuple[str, int], count: int, messages: int, reset: bool = False) -> Json:
    """``count`` connections one after the other, with so many messages each; {"done", "wrong", "seconds"}."""
    began = time.monotonic()
    wrong = 0
    for number in range(count):
        sock = sockets.make(netns, "tcp", blocking=True)
        guest_tcp._timeouts(sock)
        sock.connect((to[0], to[1]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for turn in range(messages):
            data = f"{number} {turn} ".encode() * 4
            sock.sendall(data)
            wrong += sock.recv(len(data), socket.MSG_WAITALL) != data
        if reset and number % 8 == 7:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
    return {"done": count, "wrong": wrong, "seconds": time.monotonic() - began}


def hoard(labels: list[str], netns: str | None, to: tuple[str, int], hello: bool = True) -> None:
    """Connections, all kept; each says its label."""
    for label in labels:
        guest_tcp.connect(label=label, netns=netns, address=to[0], port=to[1])
        if hello:
            guest_tcp._ends[label].sendall(label.encode().ljust(8))


def accept_slowly(listener: str, count: int, seconds: float) -> list[str]:
    """Accept one after the other with pauses, read what each says, answer it."""
    said = []
    for number in range(count):
        sock, _peer = guest_tcp._listeners[listener].accept()
        guest_tcp._timeouts(sock)
        guest_tcp._ends[f"{listener}{number}"] = sock
        word = sock.recv(8, socket.MSG_WAITALL)
        sock.sendall(word)
        said.append(word.decode().strip())
        time.sleep(seconds)
    return said


def echoed(labels: list[str]) -> bool:
    return all(guest_tcp._ends[one].recv(8, socket.MSG_WAITALL).strip() == one.encode() for one in labels)


def memory() -> Json:
    """KiB: {"available", "slab", "sockets": TCP sockets, in whatever state, of all namespaces}."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    found = {
        name: int(told[key].split()[0]) for name, key in (("available", "MemAvailable"), ("slab", "Slab"))
    }
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            found["sockets"] = int(line.split()[line.split().index("alloc") + 1])
    return found


# --- epoll --------------------------------------------------------------------------------------------------

_sets: list[select.epoll] = []
WISHES = (0, select.EPOLLET, select.EPOLLONESHOT, 0, select.EPOLLET, 0, select.EPOLLONESHOT, 0)


def watch(label: str, count: int) -> None:
    """The connection in so many epoll sets, by level, edge and once."""
    for number in range(count):
        _sets.append(select.epoll())
        _sets[-1].register(guest_tcp._ends[label], select.EPOLLIN | WISHES[number % len(WISHES)])


def look(label: str, seconds: float, take: int, order: list[int] | None = None) -> list[int]:
    """What each set reports, in this order, and, by the last one, so many bytes read."""
    found = []
    for number in order if order is not None else range(len(_sets)):
        events = _sets[number].poll(seconds)
        found.append(events[0][1] if events else 0)
    if take:
        guest_tcp._ends[label].recv(take, socket.MSG_WAITALL)
    return found


def arm(label: str) -> None:
    """Those that wait for one event wait for the next one."""
    for number, one in enumerate(_sets):
        if WISHES[number % len(WISHES)] == select.EPOLLONESHOT:
            one.modify(guest_tcp._ends[label], select.EPOLLIN | select.EPOLLONESHOT)


def unwatch() -> None:
    while _sets:
        _sets.pop().close()


def wait(label: str, seconds: float) -> list[str]:
    """What an epoll set reports of the connection: names of events."""
    names = ("IN", "OUT", "ERR", "HUP", "RDHUP")
    with select.epoll() as waiting:
        waiting.register(guest_tcp._ends[label], select.EPOLLIN | select.EPOLLRDHUP)
        found = waiting.poll(seconds)
    return [name for name in names if found and found[0][1] & getattr(select, f"EPOLL{name}")]


def reset_all() -> None:
    """End all connections by a reset: their peer will not say its last word."""
    for sock in guest_tcp._ends.values():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    guest_tcp.close_all()


def few(label: str, netns: str | None, address: str, port: int, backlog: int) -> None:
    """A listener with a short backlog."""
    guest_tcp.listen(label=label, netns=netns, address=address, port=port)
    guest_tcp._listeners[label].listen(backlog)

"""Echo servers of hundreds of namespaces in one process and one thread, counting every record they see.

A server answers each record to its sender with its own tag in it, and remembers it: (flow, sequence) and how
often. Kinds: ``udp``, ``multicast`` (a member of a group; answers by unicast) and ``tcp`` (any number of
connections). ICMP echo is the kernel's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from suites.guest import records, sockets

Json = dict[str, Any]


@dataclass
class Server:
    """One listening socket and what it saw. ``foreign``: datagrams or bytes that are no record of ours."""

    name: str
    kind: str
    tag: int
    socket: socket.socket
    seen: Counter[tuple[int, int]] = field(default_factory=Counter)
    sources: set[str] = field(default_factory=set)
    foreign: int = 0
    broken: int = 0
    lost_answers: int = 0
    connections: int = 0


class Loop:
    """The one thread that serves every descriptor. Level-triggered; handlers never block."""

    def __init__(self) -> None:
        self.poller = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.lock = threading.RLock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.poller.register(self._wake, select.EPOLLIN)
        threading.Thread(target=self._run, name="echo", daemon=True).start()

    def add(self, fd: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        with self.lock:
            self.handlers[fd] = handler
            self.poller.register(fd, events)

    def remove(self, fd: int) -> None:
        with self.lock:
            if self.handlers.pop(fd, None) is not None:
                with contextlib.suppress(OSError):
                    self.poller.unregister(fd)

    def _run(self) -> None:
        while True:
            for fd, events in self.poller.poll():
                with self.lock:
                    handler = self.handlers.get(fd)
                    if handler is not None:
                        handler(events)


servers: dict[str, Server] = {}
_streams: set[socket.socket] = set()
_loop: Loop | None = None


def _the_loop() -> Loop:
    global _loop
    if _loop is None:
        _loop = Loop()
    return _loop


def start(items: list[Json]) -> list[Json]:
    """Open servers: {"name", "netns", "kind", "tag", "address", "port"}, and optionally "device", "group".

    All or none; the first refusal is raised. Returns {"name", "address", "port"} for each, listening.
    """
    loop = _the_loop()
    opened: list[Server] = []
    try:
        for item in items:
            if item["name"] in servers:
                raise ValueError(f"a server {item['name']} is running")
            opened.append(_open(item))
    except OSError:
        for server in opened:
            server.socket.close()
        raise
    for server in opened:
        servers[server.name] = server
        handler = _accepter(server) if server.kind == "tcp" else _echoer(server)
        loop.add(server.socket.fileno(), handler)
    names = [(server.name, server.socket.getsockname()) for server in opened]
    return [{"name": name, "address": local[0], "port": local[1]} for name, local in names]


def _open(item: Json) -> Server:
    sock = sockets.make(item.get("netns"), item["kind"], item.get("device"))
    try:
        if item["kind"] == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((item.get("address", "0.0.0.0"), item["port"]))
        if item["kind"] == "tcp":
            sock.listen(512)
        if item["kind"] == "multicast":
            mreqn = sockets.membership(item["group"], interface=item.get("interface"))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)
    except OSError:
        sock.close()
        raise
    return Server(item["name"], item["kind"], item["tag"], sock)


def _note(server: Server, data: bytes, source: str) -> bytes | None:
    """Count a record; returns the answer, None when it is none of ours."""
    record = records.decode(data)
    if record is None:
        server.foreign += 1
        return None
    server.seen[record.flow, record.sequence] += 1
    server.sources.add(source)
    if not record.intact or record.tag:
        server.broken += 1
    return records.answer(data[: record.length], server.tag)


def _echoer(server: Server) -> Callable[[int], None]:
    def handle(_events: int) -> None:
        for _ in range(64):  # then the others
            try:
                data, source = server.socket.recvfrom(16384)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier answer
            reply = _note(server, data, source[0])
            if reply is not None:
                try:
                    server.socket.sendto(reply, source)
                except OSError:
                    server.lost_answers += 1

    return handle


def _accepter(server: Server) -> Callable[[int], None]:
    def handle(_events: int) -> None:
        while True:
            try:
                stream, source = server.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EMFILE:
                    raise
                continue
            server.connections += 1
            _Stream(server, stream, source[0])

    return handle


class _Stream:
    """One accepted connection: answers whole records, keeps what is not whole or not yet sent."""

    def __init__(self, server: Server, stream: socket.socket, source: str) -> None:
        self.server, self.stream, self.source = server, stream, source
        self.inbox = bytearray()
        self.outbox = bytearray()
        stream.setblocking(False)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _streams.add(stream)
        _the_loop().add(stream.fileno(), self)

    def __call__(self, events: int) -> None:
        try:
            data = self.stream.recv(65536)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"":
            self.close()
            return
        if data:
            self.inbox += data
        while len(self.inbox) >= records.HEADER.size:
            if self.inbox[:4] != records.MAGIC:
                self.server.foreign += len(self.inbox)
                self.inbox.clear()
                break
            reply = _note(self.server, bytes(self.inbox), self.source) if self._whole() else None
            if reply is None:
                break
            del self.inbox[: len(reply)]
            self.outbox += reply
        self._send()

    def _whole(self) -> bool:
        length: int = records.HEADER.unpack_from(self.inbox)[4]
        return len(self.inbox) >= length

    def _send(self) -> None:
        try:
            while self.outbox:
                del self.outbox[: self.stream.send(self.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        wanted = select.EPOLLIN | (select.EPOLLOUT if self.outbox else 0)
        _the_loop().poller.modify(self.stream.fileno(), wanted)

    def close(self) -> None:
        _the_loop().remove(self.stream.fileno())
        _streams.discard(self.stream)
        self.stream.close()


def report(forget: bool = False) -> dict[str, Json]:
    """What each server saw since it started, or since the last report that made it ``forget``.

    {"total", "unique", "flows": {flow: [total, unique]}, "sources", "foreign", "broken", "lost_answers",
    "connections"}.
    """
    told: dict[str, Json] = {}
    with _the_loop().lock:
        for server in servers.values():
            flows: dict[int, list[int]] = {}
            for (flow, _sequence), times in server.seen.items():
                count = flows.setdefault(flow, [0, 0])
                count[0] += times
                count[1] += 1
            told[server.name] = {
                "total": server.seen.total(),
                "unique": len(server.seen),
                "flows": flows,
                "sources": sorted(server.sources)[:64],
                "foreign": server.foreign,
                "broken": server.broken,
                "lost_answers": server.lost_answers,
                "connections": server.connections,
            }
            if forget:
                server.seen.clear()
                server.sources.clear()
                server.foreign = server.broken = server.lost_answers = server.connections = 0
    return told


def stop(names: list[str] | None = None) -> None:
    """Close servers (None: all, and every connection, by a reset: nothing lingers in a namespace)."""
    loop = _the_loop()
    with loop.lock:
        for name in list(servers) if names is None else names:
            server = servers.pop(name)
            loop.remove(server.socket.fileno())
            server.socket.close()
        if names is None:
            for stream in list(_streams):
                loop.remove(stream.fileno())
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                stream.close()
            _streams.clear()

"""Clients of echo servers, in any number of namespaces at once, counting every answer.

A client sends numbered records of its own flow and has a few of them under way at a time; nothing is sent
twice (but by ``ping``, whose first request may meet an unanswered ARP), so what is missing was lost.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from suites.guest import past, records, sockets

Json = dict[str, Any]


@dataclass
class Client:
    """One flow: who sends to whom, and what came back."""

    name: str
    flow: int
    kind: str
    socket: socket.socket
    to: tuple[str, int]
    count: int
    size: int
    sent: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    tags: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    foreign: int = 0
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    interest: int = select.EPOLLIN | select.EPOLLOUT

    @property
    def under_way(self) -> int:
        return self.sent - len(self.answers)

    @property
    def done(self) -> bool:
        return len(self.answers) >= self.count

    def note(self, data: bytes) -> int:
        """Count the record at the start of ``data``; returns its length, 0 when there is none."""
        record = records.decode(data)
        if record is None:
            return 0
        if record.flow != self.flow or not record.intact:
            self.foreign += 1
        else:
            self.answers[record.sequence] += 1
            self.tags[record.tag] += 1
        return record.length


def run(
    items: list[Json],
    count: int = 1,
    size: int = records.SHORTEST,
    window: int = 4,
    total_window: int = 64,
    seconds: float = 30.0,
    accelerated: bool = False,
) -> dict[str, Json]:
    """Exchange ``count`` records per client and wait for the answers.

    Items: {"name", "flow", "netns", "kind", "to", "port"} and optionally "source", "source_port", "device".
    ``window``: records under way per client; ``total_window``: over all of them, so that the clients do not
    outrun the queues between them and the servers. ``accelerated``: what went past the kernel is kept in
    ``past`` before the clients' sockets are closed, of the servers' sockets too. Returns by name {"sent",
    "answers", "unique", "tags": {tag: answers}, "errors": {errno: times}, "foreign", "missing": the first few
    sequence numbers}.
    """
    deadline = time.monotonic() + seconds
    clients: dict[int, Client] = {}
    with contextlib.ExitStack() as stack:
        poller = stack.enter_context(select.epoll())
        for item in items:
            try:
                client = _open(item, count, size)
            except OSError as error:
                raise OSError(error.errno, f"client {item['name']}: {error.strerror}") from error
            stack.callback(_close, client.socket)
            clients[client.socket.fileno()] = client
            poller.register(client.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        _pump(poller, clients, window, total_window, deadline)
        if accelerated:
            past.look()
    return {client.name: _told(client) for client in clients.values()}


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def _open(item: Json, count: int, size: int) -> Client:
    sock = sockets.make(item.get("netns"), item["kind"], item.get("device"))
    try:
        if item.get("source") or item.get("source_port"):
            sock.bind((item.get("source", "0.0.0.0"), item.get("source_port", 0)))
        to = (item["to"], item["port"])
        if item["kind"] == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                sock.connect(to)
        elif item["kind"] == "multicast":
            # Answers come by unicast from the members, so no connect.
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
            if item.get("source"):
                option = socket.inet_aton(item["source"])
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, option)
    except OSError:
        sock.close()
        raise
    return Client(item["name"], item["flow"], item["kind"], sock, to, count, size)


def _close(sock: socket.socket) -> None:
    """An orderly end of a stream: our FIN, then theirs; nothing waits in the namespace afterwards but
    TIME_WAIT, which pins nothing."""
    with contextlib.suppress(OSError):
        if sock.type == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _pump(
    poller: select.epoll, clients: dict[int, Client], window: int, total_window: int, deadline: float
) -> None:
    """Send and receive until everybody is done or the deadline is over."""
    left = {fd for fd, client in clients.items() if not client.done}
    held: deque[int] = deque()
    under_way = 0
    while left and (rest := deadline - time.monotonic()) > 0:
        for fd, events in poller.poll(rest, 256):
            client = clients[fd]
            before = client.under_way
            alive = not events & ~select.EPOLLOUT or _receive(client)
            if alive and events & select.EPOLLOUT:
                _send(client, min(window, before + total_window - under_way))
            under_way += client.under_way - before
            if not alive or client.done:
                poller.unregister(fd)
                left.discard(fd)
                continue
            if client.sent < client.count and client.under_way < window:
                held.append(fd)
            _watch(poller, client, bool(client.outbox))
        for _ in range(min(len(held), max(0, total_window - under_way))):
            fd = held.popleft()
            if fd in left:
                _watch(poller, clients[fd], True)


def _watch(poller: select.epoll, client: Client, writing: bool) -> None:
    interest = select.EPOLLIN | (select.EPOLLOUT if writing else 0)
    if interest != client.interest:
        client.interest = interest
        poller.modify(client.socket.fileno(), interest)


def _receive(client: Client) -> bool:
    """Take what came; False when the connection is over."""
    for _ in range(64):
        try:
            data = client.socket.recv(65536)
        except BlockingIOError:
            return True
        except OSError as error:
            client.errors[_name(error)] += 1
            return client.kind != "tcp"
        if client.kind != "tcp":
            if not client.note(data):
                client.foreign += 1
            continue
        if not data:
            client.errors["EOF"] += 1
            return False
        client.inbox += data
        while used := client.note(bytes(client.inbox)):
            del client.inbox[:used]
    return True


def _send(client: Client, allowed: int) -> None:
    while client.sent < client.count and client.under_way < allowed:
        record = records.encode(client.flow, client.sent, client.size)
        if client.kind == "tcp":
            client.outbox += record
        else:
            try:
                client.socket.sendto(record, client.to)
            except BlockingIOError:
                return
            except OSError as error:
                client.errors[_name(error)] += 1
        client.sent += 1
    try:
        while client.outbox:
            del client.outbox[: client.socket.send(client.outbox)]
    except BlockingIOError:
        pass
    except OSError as error:
        client.errors[_name(error)] += 1
        client.outbox.clear()


def _told(client: Client) -> Json:
    missing = [number for number in range(client.sent) if number not in client.answers]
    return {
        "sent": client.sent,
        "answers": client.answers.total(),
        "unique": len(client.answers),
        "tags": dict(client.tags),
        "errors": dict(client.errors),
        "foreign": client.foreign,
        "missing": missing[:8],
    }


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ping(items: list[Json], count: int = 1, seconds: float = 30.0, again: float = 1.0) -> dict[str, Json]:
    """ICMP echo from namespaces: {"name", "netns", "to"}, optionally "source", "device"; names are unique.

    A request without an answer is repeated after ``again`` seconds. Returns by name {"sent", "received",
    "rtt_ms": the last one, "errors"}.
    """
    deadline = time.monotonic() + seconds
    waiting: dict[int, Json] = {}
    results: dict[str, Json] = {}
    with contextlib.ExitStack() as stack:
        poller = stack.enter_context(select.epoll())
        for number, item in enumerate(items):
            sock = stack.enter_context(sockets.make(item.get("netns"), "icmp", item.get("device")))
            if item.get("source"):
                sock.bind((item["source"], 0))
            sock.connect((item["to"], 0))
            result: Json = {"sent": 0, "received": 0, "rtt_ms": None, "errors": {}}
            results[item["name"]] = result
            state: Json = {"socket": sock, "id": number & 0xFFFF, "result": result, "at": 0.0}
            waiting[sock.fileno()] = state
            poller.register(sock.fileno(), select.EPOLLIN)
            _echo_request(state)
        while waiting and (now := time.monotonic()) < deadline:
            for fd, _events in poller.poll(min(again, deadline - now), 256):
                if fd in waiting and _echo_reply(waiting[fd], count):
                    poller.unregister(fd)
                    del waiting[fd]
            now = time.monotonic()
            for state in waiting.values():
                if now - state["at"] >= again:
                    _echo_request(state)
    return results


def _echo_request(state: Json) -> None:
    result = state["result"]
    result["sent"] += 1
    head = struct.pack("!BBHHH", 8, 0, 0, state["id"], result["sent"] & 0xFFFF)
    body = struct.pack("!d", time.monotonic())
    packet = head[:2] + struct.pack("!H", _checksum(head + body)) + head[4:] + body
    state["at"] = time.monotonic()
    try:
        state["socket"].send(packet)
    except OSError as error:
        name = _name(error)
        result["errors"][name] = result["errors"].get(name, 0) + 1


def _echo_reply(state: Json, count: int) -> bool:
    """Take what came; True when all ``count`` answers are here."""
    result = state["result"]
    while True:
        try:
            packet = state["socket"].recv(2048)
        except BlockingIOError:
            return False
        except OSError as error:
            name = _name(error)
            result["errors"][name] = result["errors"].get(name, 0) + 1
            continue
        start = (packet[0] & 15) * 4
        if len(packet) < start + 16 or packet[start] != 0:
            continue
        if struct.unpack_from("!H", packet, start + 4)[0] != state["id"]:
            continue
        result["received"] += 1
        result["rtt_ms"] = (time.monotonic() - struct.unpack_from("!d", packet, start + 8)[0]) * 1000
        if result["received"] >= count:
            return True
        _echo_request(state)

"""Programs with TCP connections that send and receive bytes by seed. Runs *in the guest*, under test.

Both ends know what is to come: ``content(seed, size)``. Sending and receiving go on in threads, begun by
``start`` and told by ``finish``; what a program would do with one connection is done by ``calls``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import random
import select
import socket
import struct
import termios
import threading
from pathlib import Path
from typing import Any

from suites.guest import dummy, sockets

Json = dict[str, Any]
SECONDS = 60.0
_listeners: dict[str, socket.socket] = {}
_ends: dict[str, socket.socket] = {}
_running: dict[str, list[threading.Thread]] = {}
_results: dict[str, Json] = {}


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _timeouts(sock: socket.socket) -> None:
    whole = struct.pack("ll", int(SECONDS), 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, whole)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, whole)


def listen(label: str, netns: str | None, address: str, port: int) -> None:
    sock = sockets.make(netns, "tcp", blocking=True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(64)
    _timeouts(sock)
    _listeners[label] = sock


def connect(
    label: str, netns: str | None, address: str, port: int, local: tuple[str, int] | None = None,
    nodelay: bool = True, timeouts: bool = True,
) -> list[Any]:  # fmt: skip
    sock = sockets.make(netns, "tcp", blocking=True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if timeouts:
        _timeouts(sock)
    if local is not None:
        sock.bind((local[0], local[1]))
    sock.connect((address, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    _ends[label] = sock
    return list(sock.getsockname())


def accept(label: str, listener: str, nodelay: bool = True, timeouts: bool = True) -> list[Any]:
    sock, peer = _listeners[listener].accept()
    if timeouts:
        _timeouts(sock)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    _ends[label] = sock
    return list(peer)


def close(label: str, linger: bool = False) -> None:
    sock = _ends.pop(label, None) or _listeners.pop(label)
    if linger:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def close_all() -> None:
    for label in [*_ends, *_listeners]:
        close(label)
    _results.clear()
    _running.clear()


def shutdown(label: str, how: int = socket.SHUT_WR) -> None:
    _ends[label].shutdown(how)


# --- streams of bytes ---------------------------------------------------------------------------------------


def _send(sock: socket.socket, data: bytes, sizes: list[int], chance: random.Random) -> None:
    at = 0
    view = memoryview(data)
    while at < len(data):
        part = view[at : at + chance.choice(sizes)]
        how = chance.randrange(4)
        if how == 0:
            at += sock.send(part)
        elif how == 1:
            at += os.write(sock.fileno(), part)
        elif how == 2:
            at += os.writev(sock.fileno(), [part[: len(part) // 2], part[len(part) // 2 :]])
        else:
            at += sock.sendmsg([part[:1], part[1:]])


def _receive_once(sock: socket.socket, most: int, how: int) -> bytes:
    if how == 0:
        return os.read(sock.fileno(), most)
    if how == 1:
        one, two = bytearray(most // 2 + 1), bytearray(most)
        count = os.readv(sock.fileno(), [one, two])
        return bytes(one + two)[:count]
    if how == 2:
        return sock.recvmsg(most)[0]
    if how == 3:
        peeked = sock.recv(min(most, 4096), socket.MSG_PEEK)
        got = sock.recv(len(peeked), socket.MSG_WAITALL) if peeked else b""
        if got != peeked:
            raise AssertionError("what was peeked is not what came")
        return got
    if how == 4:
        select.select([sock], [], [], SECONDS)
    elif how == 5:
        waiting = select.poll()
        waiting.register(sock, select.POLLIN)
        waiting.poll(SECONDS * 1000)
    return sock.recv(most)


def _receive(sock: socket.socket, size: int, chance: random.Random) -> bytes:
    got = bytearray()
    while len(got) < size:
        most = min(chance.choice((1, 100, 1448, 5000, 65536)), size - len(got))
        data = _receive_once(sock, most, chance.randrange(7))
        if not data:
            break
        got += data
    return bytes(got)


def _difference(got: bytes, right: bytes) -> int | None:
    if got == right:
        return None
    return next((at for at, (one, two) in enumerate(zip(got, right, strict=False)) if one != two), len(got))


def start(
    label: str, name: str, send: list[int] | None = None, receive: list[int] | None = None,
    sizes: list[int] | None = None, then_shut: bool = False,
) -> None:  # fmt: skip
    """Send ``content(*send)`` and receive ``content(*receive)`` by the connection, both at once."""
    sock, told = _ends[label], _results.setdefault(name, {})

    def guard(what: str, work: Any) -> None:
        try:
            work()
        except (OSError, AssertionError) as error:
            told[what] = str(error)

    def sending() -> None:
        seed, size = send or [0, 0]
        _send(sock, content(seed, size), sizes or [1, 64, 1448, 4000, 20000], random.Random(seed))
        if then_shut:
            sock.shutdown(socket.SHUT_WR)
        told["sent"] = size

    def receiving() -> None:
        seed, size = receive or [0, 0]
        got = _receive(sock, size, random.Random(seed + 1))
        told["received"] = len(got)
        told["differs"] = _difference(got, content(seed, size))
        told["hash"] = hashlib.sha256(got).hexdigest()

    work = [("send_error", sending)] if send else []
    if receive:
        work.append(("receive_error", receiving))
    _running[name] = [threading.Thread(target=guard, args=one, daemon=True) for one in work]
    for thread in _running[name]:
        thread.start()


def finish(name: str, seconds: float = SECONDS) -> Json:
    for thread in _running.pop(name):
        thread.join(seconds)
        if thread.is_alive():
            _results[name]["hangs"] = True
    return _results.pop(name)


def rally(label: str, seed: int, count: int, first: bool, sizes: list[int], spin: bool = True) -> Json:
    """Messages by turns: each end sends one of a size that both know, and waits for the other's."""
    sock, chance = _ends[label], random.Random(seed)
    for number in range(count):
        size = chance.choice(sizes)
        data = content(seed * 1000 + number, size)
        if (number % 2 == 0) == first:
            sock.sendall(data)
            continue
        got = b""
        while len(got) < size:
            part = sock.recv(size - len(got))
            if not part:
                return {"at": number, "eof": True}
            got += part
        if got != data:
            return {"at": number, "differs": _difference(got, data)}
    return {"done": count}


def pour(label: str, seed: int, count: int, size: int) -> Json:
    """``content(seed, count * size)``, in so many messages, each as soon as the one before is accepted."""
    data = content(seed, count * size)
    for at in range(0, len(data), size):
        _ends[label].sendall(data[at : at + size])
    return {"sent": len(data)}


def start_rally(label: str, name: str, **given: Any) -> None:
    told = _results.setdefault(name, {})

    def work() -> None:
        try:
            told.update(rally(label, **given))
        except OSError as error:
            told["error"] = errno.errorcode.get(error.errno or 0, str(error))

    _running[name] = [threading.Thread(target=work, daemon=True)]
    _running[name][0].start()


# --- one call after the other -------------------------------------------------------------------------------


def _told(work: Any) -> Any:
    try:
        return work()
    except OSError as error:
        return {"errno": errno.errorcode.get(error.errno or 0, str(error))}


def _ready(sock: socket.socket, milliseconds: int) -> list[str]:
    names = {select.POLLIN: "in", select.POLLOUT: "out", select.POLLHUP: "hup", select.POLLERR: "err",
             select.POLLRDHUP: "rdhup"}  # fmt: skip
    waiting = select.poll()
    waiting.register(sock, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    found = waiting.poll(milliseconds)
    return sorted(name for bit, name in names.items() if found and found[0][1] & bit)


def set_option(label: str, level: int, number: int, value: str) -> str | None:
    """Any option by its numbers, the value in hex; the error's name, or None."""
    try:
        _ends[label].setsockopt(level, number, bytes.fromhex(value))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return None


def call(label: str, op: str, **given: Any) -> Any:
    """One socket call; its value as data, or {"errno": name}."""
    sock = _ends[label]
    data = bytes.fromhex(given.get("hex", ""))
    count, flags = given.get("count", 65536), given.get("flags", 0)
    calls: dict[str, Any] = {
        "send": lambda: sock.send(data or content(given.get("seed", 0), count), flags),
        "warm": lambda: dummy.by_every_call(sock, None),
        "sends": lambda: [sock.send(data, flags) for _ in range(given["times"])],
        "recv": lambda: sock.recv(count, flags).hex(),
        "recvmsg": lambda: [one.hex() if isinstance(one, bytes) else one for one in sock.recvmsg(count, 64)],
        "recvfrom": lambda: [one.hex() if isinstance(one, bytes) else one for one in sock.recvfrom(count)],
        "inq": lambda: struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0],
        "outq": lambda: struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0],
        "ready": lambda: _ready(sock, given.get("ms", 0)),
        "state": lambda: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0],
        "shutdown": lambda: sock.shutdown(given.get("how", socket.SHUT_WR)),
        "error": lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
        "nonblocking": lambda: os.set_blocking(sock.fileno(), False),
        "cork": lambda: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, given.get("on", 1)),
        "sendfile": lambda: _sendfile(sock, content(given.get("seed", 0), count)),
    }
    return _told(calls[op])


def _sendfile(sock: socket.socket, data: bytes) -> int:
    with Path("/run/exalab-sendfile").open("w+b") as file:
        file.write(data)
        file.flush()
        return os.sendfile(sock.fileno(), file.fileno(), 0, len(data))


def poll_epoll(label: str, count: int, edge: bool, seed: int) -> Json:
    """Receive ``content(seed, count)`` by an epoll set; without blocking, as a server does."""
    sock = _ends[label]
    os.set_blocking(sock.fileno(), False)
    got = b""
    with select.epoll() as waiting:
        waiting.register(sock, select.EPOLLIN | (select.EPOLLET if edge else 0))
        while len(got) < count:
            if not waiting.poll(SECONDS):
                return {"nothing": len(got)}
            with contextlib.suppress(BlockingIOError):
                while True:
                    part = sock.recv(1000)
                    if not part:
                        return {"eof": len(got)}
                    got += part
                    if not edge:
                        break
    return {"differs": _difference(got, content(seed, count))}


def start_epoll(label: str, name: str, **given: Any) -> None:
    told = _results.setdefault(name, {})
    _running[name] = [threading.Thread(target=lambda: told.update(poll_epoll(label, **given)), daemon=True)]
    _running[name][0].start()


def fork(label: str, seed: int, size: int) -> None:
    """A child sends and the parent lets go: the connection is the child's alone."""
    sock = _ends[label]
    child = os.fork()
    if not child:
        try:
            sock.sendall(content(seed, size))
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def duplicate(label: str, to: str) -> None:
    _ends[to] = _ends[label].dup()


# --- a connection made of chosen numbers --------------------------------------------------------------------

_REPAIR, _QUEUE, _QUEUE_SEQ, _OPTIONS, _WINDOW = 19, 20, 21, 22, 29
_RECEIVE, _SEND = 1, 2


def restore(
    label: str, netns: str | None, local: tuple[str, int], peer: tuple[str, int], send: int, receive: int
) -> None:
    """An established connection with these sequence numbers, as TCP_REPAIR restores one."""
    sock = sockets.make(netns, "tcp", blocking=True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _timeouts(sock)
    sock.setsockopt(socket.IPPROTO_TCP, _REPAIR, 1)
    for queue, number in ((_SEND, send), (_RECEIVE, receive)):
        sock.setsockopt(socket.IPPROTO_TCP, _QUEUE, queue)
        sock.setsockopt(socket.IPPROTO_TCP, _QUEUE_SEQ, struct.pack("I", number))
    sock.bind((local[0], local[1]))
    sock.connect((peer[0], peer[1]))
    options = [(2, 1460), (3, 7 | 7 << 16), (4, 0), (8, 0)]
    sock.setsockopt(
        socket.IPPROTO_TCP, _OPTIONS, b"".join(struct.pack("II", code, value) for code, value in options)
    )
    window = struct.pack("IIIII", receive, 65535, 65535, 65535, receive)
    sock.setsockopt(socket.IPPROTO_TCP, _WINDOW, window)
    sock.setsockopt(socket.IPPROTO_TCP, _REPAIR, -1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _ends[label] = sock

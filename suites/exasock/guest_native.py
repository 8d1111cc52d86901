"""Native calls on taken connections, and sockets that outlive their attachment.

Runs *in the guest*, without the library: what it does by hand is what the library does, and more.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from suites.exasock import guest_streams
from suites.guest import bpf, exasock, sockets, streams

Json = dict[str, Any]
SO_RCVBUFFORCE = 33
SO_RCVLOWAT, SO_ZEROCOPY, SO_TIMESTAMPING_NEW, SO_MAX_PACING_RATE = 18, 60, 65, 47
#: What sock_setsockopt() serves without asking the protocol.
OPTIONS = {
    "SO_RCVLOWAT": (SO_RCVLOWAT, struct.pack("=i", 8)),
    "SO_ZEROCOPY": (SO_ZEROCOPY, struct.pack("=i", 1)),
    "SO_TIMESTAMPING": (SO_TIMESTAMPING_NEW, struct.pack("=i", 1 << 3 | 1 << 4)),
    "SO_MAX_PACING_RATE": (SO_MAX_PACING_RATE, struct.pack("=I", 10_000_000)),
    "SO_RCVBUF": (socket.SO_RCVBUF, struct.pack("=i", 200_000)),
}
TCP_MEM = Path("/proc/sys/net/ipv4/tcp_mem")
_kept: dict[str, Any] = {}


class Taken:
    """Two connected sockets; ``one`` is taken with ``data`` unread in its ring, ``other`` has sent that."""

    def __init__(self, a: str, b: str, port: int, data: bytes, seconds: float) -> None:
        one, other = guest_streams._pair(a, b, port)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        self.context, self.got, self.ended = streams.Context(), 0, False
        self.one, self.other = self.context.attach(one), other
        other.sendall(b"there")
        assert one.recv(5, socket.MSG_WAITALL) == b"there"
        one.sendall(b"back")
        assert other.recv(4, socket.MSG_WAITALL) == b"back"
        self.looking = threading.Thread(target=self._look, daemon=True)
        self.looking.start()
        self.deadline = time.monotonic() + seconds
        try:
            self.fill(data)
        except BaseException:
            self.close()
            raise

    def fill(self, data: bytes) -> None:
        """Take it with ``data`` unread; again while the machine does not let this process spin meanwhile."""
        self.data = data
        while not self._filled(data):
            self.drain()
            assert time.monotonic() < self.deadline, streams.attached()

    def drain(self) -> None:
        """What was sent is the kernel's: read."""
        unread = b""
        while len(unread) < self.sent:
            unread += self.one.sock.recv(self.sent - len(unread))
        assert unread == self.data[: self.sent]

    def _filled(self, data: bytes) -> bool:
        self.sent = 0
        while not self.one.take():
            assert time.monotonic() < self.deadline, streams.attached()
        self.before = self._gives()
        while self.sent < len(data):
            self.sent += self.other.send(data[self.sent : self.sent + 1000])
            while self.one.unread < self.sent:
                if not self.one.taken:
                    return False
        return True

    def _look(self) -> None:
        """A process that spins: while it does, only a call can bring the connection home. The word is stored
        whole: pack_into() would clear it first."""
        heartbeat = ctypes.c_uint64.from_buffer(self.one.control)
        while not self.ended:
            heartbeat.value = streams.rdtsc()

    def _gives(self) -> dict[str, int]:
        port = self.one.sock.getsockname()[1]
        return dict(next(told["gives"] for told in streams.attached() if told["local"][1] == port))

    def reasons(self) -> list[str]:
        """Why it went home since it was filled."""
        return [reason for reason, count in self._gives().items() if count != self.before.get(reason, 0)]

    @property
    def undisturbed(self) -> bool:
        """Nothing brought it home but, perhaps, a call: this process was let spin."""
        return not set(self.reasons()) - {"call"}

    def stop_looking(self) -> None:
        self.ended = True
        self.looking.join()

    def close(self) -> None:
        self.stop_looking()
        self.one.sock.close()
        self.other.close()
        self.context.close()


def splice(a: str, b: str, port: int, seconds: float) -> Json:
    """What splice() without waiting moves of 500 bytes in the ring, and tee() of that."""
    data = os.urandom(500)
    taken = Taken(a, b, port, data, seconds)
    reader, writer = os.pipe()
    second, into = os.pipe()
    told: Json = {}
    try:
        told["spliced"] = os.splice(taken.one.sock.fileno(), writer, 500, flags=2)
        told["right"] = os.read(reader, 500) == data
        taken.other.sendall(data)
        told["again"] = os.splice(taken.one.sock.fileno(), writer, 500)
        library = ctypes.CDLL(None, use_errno=True)
        told["teed"] = library.tee(reader, into, 500, 0)
        told["right"] = told["right"] and os.read(second, 500) == os.read(reader, 500) == data
    except OSError as error:
        told["errno"] = errno.errorcode[error.errno or 0]
    for fd in (reader, writer, second, into):
        os.close(fd)
    told["gives"] = taken.reasons()
    undisturbed = taken.undisturbed
    taken.close()
    return told if undisturbed else splice(a, b, port, seconds)


def sendfile(a: str, b: str, port: int, seconds: float) -> Json:
    """A file by sendfile() between what went past the stack: in its place."""
    taken = Taken(a, b, port, b"", seconds)
    parts = [os.urandom(700) for _ in range(3)]
    told: Json = {"past": taken.one.send(parts[0])}
    with tempfile.TemporaryFile() as file:
        file.write(parts[1])
        file.flush()
        told["sent"] = os.sendfile(taken.one.sock.fileno(), file.fileno(), 0, 700)
    taken.one.sock.sendall(parts[2])
    told["right"] = taken.other.recv(2100, socket.MSG_WAITALL) == b"".join(parts)
    taken.close()
    return told


def option(a: str, b: str, port: int, seconds: float, name: str) -> Json:
    """A native setsockopt() of SOL_SOCKET: who has the connection, and are its bytes there?"""
    data = os.urandom(300)
    taken = Taken(a, b, port, data, seconds)
    number, value = OPTIONS[name]
    taken.one.sock.setsockopt(socket.SOL_SOCKET, number, value)
    if not taken.undisturbed:
        taken.close()
        return option(a, b, port, seconds, name)
    told: Json = {"taken": taken.one.taken, "gives": taken.reasons()}
    told["right"] = taken.one.expect(300, seconds) == data
    taken.close()
    return told


def sockmap(a: str, b: str, port: int, seconds: float) -> Json:
    """A taken connection is put into a sockmap by the system call: who has it, are its bytes there, is it
    taken again, and how many references to the module it has left."""
    data = os.urandom(300)
    taken = Taken(a, b, port, data, seconds)
    before = exasock.references()
    bpf.map_socket(taken.one.sock.fileno())
    told: Json = {"references": exasock.references() - before, "taken": taken.one.taken}
    told["right"] = taken.one.sock.recv(300, socket.MSG_WAITALL) == data
    taken.other.sendall(data)
    told["right"] = told["right"] and taken.one.sock.recv(300, socket.MSG_WAITALL) == data
    try:
        told["again"] = taken.one.take()
    except OSError as error:
        told["again"] = errno.errorcode[error.errno or 0]
    bpf.unmap_sockets()
    taken.close()
    return told


def keep(a: str, b: str, port: int, seconds: float, name: str, size: int = 0) -> int:
    """A taken connection that stays, with ``size`` bytes in the ring: how many there are."""
    _kept[name] = taken = Taken(a, b, port, bytes(number % 251 for number in range(size)), seconds)
    return taken.one.unread


def kept_receive(name: str, seconds: float) -> Json:
    """What a native call receives of it: its bytes, or an errno."""
    sock = _kept[name].one.sock
    sock.settimeout(seconds)
    try:
        return {"bytes": len(sock.recv(1 << 16))}
    except OSError as error:
        return {"errno": errno.errorcode[error.errno or 0]}


def squeeze(name: str) -> Json:
    """The kernel's TCP may not have any more memory, and the connection shall be handed back, as a library
    asks that stops looking: who has it, and what a native call that does not wait says."""
    taken = _kept[name]
    usual = TCP_MEM.read_text()
    while True:
        TCP_MEM.write_text("1 1 1\n")
        taken.one.home()
        told = kept_state(name)
        if taken.reasons() == ["sleep"]:
            return told
        TCP_MEM.write_text(usual)
        taken.drain()
        taken.fill(taken.data)


def shut(name: str) -> int:
    """Its end may wait for memory no longer than a second, then it is reset: by how much the references to
    the module have grown."""
    before = exasock.references()
    _kept[name].one.sock.shutdown(socket.SHUT_WR)
    return exasock.references() - before


def kept_state(name: str) -> Json:
    """Who has it, and what a native call that does not wait says."""
    taken = _kept[name]
    told: Json = {"taken": taken.one.taken}
    try:
        told["bytes"] = len(taken.one.sock.recv(1 << 16, socket.MSG_DONTWAIT | socket.MSG_PEEK))
    except OSError as error:
        told["errno"] = errno.errorcode[error.errno or 0]
    return told


def kept_all(name: str) -> int:
    """How many of its bytes are there by now; all in their places."""
    taken = _kept[name]
    with contextlib.suppress(BlockingIOError):
        data = taken.one.sock.recv(1 << 16, socket.MSG_DONTWAIT)
        assert data == bytes(number % 251 for number in range(taken.got, taken.got + len(data)))
        taken.got += len(data)
    return int(taken.got)


def close(name: str) -> None:
    _kept.pop(name).close()


def close_all() -> None:
    """What a test that failed has left."""
    while _kept:
        _name, kept = _kept.popitem()
        for one in kept if isinstance(kept, tuple) else (kept,):
            if hasattr(one, "close"):
                one.close()


def hoard(size: int) -> None:
    """So many bytes in the queues of the kernel's TCP that nobody reads."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 * size)
    writer = socket.create_connection(listener.getsockname())
    reader, _address = listener.accept()
    listener.close()
    writer.settimeout(20)
    writer.sendall(bytes(size))
    _kept["hoard"] = writer
    _kept["hoarded"] = reader


# --- what outlives an attachment ----------------------------------------------------------------------------


def waiting_for_its_neighbour(a: str, nobody: str) -> None:
    """A datagram waits for a neighbour that is not there; its socket is closed and detached already."""
    sock = sockets.make(a, "udp", blocking=True)
    fd = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
    request = bytearray(struct.pack(exasock.ATTACH_FORMAT, sock.fileno(), 0, 0))
    fcntl.ioctl(fd, exasock.ATTACH, request, True)
    sock.sendto(b"nobody has this", (nobody, 9))
    sock.close()
    os.close(fd)


def disconnect(sock: socket.socket) -> None:
    """connect() to AF_UNSPEC."""
    library = ctypes.CDLL(None, use_errno=True)
    nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
    if library.connect(sock.fileno(), nowhere, len(nowhere)):
        raise OSError(ctypes.get_errno(), "disconnect")


def child(a: str, b: str, port: int, seconds: float) -> None:
    """An attached connection is disconnected and listens; a child of it is kept, its attachment is not."""
    taken = Taken(a, b, port, b"", seconds)
    listener = taken.one.sock
    disconnect(listener)
    listener.bind(("10.1.0.1", port + 1))
    listener.listen(1)
    peer = sockets.make(b, "tcp", blocking=True)
    peer.connect(("10.1.0.1", port + 1))
    _kept["child"], _address = listener.accept()
    _kept["peer"] = peer
    taken.close()


def child_exchange() -> bool:
    """The child still works; it and its peer are closed."""
    sock, peer = _kept.pop("child"), _kept.pop("peer")
    peer.sendall(b"ping")
    right = sock.recv(4, socket.MSG_WAITALL) == b"ping"
    sock.sendall(b"pong")
    right = right and peer.recv(4, socket.MSG_WAITALL) == b"pong"
    sock.close()
    peer.close()
    return bool(right)


def wait_inside(a: str, b: str, port: int, seconds: float) -> None:
    """A thread waits in recv() of an attached connection; the attachment ends, the thread does not."""
    taken = Taken(a, b, port, b"", seconds)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(taken.one.sock.recv(4)))
    thread.start()
    deadline = time.monotonic() + seconds
    while taken.one.taken:
        assert time.monotonic() < deadline, "the call does not hand back"
    taken.stop_looking()
    taken.context.close()
    _kept["inside"] = (taken.one.sock, taken.other, thread, got)


def leave_inside(seconds: float) -> bool:
    """It receives something, and has left."""
    sock, other, thread, got = _kept.pop("inside")
    other.sendall(b"wake")
    thread.join(seconds)
    sock.close()
    other.close()
    return not thread.is_alive() and got == [b"wake"]

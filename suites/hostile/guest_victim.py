"""A program that goes on with its work, and counts all of it. Runs *in the guest*, accelerated or not.

One thread has both ends: datagrams there and back, then a message of a TCP connection there and back. Every
byte is made from a number and compared; whatever is not this pair's is foreign.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suites.guest import exasock, sockets, streams

Json = dict[str, Any]
HEAD = struct.Struct("!8sII")
MAGIC = b"victim's"
FILLING = bytes(range(256)) * 8
#: Datagrams under way; bytes of a datagram, of a message.
BATCH, SIZE, MESSAGE = 8, 64, 256
ROOM, SO_RCVBUFFORCE = 4 << 20, 33
#: Seconds: what has not come for so long was lost.
PATIENCE = 20.0


def content(pair: int, number: int, size: int) -> bytes:
    return HEAD.pack(MAGIC, pair, number) + FILLING[number % 256 : number % 256 + size - HEAD.size]


class Pair:
    """``here`` and ``there``: {"netns", "address", "port"}. ``echo``: there is somebody else, who sends every
    datagram back. ``pace``: seconds between two rounds, of a program that need not hurry."""

    def __init__(
        self, number: int, here: Json, there: Json, tcp: bool = True, pace: float = 0.0, echo: bool = False
    ) -> None:
        self.number, self.pace = number, pace
        self.to, self.back = (there["address"], there["port"]), (here["address"], here["port"])
        self.near = self._udp(here)
        self.far = None if echo else self._udp(there)
        self.tcp = self._connect(here, there) if tcp else None
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.next = 0
        self.ending = threading.Event()
        #: Asked to stand still between two rounds; it does; it may go on.
        self.asked, self.still, self.go = threading.Event(), threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, name="victim", daemon=True)

    @staticmethod
    def _udp(end: Json) -> socket.socket:
        sock = sockets.make(end["netns"], "udp")
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        sock.bind((end["address"], end["port"]))
        return sock

    @staticmethod
    def _connect(here: Json, there: Json) -> tuple[socket.socket, socket.socket]:
        with sockets.make(there["netns"], "tcp", blocking=True) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((there["address"], there["port"]))
            listener.listen(4)
            near = sockets.make(here["netns"], "tcp", blocking=True)
            # In the host's namespace the one before it may wait for its end.
            near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            near.bind((here["address"], here["port"]))
            near.connect((there["address"], there["port"]))
            far, _peer = listener.accept()
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
        return near, far

    def _run(self) -> None:
        try:
            while not self.ending.is_set():
                self._datagrams()
                if self.tcp is not None:
                    self._message(*self.tcp)
                self.counts["rounds"] += 1
                if self.asked.is_set():
                    self.still.set()
                    self.go.wait(PATIENCE)
                if self.pace:
                    self.ending.wait(self.pace)
        except OSError as error:
            self.fault(f"{errno.errorcode.get(error.errno or 0, '')} {error}")

    def fault(self, what: str) -> None:
        if len(self.faults) < 20:
            self.faults.append(what)

    def _datagrams(self) -> None:
        first, self.next = self.next, self.next + BATCH
        for number in range(first, self.next):
            self._send(self.near, content(self.number, number, SIZE), self.to)
        if self.far is not None:
            for number in self._heard(self.far, first, "there"):
                self._send(self.far, content(self.number, number, SIZE), self.back)
        for _ in self._heard(self.near, first, "back"):
            pass

    def _send(self, sock: socket.socket, data: bytes, to: tuple[str, int]) -> None:
        while True:
            with contextlib.suppress(BlockingIOError):
                sock.sendto(data, to)
                self.counts["sent"] += 1
                return

    def _heard(self, sock: socket.socket, first: int, way: str) -> list[int]:
        """The numbers of this round, in the order they came; those that did not are a fault."""
        came: list[int] = []
        deadline = time.monotonic() + PATIENCE
        while len(came) < BATCH:
            try:
                data = sock.recv(2048)
            except BlockingIOError:
                if self.pace:
                    self.ending.wait(self.pace / 10)
                if time.monotonic() > deadline:
                    self.fault(f"lost {way}: {sorted(set(range(first, first + BATCH)) - set(came))}")
                    return came
                continue
            number = self._numbered(data)
            if number is None or not first <= number < first + BATCH or number in came:
                self.counts["foreign"] += 1
                self.fault(f"foreign {way}: {data[:48].hex()}")
                continue
            came.append(number)
            self.counts["received"] += 1
        if came != sorted(came):
            self.fault(f"out of order {way}: {came}")
        return came

    def _numbered(self, data: bytes) -> int | None:
        if len(data) < HEAD.size:
            return None
        magic, pair, number = HEAD.unpack_from(data)
        whole = (magic, pair) == (MAGIC, self.number) and data == content(self.number, number, len(data))
        return number if whole and len(data) == SIZE else None

    def _message(self, near: socket.socket, far: socket.socket) -> None:
        number = self.counts["messages"]
        for sender, receiver, seed in ((near, far, number), (far, near, number + 1)):
            data, got = content(self.number, seed, MESSAGE), b""
            deadline = time.monotonic() + PATIENCE
            while True:
                with contextlib.suppress(BlockingIOError):
                    self.counts["bytes"] += sender.send(data)
                    break
            while len(got) < MESSAGE:
                with contextlib.suppress(BlockingIOError):
                    part = receiver.recv(MESSAGE - len(got))
                    if not part:
                        raise OSError(0, "the connection ended")
                    got += part
                if time.monotonic() > deadline:
                    raise OSError(0, f"{MESSAGE - len(got)} bytes of a message do not come")
            if got != data:
                self.fault(f"message {seed}: {got[:48].hex()}")
        self.counts["messages"] += 1

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Nothing is under way meanwhile: what the module has counted is all that was done."""
        self.go.clear()
        self.still.clear()
        self.asked.set()
        while not self.still.wait(0.05) and self.thread.is_alive():
            pass
        yield
        self.asked.clear()
        self.go.set()

    def told(self) -> Json:
        counts = {
            name: self.counts[name] for name in ("rounds", "sent", "received", "messages", "bytes", "foreign")
        }
        return {
            **counts,
            "faults": list(self.faults),
            "alive": self.thread.is_alive(),
            "seconds": time.monotonic(),
        }

    def end(self) -> Json:
        self.ending.set()
        self.go.set()
        self.thread.join(2 * PATIENCE)
        told = self.told()
        for sock in (self.near, self.far, *(self.tcp or ())):
            if sock is not None:
                sock.close()
        return told


_pairs: dict[int, Pair] = {}


def start(number: int, **given: Any) -> None:
    pair = Pair(number, **given)
    _pairs[number] = pair
    pair.thread.start()


def told(number: int, cookies: list[int] | None = None) -> Json:
    """{"rounds", "sent", "received", "messages", "bytes", "foreign", "faults": what was not as it should be,
    "alive", "seconds"}; with the cookies of its namespaces, what the module did of it: {"fast": {"sent",
    "claimed", "tx_bytes", "rx_bytes"}, "why": {reason: times}}."""
    pair = _pairs[number]
    with pair.standing_still():
        found = pair.told()
        if cookies is not None:
            ports = {pair.back[1], pair.to[1]}
            found["fast"], found["why"] = _fast(ports, set(cookies))
    return found


def goes_on(number: int, rounds: int, seconds: float) -> None:
    """Wait for so many more rounds. One call: each answer of this process hands over what it looks for."""
    pair, deadline = _pairs[number], time.monotonic() + seconds
    wanted = pair.counts["rounds"] + rounds
    while pair.counts["rounds"] < wanted:
        if not pair.thread.is_alive() or time.monotonic() > deadline:
            raise TimeoutError(f"{rounds} more rounds: {pair.told()}")
        pair.ending.wait(0.02)


def _fast(ports: set[int], cookies: set[int]) -> tuple[Counter[str], Counter[str]]:
    fast: Counter[str] = Counter()
    why: Counter[str] = Counter()
    for one in exasock.accelerated():
        if one["netns"] in cookies and one["local"][1] in ports:
            fast.update({"sent": one["tx_fast"], "claimed": one["claimed"]})
            for way in ("rx_kernel", "tx_kernel"):
                why.update({f"{way[:2]} {reason}": count for reason, count in one[way].items()})
    for one in streams.attached():
        if one["netns"] in cookies and one["local"][1] in ports:
            fast.update({"tx_bytes": one["tx_bytes"], "rx_bytes": one["rx_bytes"]})
            for way in ("gives", "refused"):
                why.update({f"{way} {reason}": count for reason, count in one[way].items()})
    return fast, why


def take_gifts(path: str, seconds: float) -> Json:
    """Descriptors that somebody sends by a message: used as if they were meant for it, and closed. Ends when
    the sender goes. {"sockets", "files"}."""
    taken: Counter[str] = Counter()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.settimeout(seconds)
        listener.bind(path)
        listener.listen(1)
        Path(path).chmod(0o666)
        giver, _ = listener.accept()
    Path(path).unlink()
    with giver:
        giver.settimeout(seconds)
        while True:
            data, fds, _flags, _address = socket.recv_fds(giver, 16, 8)
            for fd in fds:
                if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.close(fd)
                    taken["files"] += 1
                    continue
                with socket.socket(fileno=fd) as sock, contextlib.suppress(OSError):
                    taken["sockets"] += 1
                    sock.setblocking(False)
                    sock.sendto(b"a gift", ("10.66.0.99", 9))
                    sock.recv(64)
            if not data:
                return dict(taken)
            giver.send(b"y")


def end(number: int) -> Json:
    return _pairs.pop(number).end()


def end_all() -> None:
    for number in list(_pairs):
        end(number)

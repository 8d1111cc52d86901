"""Numbered datagrams that flow without a pause while the world changes. Runs *in the guest*, under test.

One thread sends by one socket and reads another, as fast as it can, and notes what comes. A number is used
until the kernel has taken it: what is missing afterwards was lost on the way.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections import Counter
from typing import Any

from suites.guest import sockets

Json = dict[str, Any]
NUMBER = struct.Struct("!I")
FILLING = bytes(60)
#: Bytes: the receiver's buffer is no reason for a loss.
ROOM = 4 << 20
SO_RCVBUFFORCE = 33


class Stream:
    """``ahead``: so many may be under way when the next one is sent (a ring has 64 slots: they find room);
    ``behind``: so many stay unread."""

    def __init__(
        self, source: Json, to: Json, ahead: int = 48, behind: int = 0, patience: float = 0.5
    ) -> None:
        self.sender = self._open(source)
        self.receiver = self._open(to)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self.to = (to["address"], to["port"])
        self.ahead, self.behind, self.patience = ahead, behind, patience
        #: The next number; the highest one that came; those that did not come, came late, came twice.
        self.next = 0
        self.newest = -1
        self.missing: set[int] = set()
        self.late: list[int] = []
        self.twice: list[int] = []
        self.refused: Counter[str] = Counter()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self.thread.start()

    @staticmethod
    def _open(item: Json) -> socket.socket:
        sock = sockets.make(item["netns"], "udp")
        sock.bind((item["address"], item["port"]))
        return sock

    def _run(self) -> None:
        heard = time.monotonic()
        while not self.ending.is_set():
            # What was lost shall not stop the stream: after a while without any, on it goes.
            if self.next - self.newest <= self.ahead or time.monotonic() - heard > self.patience:
                self._send()
            # All that there is: while anything waits in the socket's own queue, what comes next does too.
            while self.next - self.newest > self.behind and self._receive():
                heard = time.monotonic()

    def _send(self) -> None:
        try:
            self.sender.sendto(NUMBER.pack(self.next) + FILLING, self.to)
            self.next += 1
        except OSError as error:
            self.refused[errno.errorcode.get(error.errno or 0, str(error))] += 1

    def _receive(self) -> bool:
        try:
            (number,) = NUMBER.unpack_from(self.receiver.recv(2048))
        except BlockingIOError:
            return False
        except OSError as error:
            self.refused[f"receive: {errno.errorcode.get(error.errno or 0, str(error))}"] += 1
            return False
        if number in self.missing:
            self.missing.discard(number)
            self.late.append(number)
        elif number <= self.newest:
            self.twice.append(number)
        else:
            self.missing.update(range(self.newest + 1, number))
            self.newest = number
        return True

    def end(self, seconds: float) -> Json:
        """Send no more, and hear what is under way: until the last one is here, or for so long."""
        self.ending.set()
        self.thread.join()
        deadline = time.monotonic() + seconds
        while self.newest < self.next - 1 and time.monotonic() < deadline:
            self._receive()
        self.missing.update(range(self.newest + 1, self.next))
        told = {"sent": self.next, "missing": sorted(self.missing), "late": self.late, "twice": self.twice}
        self.close()
        return told | {"refused": dict(self.refused)}

    def close(self) -> None:
        self.ending.set()
        self.thread.join()
        self.sender.close()
        self.receiver.close()


_streams: dict[str, Stream] = {}


def start(name: str, source: Json, to: Json, **given: Any) -> None:
    """Items: {"netns", "address", "port"}."""
    _streams[name] = Stream(source, to, **given)


def progress(name: str) -> Json:
    """{"sent": so many were taken by the kernel, "newest": the highest number that came}."""
    stream = _streams[name]
    return {"sent": stream.next, "newest": stream.newest, "refused": sum(stream.refused.values())}


def end(name: str, seconds: float) -> Json:
    """{"sent", "missing", "late": those that came after a higher one, "twice", "refused": {errno: times}}."""
    return _streams.pop(name).end(seconds)


def close_all() -> None:
    """For after a failure."""
    for name in list(_streams):
        _streams.pop(name).close()

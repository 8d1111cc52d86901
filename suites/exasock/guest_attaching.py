"""Datagrams in bursts, and sockets that begin to read while they arrive. Runs *in the guest*, under test."""

from __future__ import annotations

import struct
import threading
import time
from typing import Any

from suites.guest import sockets

Json = dict[str, Any]
NUMBER = struct.Struct("!I")
FILLING = bytes(60)
#: Datagrams in a row, and seconds between two rows: so that the driver finds several at once, and the reader
#: has a processor.
BURST, PAUSE = 20, 0.0005
#: Datagrams that a socket reads before the next one takes its place.
READ = 40


class Bursts:
    """A thread that sends numbers that grow."""

    def __init__(self, source: Json, to: Json) -> None:
        self.sock = sockets.make(source["netns"], "udp")
        self.sock.bind((source["address"], source["port"]))
        self.to = (to["address"], to["port"])
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, name="bursts", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        number = 0
        while not self.ending.wait(PAUSE):
            for _ in range(BURST):
                try:
                    self.sock.sendto(NUMBER.pack(number) + FILLING, self.to)
                except BlockingIOError:
                    break
                number += 1

    def end(self) -> None:
        self.ending.set()
        self.thread.join()
        self.sock.close()


_bursts: list[Bursts] = []


def start(source: Json, to: Json) -> None:
    """Items: {"netns", "address", "port"}."""
    _bursts.append(Bursts(source, to))


def end() -> None:
    while _bursts:
        _bursts.pop().end()


def read_by_turns(at: Json, sockets_at_least: int, seconds: float, patience: float) -> Json:
    """Sockets of one address, one after the other, for ``seconds`` and so many at least: each reads some.

    Returns {"sockets": how many, "disordered": [[number, the one before it], ...], "silent": sockets that
    heard nothing for ``patience`` seconds}.
    """
    told: Json = {"sockets": 0, "disordered": [], "silent": 0}
    deadline = time.monotonic() + seconds
    while told["sockets"] < sockets_at_least or time.monotonic() < deadline:
        with sockets.make(at["netns"], "udp", blocking=True) as sock:
            sock.settimeout(patience)
            sock.bind((at["address"], at["port"]))
            newest = -1
            try:
                for _ in range(READ):
                    (number,) = NUMBER.unpack_from(sock.recv(2048))
                    if number <= newest:
                        told["disordered"].append([number, newest])
                    newest = max(newest, number)
            except TimeoutError:
                told["silent"] += 1
        told["sockets"] += 1
    return told

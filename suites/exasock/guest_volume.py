"""Volumes through one TCP connection, made and compared piece by piece. Runs *in the guest*, under test."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from typing import Any

from suites.exasock import guest_tcp

Json = dict[str, Any]
PIECE = 1 << 16
_running: dict[str, list[threading.Thread]] = {}
_told: dict[str, Json] = {}


def piece(seed: int, number: int) -> bytes:
    """The ``number``-th 64 KiB of the stream of this seed; no two are the same."""
    return random.Random(seed << 32 | number).randbytes(PIECE)


def _send(label: str, seed: int, size: int, told: Json) -> None:
    sock, chance = guest_tcp._ends[label], random.Random(seed)
    for number in range(size // PIECE):
        data = memoryview(piece(seed, number))
        while data:
            count = sock.send(data[: chance.choice((100, 1448, 8000, PIECE))])
            told["sent"] += count
            data = data[count:]


def _receive(label: str, seed: int, size: int, told: Json) -> None:
    sock, chance, whole = guest_tcp._ends[label], random.Random(seed + 1), hashlib.sha256()
    for number in range(size // PIECE):
        wanted, got = piece(seed, number), b""
        while len(got) < PIECE:
            data = sock.recv(min(chance.choice((500, 1448, 10_000, PIECE)), PIECE - len(got)))
            if not data:
                raise OSError(0, "the end")
            got += data
            told["received"] += len(data)
        whole.update(got)
        if got != wanted:
            told["differs"] = number * PIECE + (guest_tcp._difference(got, wanted) or 0)
            return
    told["hash"] = whole.hexdigest()


def start(label: str, name: str, send: list[int], receive: list[int]) -> None:
    """Both ways at once; [seed, size], sizes in whole pieces."""
    told: Json = {"sent": 0, "received": 0, "differs": None, "errors": []}
    _told[name] = told

    def guarded(work: Any, seed: int, size: int) -> None:
        try:
            work(label, seed, size, told)
        except OSError as error:
            told["errors"].append(f"{work.__name__}: {error}")

    _running[name] = [
        threading.Thread(target=guarded, args=(_send, *send), daemon=True),
        threading.Thread(target=guarded, args=(_receive, *receive), daemon=True),
    ]
    for thread in _running[name]:
        thread.start()


def progress(name: str) -> Json:
    """What is done by now, and whether all of it is."""
    return {**_told[name], "over": not any(one.is_alive() for one in _running[name])}


def finish(name: str, seconds: float) -> Json:
    deadline = time.monotonic() + seconds
    for thread in _running.pop(name):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            _told[name]["errors"].append("it hangs")
    return _told.pop(name)


def expected(seed: int, size: int) -> str:
    """The hash of a stream."""
    whole = hashlib.sha256()
    for number in range(size // PIECE):
        whole.update(piece(seed, number))
    return whole.hexdigest()

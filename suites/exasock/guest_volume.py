"""Volumes through one TCP connection, made and compared piece by piece. Runs *in the guest*, under test.

Most pieces are pressed through from both sides at once; some are exchanged in messages by turns, for a
connection that is never quiet stays the kernel's.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from typing import Any

from suites.exasock import guest_tcp

Json = dict[str, Any]
PIECE = 1 << 16
#: Of so many pieces one goes by turns, in messages of so many bytes; a turn's limit, s.
BY_TURNS, MESSAGE, PATIENCE = 8, 1000, 120.0
_running: dict[str, list[threading.Thread]] = {}
_told: dict[str, Json] = {}


def piece(seed: int, number: int) -> bytes:
    """The ``number``-th 64 KiB of the stream of this seed; no two are the same."""
    return random.Random(seed << 32 | number).randbytes(PIECE)


def _await_turn(told: Json, size: int, first: bool, more: threading.Condition) -> None:
    """Until this end may send ``size`` bytes: the first one when all it sent was answered, the other when it
    has something to answer."""
    least = told["sent"] + (0 if first else size)
    with more:
        if not more.wait_for(lambda: told["received"] >= least, PATIENCE):
            raise OSError(0, "no turn comes")


def _send(label: str, seed: int, size: int, told: Json, first: bool, more: threading.Condition) -> None:
    sock, chance = guest_tcp._ends[label], random.Random(seed)
    for number in range(size // PIECE):
        data = memoryview(piece(seed, number))
        if not number % BY_TURNS:
            for at in range(0, PIECE, MESSAGE):
                message = data[at : at + MESSAGE]
                _await_turn(told, len(message), first, more)
                sock.sendall(message)
                told["sent"] += len(message)
            continue
        while data:
            count = sock.send(data[: chance.choice((100, 1448, 8000, PIECE))])
            told["sent"] += count
            data = data[count:]


def _receive(label: str, seed: int, size: int, told: Json, more: threading.Condition) -> None:
    sock, chance, whole = guest_tcp._ends[label], random.Random(seed + 1), hashlib.sha256()
    for number in range(size // PIECE):
        wanted, got = piece(seed, number), b""
        while len(got) < PIECE:
            data = sock.recv(min(chance.choice((500, 1448, 10_000, PIECE)), PIECE - len(got)))
            if not data:
                raise OSError(0, "the end")
            got += data
            with more:
                told["received"] += len(data)
                more.notify_all()
        whole.update(got)
        if got != wanted:
            told["differs"] = number * PIECE + (guest_tcp._difference(got, wanted) or 0)
            return
    told["hash"] = whole.hexdigest()


def start(label: str, name: str, send: list[int], receive: list[int], first: bool) -> None:
    """Both ways at once; [seed, size], sizes in whole pieces, the same both ways. ``first``: it begins where
    messages go by turns."""
    more = threading.Condition()
    told: Json = {"sent": 0, "received": 0, "differs": None, "errors": []}
    _told[name] = told

    def guarded(work: Any, seed: int, size: int, *given: Any) -> None:
        try:
            work(label, seed, size, told, *given)
        except OSError as error:
            told["errors"].append(f"{work.__name__}: {error}")

    _running[name] = [
        threading.Thread(target=guarded, args=(_send, *send, first, more), daemon=True),
        threading.Thread(target=guarded, args=(_receive, *receive, more), daemon=True),
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

"""Two connected sockets in one process, attached by hand: taken, brought home and used in every order.

Runs *in the guest*, without the library.
"""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import time
from typing import Any

from suites.guest import sockets, streams

Json = dict[str, Any]


def _pair(a: str | None, b: str | None, port: int) -> tuple[socket.socket, socket.socket]:
    listener = sockets.make(b, "tcp", blocking=True)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("10.1.0.2", port))
    listener.listen(1)
    one = sockets.make(a, "tcp", blocking=True)
    one.connect(("10.1.0.2", port))
    other, _address = listener.accept()
    listener.close()
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.sendall(b"there")
    other.recv(5, socket.MSG_WAITALL)
    other.sendall(b"back")
    one.recv(4, socket.MSG_WAITALL)
    return one, other


def by_turns(a: str | None, b: str | None, port: int, seed: int, count: int, seconds: float) -> Json:
    """``count`` messages, each end taken and brought home by chance before, between and after."""
    chance = random.Random(seed)
    one, other = _pair(a, b, port)
    context = streams.Context()
    ends = [context.attach(one), context.attach(other)]
    hashes = [[hashlib.sha256(), hashlib.sha256()] for _ in ends]
    told: Json = {"past": 0, "messages": 0}
    for number in range(count):
        way = chance.randrange(2)
        source, target = ends[way], ends[1 - way]
        data = chance.randbytes(chance.choice((1, 10, 100, 1448, 3000, 9000)))
        what = chance.random()
        if what < 0.1:
            chance.choice(ends).home()
        elif what < 0.3:
            source.take()
            target.take()
        source.look()
        target.look(chance.random() > 0.1)
        if source.send(data):
            told["past"] += 1
        else:
            source.sock.sendall(data)
        if chance.random() < 0.1:
            target.home()
        hashes[way][0].update(data)
        got = target.expect(len(data), seconds)
        if len(got) != len(data):
            told["short"] = [number, len(got), len(data)]
            break
        hashes[way][1].update(got)
        told["messages"] += 1
    told["right"] = all(sent.digest() == received.digest() for sent, received in hashes)
    told["attached"] = [one for one in streams.attached() if one["local"][1]]
    one.close()
    told["rest"] = len(other.recv(100))
    other.close()
    context.close()
    return told


def scribble(a: str | None, b: str | None, port: int, seed: int, count: int) -> Json:
    """The words that the process may write are written with anything, while bytes come and go."""
    chance = random.Random(seed)
    one, other = _pair(a, b, port)
    context = streams.Context()
    ends = [context.attach(one), context.attach(other)]
    one.sendall(b"there")
    other.recv(5, socket.MSG_WAITALL)
    other.sendall(b"back")
    one.recv(4, socket.MSG_WAITALL)
    deadline = time.monotonic() + 5
    while not all([end.take() for end in ends]) and time.monotonic() < deadline:
        time.sleep(0.005)
    taken = [end.taken for end in ends]
    for _number in range(count):
        end = chance.choice(ends)
        anything = (0, 1, (1 << 64) - 1, 1 << 63, chance.getrandbits(64), end.word + 2, end.word - 2)
        word = chance.choice(anything)
        struct.pack_into("=Q", end.control, 64, word & (1 << 64) - 1)
        struct.pack_into("=Q", end.control, 0, streams.rdtsc() + chance.choice((0, 0, -(1 << 20), 1 << 40)))
        chance.choice(ends).send(chance.randbytes(chance.choice((1, 500, 1448, 5000))))
        if chance.random() < 0.2:
            chance.choice(ends).home()
        if chance.random() < 0.3:
            end.take()
    for end in ends:
        end.detach()
    one.close()
    other.close()
    context.close()
    return {"taken": taken}

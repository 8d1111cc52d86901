"""A connection that goes from process to process: exec, and by message. Runs *in the guest*, under test."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from suites.exasock import guest_tcp

#: What an executed program does with descriptor 3: receive so many bytes, answer by their number reversed.
PROGRAM = """
import random, socket, sys
sock = socket.socket(fileno=3)
seed, size, rounds = (int(one) for one in sys.argv[1:4])
for number in range(rounds):
    got = b""
    while len(got) < size:
        part = sock.recv(size - len(got))
        assert part, "the end"
        got += part
    assert got == random.Random(seed + number).randbytes(size), "other bytes"
    sock.sendall(random.Random(seed + 1000 + number).randbytes(size))
"""


def execute(label: str, seed: int, size: int, rounds: int, preload: bool) -> int:
    """A child becomes another program, with or without the library, that goes on with the connection; its
    exit status."""
    sock = guest_tcp._ends[label]
    environment = dict(os.environ)
    if not preload:
        environment = {name: value for name, value in environment.items() if name != "LD_PRELOAD"}
    child = os.fork()
    if not child:
        try:
            os.dup2(sock.fileno(), 3)
            argv = ["python3", "-c", PROGRAM, str(seed), str(size), str(rounds)]
            os.execve(sys.executable, argv, environment)
        finally:
            os._exit(127)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def preloaded() -> bool:
    return "libexasock" in Path("/proc/self/maps").read_text()


def answer(label: str, seed: int, size: int, rounds: int) -> int:
    """The other end of it: how many of its answers were right."""
    sock = guest_tcp._ends[label]
    right = 0
    for number in range(rounds):
        sock.sendall(guest_tcp.content(seed + number, size))
        got = sock.recv(size, socket.MSG_WAITALL)
        right += got == guest_tcp.content(seed + 1000 + number, size)
    return right


_post: dict[str, socket.socket] = {}


def post_open(path: str) -> None:
    """Where descriptors can be sent to."""
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    Path(path).unlink(missing_ok=True)
    box.bind(path)
    _post[path] = box


def post_send(path: str, label: str, keep: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box:
        box.connect(path)
        socket.send_fds(box, [b"x"], [guest_tcp._ends[label].fileno()])
    if not keep:
        guest_tcp.close(label)


def post_take(path: str, label: str) -> None:
    _data, descriptors, _flags, _from = socket.recv_fds(_post[path], 16, 1)
    sock = socket.socket(fileno=descriptors[0])
    sock.setblocking(True)
    guest_tcp._timeouts(sock)
    guest_tcp._ends[label] = sock


def post_close(path: str) -> None:
    _post.pop(path).close()
    Path(path).unlink(missing_ok=True)

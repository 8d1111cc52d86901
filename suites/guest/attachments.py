"""Attachments made by hand, without the library: what kernel memory and time they take. Runs *in the guest*.

Accelerated sockets of a process of its own, so that its memory cgroup is charged for nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from suites.guest import exasock, health, sockets, streams

Json = dict[str, Any]
CGROUPS = Path("/run/bench/cgroup")


def _attach(context: int, sock: socket.socket, request: int = exasock.ATTACH) -> int:
    """The handle."""
    buffer = bytearray(struct.pack(exasock.ATTACH_FORMAT, sock.fileno(), 0, 0))
    fcntl.ioctl(context, request, buffer, True)
    return int(struct.unpack(exasock.ATTACH_FORMAT, buffer)[1])


def _detach(context: int, handle: int) -> None:
    fcntl.ioctl(context, exasock.DETACH, struct.pack("=I", handle))


def _charged(group: Path) -> int:
    """Kernel memory of a cgroup, bytes."""
    for line in (group / "memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "kernel":
            return int(value)
    raise ValueError("memory.stat has no line kernel")


def _apart(body: Callable[[], Json]) -> Json:
    """Run in a child; its answer, or RuntimeError with what it raised."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = body()
        except BaseException as error:  # noqa: BLE001 - it is reported by the parent
            answer = {"raised": f"{type(error).__name__}: {error}"}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        told: Json = json.loads(answers.read())
    os.waitpid(pid, 0)
    if "raised" in told:
        raise RuntimeError(told["raised"])
    return told


@contextlib.contextmanager
def _group() -> Iterator[Path]:
    """A memory cgroup, for as long as it is needed."""
    CGROUPS.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(CGROUPS)], check=True)
    group = CGROUPS / "attachments"
    try:
        (CGROUPS / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
        yield group
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()
        subprocess.run(["umount", str(CGROUPS)], check=False)


def _taken_up(
    open_all: Callable[[], list[socket.socket]], attach: Callable[[int, socket.socket], int]
) -> Json:
    """What attaching these sockets takes, in a process and a cgroup of their own."""
    with _group() as group:

        def body() -> Json:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            opened = open_all()
            context = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
            charged, available = _charged(group), health.memory()["MemAvailable"]
            for sock in opened:
                attach(context, sock)
            return {
                "charged": _charged(group) - charged,
                "available": available - health.memory()["MemAvailable"],
            }

        return _apart(body)


def memory(netns: list[str], address: str) -> Json:
    """Bytes that attaching a socket in each of these namespaces takes: {"charged": to the process's memory
    cgroup, "available": less of MemAvailable}, for all of them."""

    def open_all() -> list[socket.socket]:
        opened = [sockets.make(name, "udp") for name in netns]
        for sock in opened:
            sock.bind((address, 9))
        return opened

    return _taken_up(open_all, _attach)


def connection_memory(here: str, there: str, address: str, count: int) -> Json:
    """The same of ``count`` TCP connections from one namespace to the other, attached at their first ends."""
    others: list[socket.socket] = []

    def open_all() -> list[socket.socket]:
        with sockets.make(there, "tcp", blocking=True) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, 9))
            listener.listen(16)
            opened = []
            for _ in range(count):
                sock = sockets.make(here, "tcp", blocking=True)
                sock.connect((address, 9))
                opened.append(sock)
                others.append(listener.accept()[0])
        return opened

    return _taken_up(open_all, lambda context, sock: _attach(context, sock, streams.STREAM_ATTACH))


def rate(netns: str, address: str, count: int, alone: bool) -> float:
    """Attach and detach one socket ``count`` times: how often a second. ``alone``: no other of its namespace
    is attached, so the namespace's state comes and goes with it."""
    with sockets.make(netns, "udp") as sock, sockets.make(netns, "udp") as other:
        sock.bind((address, 9))
        other.bind((address, 10))
        context = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            if not alone:
                _attach(context, other)
            began = time.monotonic()
            for _ in range(count):
                _detach(context, _attach(context, sock))
            return count / (time.monotonic() - began)
        finally:
            os.close(context)


def use(netns: list[str], address: str, to: str) -> None:
    """In each of these namespaces a socket that receives, sends twice, and is closed. Behind ``exasock``."""
    for name in netns:
        with sockets.make(name, "udp") as sock:
            sock.bind((address, 9))
            with contextlib.suppress(BlockingIOError):
                sock.recv(1)
            for _ in range(2):
                sock.sendto(b"x", (to, 9))

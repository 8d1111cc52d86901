"""Many accelerated sockets of one namespace, and how many frames its device has received. *In the guest.*"""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from lab.guest.agent import in_netns
from suites.guest import sockets

_crowd: list[socket.socket] = []


def gather(netns: str, address: str, first: int, count: int) -> int:
    """So many sockets at ports from ``first`` on, or as many fewer as there are more; each is received from
    once, so that it is accelerated if it can be. Tells how many there are."""
    while len(_crowd) > count:
        _crowd.pop().close()
    while len(_crowd) < count:
        sock = sockets.make(netns, "udp")
        sock.bind((address, first + len(_crowd)))
        with contextlib.suppress(BlockingIOError):
            sock.recv(1)
        _crowd.append(sock)
    return len(_crowd)


def received(netns: str, device: str) -> int:
    """Frames that the device has received since it was made."""
    with in_netns(netns):
        for line in Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines():
            name, _, counters = line.partition(":")
            if name.strip() == device:
                return int(counters.split()[1])
    raise ValueError(f"no device {device} in {netns}")


def await_received(netns: str, device: str, least: int, seconds: float) -> int:
    """Wait until the device has received so many. TimeoutError tells how many it has."""
    deadline = time.monotonic() + seconds
    while (got := received(netns, device)) < least:
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{device} has received {got} of {least} frames")
        time.sleep(0.1)
    return got

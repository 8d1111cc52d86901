"""Python programs that answer datagrams, as people write them. Runs *in the guest*, by itself.

    exasock python3 services.py KIND ADDRESS PORT NAMESPACE...

A process of its own in each namespace, forked when everything is imported; it says ``ready NAMESPACE`` when
it listens. An answer is who answers, and what was asked: ``p7 hello``. Kinds: ``asyncio``, ``select``, and
``group``, where ADDRESS is a multicast group and MEMBERS sockets of a process are its members: ``p7/0 hello``
and so on. As a module it is the one who asks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from typing import Any

MEMBERS = 3
CLONE_NEWNET = 0x40000000
Json = dict[str, Any]


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def enter(netns: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{netns}") as file:  # noqa: PTH123
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {netns}")


def by_asyncio(netns: str, address: str, port: int) -> None:
    import asyncio

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(netns.encode() + b" " + data, addr)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(Echo, local_addr=(address, port))
        say(f"ready {netns}")
        await asyncio.Event().wait()

    asyncio.run(serve())


def by_select(netns: str, address: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, port))
        sock.setblocking(False)
        say(f"ready {netns}")
        while True:
            select.select([sock], [], [])
            with contextlib.suppress(BlockingIOError):
                data, sender = sock.recvfrom(2048)
                sock.sendto(netns.encode() + b" " + data, sender)


def by_group(netns: str, group: str, port: int) -> None:
    members: dict[socket.socket, bytes] = {}
    for number in range(MEMBERS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((group, port))
        mreqn = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), socket.if_nametoindex("eth0"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)
        members[sock] = f"{netns}/{number} ".encode()
    say(f"ready {netns}")
    while True:
        for sock in select.select(list(members), [], [])[0]:
            data, sender = sock.recvfrom(2048, socket.MSG_DONTWAIT)
            sock.sendto(members[sock] + data, sender)


def main() -> None:
    kind, address, port, names = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    if kind == "asyncio":
        import asyncio  # noqa: F401  # once, before the forks
    for netns in names:
        if not os.fork():
            enter(netns)
            globals()[f"by_{kind}"](netns, address, port)
    for _ in names:
        if status := os.wait()[1]:
            sys.exit(f"one of them ended: {status}")


# --- who asks -----------------------------------------------------------------------------------------------


def ask(items: list[Json], count: int, seconds: float) -> dict[str, Json]:
    """Ask ``count`` questions of each, one after the other, all of them at once, and hear who answers.

    Items: {"netns", "to", "port", "device": for multicast, "answerers": who must
    answer}; the next question is asked when all have.
    Returns by namespace {"asked", "answers": {who: how many}, "odd": other datagrams}.
    """
    from lab.guest.agent import in_netns
    from suites.guest import sockets

    deadline = time.monotonic() + seconds
    told: dict[str, Json] = {}
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for item in items:
            sock = stack.enter_context(sockets.make(item["netns"], "udp"))
            with in_netns(item["netns"]):
                index = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(item["device"]))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, index)
            sock.bind(("0.0.0.0", 0))
            told[item["netns"]] = {"asked": 0, "answers": Counter(), "odd": []}
            selector.register(sock, selectors.EVENT_READ, item)
            _question(sock, item, told[item["netns"]])
        waiting = len(items)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for key, _events in selector.select(left):
                one = told[key.data["netns"]]
                if not _hear(key.fileobj, one):
                    continue
                if any(one["answers"][who] < one["asked"] for who in key.data["answerers"]):
                    continue
                if one["asked"] == count:
                    waiting -= 1
                else:
                    _question(key.fileobj, key.data, one)
        for key in list(selector.get_map().values()):
            while _hear(key.fileobj, told[key.data["netns"]]):
                pass
    return told


def _question(sock: Any, item: Json, one: Json) -> None:
    one["asked"] += 1
    sock.sendto(f"question {one['asked']}".encode(), (item["to"], item["port"]))


def _hear(sock: Any, one: Json) -> bool:
    """Take one datagram; False when there is none."""
    try:
        data = sock.recv(2048).decode(errors="replace")
    except BlockingIOError:
        return False
    who, _space, rest = data.partition(" ")
    if rest == f"question {one['asked']}":
        one["answers"][who] += 1
    else:
        one["odd"].append(data)
    return True


if __name__ == "__main__":
    main()

"""Sockets of any namespace in one process: the thread visits the namespace, the socket stays in it (N1)."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import Any

from lab.guest.agent import in_netns

KINDS = {
    "udp": (socket.SOCK_DGRAM, 0),
    "multicast": (socket.SOCK_DGRAM, 0),
    "tcp": (socket.SOCK_STREAM, 0),
    "icmp": (socket.SOCK_RAW, socket.IPPROTO_ICMP),
}
Json = dict[str, Any]


def make(netns: str | None, kind: str, device: str | None = None, blocking: bool = False) -> socket.socket:
    """An IPv4 socket of a namespace (None: the process's own), bound to a device if one is named."""
    kind_of, protocol = KINDS[kind]
    with in_netns(netns):
        sock = socket.socket(socket.AF_INET, kind_of | socket.SOCK_CLOEXEC, protocol)
        sock.setblocking(blocking)
        if device is not None:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            except OSError:
                sock.close()
                raise
    return sock


def membership(group: str, *, interface: str | None = None) -> bytes:
    """struct ip_mreqn: the group, and the local address whose interface joins (None: the route decides)."""
    return struct.pack(
        "=4s4si", socket.inet_aton(group), socket.inet_aton(interface) if interface else bytes(4), 0
    )


def try_steps(
    netns: str | None,
    kind: str,
    device: str | None = None,
    bind: tuple[str, int] | None = None,
    connect: tuple[str, int] | None = None,
    sendto: tuple[str, int] | None = None,
    join: tuple[str, str] | None = None,
    seconds: float = 5.0,
) -> Json:
    """Do what a program would, in this order, and say where it stopped.

    A connect that is still trying after ``seconds`` ends with EINPROGRESS (SO_SNDTIMEO). Returns {"step":
    "socket" | "device" | "bind" | "join" | "connect" | "send" | None, "errno": name or None, "local": the
    socket's own address as far as it came}.
    """
    step = "device" if device else "socket"
    local: list[Any] | None = None
    try:
        with contextlib.closing(make(netns, kind, device, blocking=True)) as sock:
            # The kernel's own waiting, not Python's poll: a program under test blocks in connect(2).
            whole, part = int(seconds), int(seconds % 1 * 1e6)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", whole, part))
            if bind is not None:
                step = "bind"
                sock.bind((bind[0], bind[1]))
            if join is not None:
                step = "join"
                mreqn = membership(join[0], interface=join[1])
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)
            if connect is not None:
                step = "connect"
                sock.connect((connect[0], connect[1]))
            if sendto is not None:
                step = "send"
                sock.sendto(b"x", (sendto[0], sendto[1]))
            local = list(sock.getsockname())
    except OSError as error:
        return {"step": step, "errno": errno.errorcode.get(error.errno or 0, str(error)), "local": None}
    return {"step": None, "errno": None, "local": local}

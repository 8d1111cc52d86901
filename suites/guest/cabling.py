"""Speaks and listens on the ports' net devices themselves, for ``suites.cabling``. Runs *in the guest*."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
from pathlib import Path
from typing import Any

#: IEEE 802's type for local experiments: nobody else speaks it.
TYPE = 0x88B5
_SOL_PACKET, _ADD_MEMBERSHIP, _IGNORE_OUTGOING, _PROMISC = 263, 1, 23, 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _UP = 0x8913, 0x8914, 1

_ears: dict[str, socket.socket] = {}
_raised: list[str] = []


def _read(name: str, file: str) -> str:
    try:
        return (Path("/sys/class/net") / name / file).read_text().strip()
    except OSError:
        return ""


def _set_up(name: str, up: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        told = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sH14x", name.encode(), 0))
        flags = struct.unpack("16sH14x", told)[1]
        wanted = flags | _UP if up else flags & ~_UP
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), wanted))


def listen(names: list[str]) -> None:
    """From now on hear everything that arrives at these devices; one that is down is up meanwhile."""
    quiet()
    for name in names:
        if not int(_read(name, "flags") or "0", 16) & _UP:
            _set_up(name, True)
            _raised.append(name)
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        ear.setblocking(False)
        ear.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        membership = struct.pack("iHH8s", socket.if_nametoindex(name), _PROMISC, 0, b"")
        ear.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
        ear.bind((name, TYPE))
        _ears[name] = ear


def quiet() -> None:
    """Stop listening; devices that were down are so again."""
    for ear in _ears.values():
        ear.close()
    _ears.clear()
    while _raised:
        with contextlib.suppress(OSError):
            _set_up(_raised.pop(), False)


def links() -> dict[str, dict[str, Any]]:
    """Of each device listened at: whether it has a link, and its speed in Mb/s, None when it does not say."""
    found = {}
    for name in _ears:
        speed = _read(name, "speed")
        found[name] = {
            "link": _read(name, "carrier") == "1",
            "speed": int(speed) if speed.isdigit() and int(speed) else None,
        }
    return found


def speak(name: str, frame: str) -> None:
    """Send a frame (hexadecimal, without FCS) out of a device."""
    _ears[name].send(bytes.fromhex(frame))


def heard(seconds: float) -> list[list[str]]:
    """Device and frame of what arrived, waiting for the first at most this long."""
    select.select(list(_ears.values()), [], [], seconds)
    found = []
    for name, ear in _ears.items():
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append([name, ear.recv(2048).hex()])
    return found

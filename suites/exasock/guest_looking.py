"""Sockets that look on, and filters on a program's sockets, for the tests of B7. Runs *in the guest*."""

from __future__ import annotations

import ctypes
import socket
import struct
from pathlib import Path

from lab.guest.agent import in_netns
from suites.exasock import guest_calls
from suites.guest import bpf

SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_ATTACH_REUSEPORT_CBPF = 26, 27, 51
_kept: list[object] = []
_held: list[socket.socket] = []


def packet_sockets(netns: str | None, device: str, protocols: list[int]) -> None:
    """Packet sockets bound to the device, one for each protocol; never read. They stay until ``release``."""
    with in_netns(netns):
        for protocol in protocols:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sock.bind((device, protocol))
            _held.append(sock)


def raw_socket(netns: str | None, protocol: int) -> None:
    """A raw IPv4 socket."""
    with in_netns(netns):
        _held.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol))


def release() -> None:
    while _held:
        _held.pop().close()


def settings(folders: list[str]) -> list[str]:
    """The names of all settings in these folders of /proc/sys/net, from there on."""
    root = Path("/proc/sys/net")
    files = (one for folder in folders for one in (root / folder).rglob("*") if one.is_file())
    return sorted(str(one.relative_to(root)) for one in files)


def filter_all(program: str, s: str, there: bool) -> None:
    """A filter that accepts everything, on a socket of ``guest_calls``; or without it."""
    sock = guest_calls.programs[program].sockets[s]
    if there:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _accepting(0xFFFF))
    else:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def map_socket(program: str, s: str, there: bool) -> None:
    """A socket of ``guest_calls`` in a sockmap; or in none."""
    if there:
        bpf.map_socket(guest_calls.programs[program].sockets[s].fileno())
    else:
        bpf.unmap_sockets()


def choose_first(program: str, s: str) -> None:
    """A program that chooses the first socket of the port's."""
    sock = guest_calls.programs[program].sockets[s]
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, _accepting(0))


def _accepting(value: int) -> bytes:
    """struct sock_fprog of one instruction, which returns the value."""
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, value))
    _kept.append(code)
    return struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))

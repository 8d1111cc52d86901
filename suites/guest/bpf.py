"""BPF programs of a few instructions, by the system call alone. Runs *in the guest*; x86-64.

A program stays attached until ``detach_all``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from pathlib import Path

from lab.guest.agent import in_netns

_libc = ctypes.CDLL(None, use_errno=True)
BPF = 321
MAP_CREATE, MAP_UPDATE, MAP_DELETE = 0, 2, 3
PROG_LOAD, PROG_ATTACH, PROG_DETACH, RAW_TRACEPOINT_OPEN, LINK_CREATE = 5, 8, 9, 17, 28
#: Program types, and where they are attached (enum bpf_prog_type, bpf_attach_type).
XDP, CGROUP_SKB, CGROUP_SOCK_ADDR, LSM = 6, 8, 18, 29
INET_INGRESS, INET_EGRESS, UDP4_SENDMSG, UDP4_RECVMSG, LSM_MAC, AT_XDP = 0, 1, 14, 19, 27, 37
CGROUP = "/sys/fs/cgroup"
#: enum bpf_map_type.
SOCKMAP = 15
#: mov64 r0, the number; exit
ZERO, ONE, TWO = (struct.pack("=BBhi", 0xB7, 0, 0, number) for number in range(3))
EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)
_attached: list[tuple[int, int, int]] = []
_links: list[int] = []
_maps: list[int] = []


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    told = int(_libc.syscall(BPF, command, buffer, len(attributes)))
    if told < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf({command}): {errno.errorcode.get(code, code)}")
    return told


def _load(kind: int, where: int, code: bytes, target: int = 0) -> int:
    kept = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(4096)
    attributes = struct.pack(
        "=IIQQIIQII16sIIIIQIIQII",
        kind, len(code) // 8, ctypes.addressof(kept), ctypes.addressof(licence), 1, len(log),
        ctypes.addressof(log), 0, 0, b"", 0, where, 0, 0, 0, 0, 0, 0, 0, target,
    )  # fmt: skip
    try:
        return _bpf(PROG_LOAD, attributes)
    except OSError as problem:
        raise OSError(problem.errno, f"{problem.strerror}: {log.value.decode(errors='replace')}") from None


def _attach(program: int, where: int) -> None:
    group = os.open(CGROUP, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _bpf(PROG_ATTACH, struct.pack("=IIII", group, program, where, 0))
    _attached.append((group, program, where))


def pass_all(where: int) -> None:
    """A program that lets everything pass, on the root control group."""
    kind = CGROUP_SKB if where in (INET_INGRESS, INET_EGRESS) else CGROUP_SOCK_ADDR
    _attach(_load(kind, where, ONE + EXIT), where)


def write_source(address: str, port: int) -> None:
    """Each datagram received is told to come from there (UDP4_RECVMSG, on the root control group)."""
    numbers = struct.unpack("=i", bytes(int(part) for part in address.split(".")))[0], port
    stores = b"".join(
        struct.pack("=BBhi", 0xB7, 2, 0, value) + struct.pack("=BBhi", 0x63, 0x21, at, 0)
        for value, at in ((numbers[0], 4), (int.from_bytes(numbers[1].to_bytes(2, "big"), "little"), 24))
    )
    _attach(_load(CGROUP_SOCK_ADDR, UDP4_RECVMSG, stores + ONE + EXIT), UDP4_RECVMSG)


def _extra(kind: int, length: int) -> int:
    """Bytes behind a struct btf_type (Documentation/bpf/btf.rst)."""
    each = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
    return {1: 4, 3: 12, 14: 4, 17: 4}.get(kind, 0) + each.get(kind, 0) * length


def _function(name: str) -> int:
    """The number of a kernel function among the kernel's types."""
    data = Path("/sys/kernel/btf/vmlinux").read_bytes()
    header, types, size, strings = struct.unpack_from("=IIII", data, 4)
    begin = header + strings
    wanted = data.index(b"\0" + name.encode() + b"\0", begin) + 1 - begin
    at, number, entry = header + types, 1, struct.Struct("=III")
    while at < header + types + size:
        label, about, _ = entry.unpack_from(data, at)
        if label == wanted and about >> 24 & 0x1F == 12:
            return number
        at += entry.size + _extra(about >> 24 & 0x1F, about & 0xFFFF)
        number += 1
    raise LookupError(f"the kernel's types have no function {name}")


def permit(hook: str) -> None:
    """A program on a hook of the security modules, which permits everything."""
    program = _load(LSM, LSM_MAC, ZERO + EXIT, _function(f"bpf_lsm_{hook}"))
    _links.append(_bpf(RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program)))
    os.close(program)


def pass_frames(netns: str | None, device: str) -> None:
    """An XDP program (generic) that lets everything pass."""
    with in_netns(netns):
        program = _load(XDP, 0, TWO + EXIT)
        index = socket.if_nametoindex(device)
        _links.append(_bpf(LINK_CREATE, struct.pack("=IIII", program, index, AT_XDP, 2)))
        os.close(program)


def map_socket(fd: int) -> None:
    """The socket is the only one in a new sockmap without programs. OSError as the kernel says."""
    sockets = _bpf(MAP_CREATE, struct.pack("=IIIII", SOCKMAP, 4, 4, 1, 0))
    _maps.append(sockets)
    key, value = ctypes.c_uint32(0), ctypes.c_uint32(fd)
    _bpf(MAP_UPDATE, struct.pack("=IIQQQ", sockets, 0, ctypes.addressof(key), ctypes.addressof(value), 0))


def unmap_sockets() -> None:
    """No socket is in a sockmap of ours any more."""
    key = ctypes.c_uint32(0)
    while _maps:
        sockets = _maps.pop()
        _bpf(MAP_DELETE, struct.pack("=IIQQQ", sockets, 0, ctypes.addressof(key), 0, 0))
        os.close(sockets)


def detach_all() -> None:
    """Nothing is attached any more."""
    while _attached:
        group, program, where = _attached.pop()
        _bpf(PROG_DETACH, struct.pack("=IIII", group, program, where, 0))
        os.close(group)
        os.close(program)
    while _links:
        os.close(_links.pop())

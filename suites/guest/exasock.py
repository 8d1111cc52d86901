"""/dev/exasock for the bench: what is accelerated and why not, settings, parameters. Runs *in the guest*.

Numbers and layouts: datapath/include/exasock_abi.h (compared by ``suites/tests/test_exasock_abi.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

from lab.guest.agent import in_netns

DEVICE = Path("/dev/exasock")
PARAMETERS = Path("/sys/module/exasock/parameters")
ABI = 4
#: enum exasock_reason, in order.
REASONS = (
    "none", "device", "filter", "tap", "stacked", "option", "size", "memory",
    "idle", "queue", "full", "timeout", "sleep", "shared", "header", "route",
    "unbound", "error", "behind", "neighbour", "loop", "busy", "skipped", "policy",
    "qdisc", "foreign",
)  # fmt: skip
#: struct exasock_stat without its reasons; then 32 counters each, received and sent.
STAT = struct.Struct("=Q4s4s2s2si16sQQQQ")
COUNTERS = struct.Struct("=32Q")
STAT_SIZE = STAT.size + 2 * COUNTERS.size
INFO_FORMAT, ATTACH_FORMAT, SETTING_FORMAT, LIST_FORMAT = "=IIQ", "=iIQ", "=IIQ", "=QIIII8Q"
SEND_FORMAT = "=Ii4s2sH4siQII"
SEND_BUFFER = 4
#: What LIST writes: count, reserved, refusals.
NOTHING = (0,) * 10
LIST_ALL = 1
#: enum exasock_refusal, in order.
REFUSALS = ("kind", "card", "taken", "limit", "memory")
BYPASS_FILTERS = 1
Json = dict[str, Any]


def _number(direction: int, number: int, size: int) -> int:
    """_IOC of asm-generic/ioctl.h; ``direction``: 1 written, 2 read, 3 both, by the kernel's user."""
    return direction << 30 | size << 16 | ord("E") << 8 | number


INFO = _number(2, 0x40, 16)
ATTACH = _number(3, 0x41, 16)
DETACH = _number(1, 0x42, 4)
FLUSH = _number(1, 0x43, 4)
SEND = _number(1, 0x44, 40)
SETTING = _number(3, 0x45, 16)
LIST = _number(3, 0x46, 88)


def ready(seconds: float = 30.0) -> bool:
    """Wait until the module has made its device. TimeoutError names it."""
    deadline = time.monotonic() + seconds
    while not DEVICE.exists():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{DEVICE} is not there: the module was not loaded")
        time.sleep(0.02)
    return True


def control(number: int, data: bytes, netns: str | None = None) -> bytes:
    """One ioctl by a context of its own, from a namespace. OSError as the module says."""
    with in_netns(netns):
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            buffer = bytearray(data)
            fcntl.ioctl(fd, number, buffer, True)
            return bytes(buffer)
        finally:
            os.close(fd)


def info(netns: str | None = None) -> Json:
    """{"abi", "slots", "netns": the namespace's cookie}."""
    abi, slots, cookie = struct.unpack(INFO_FORMAT, control(INFO, bytes(16), netns))
    return {"abi": abi, "slots": slots, "netns": cookie}


def cookie(netns: str | None = None) -> int:
    """SO_NETNS_COOKIE (71) of a socket of that namespace."""
    with in_netns(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return int(struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, 71, 8))[0])


def cookies(names: list[str]) -> dict[str, int]:
    """The cookies of many namespaces."""
    return {name: cookie(name) for name in names}


def sent_by_kernel(names: list[str]) -> dict[str, int]:
    """Datagrams that the kernel's own UDP has sent in each namespace (UdpOutDatagrams), since it began."""
    found = {}
    for name in names:
        with in_netns(name):
            lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
        keys, values = (line.split() for line in lines if line.startswith("Udp:"))
        found[name] = int(dict(zip(keys, values, strict=True))["OutDatagrams"])
    return found


def accelerated(netns: str | None = None, everything: bool = True) -> list[Json]:
    """Every attachment: of all namespaces, or of ``netns`` alone as one sees it who is there.

    {"netns", "local": [address, port], "peer", "pid", "comm", "rx_held", "rx_taken", "claimed", "tx_fast",
    "tx_fast_bytes", "rx_kernel": {reason: datagrams}, "tx_kernel"}. Reasons without datagrams are left out.
    """
    room = 64
    while True:
        buffer = ctypes.create_string_buffer(room * STAT_SIZE)
        flags = LIST_ALL if everything else 0
        request = struct.pack(LIST_FORMAT, ctypes.addressof(buffer), room, flags, *NOTHING)
        count = struct.unpack(LIST_FORMAT, control(LIST, request, netns))[3]
        if count <= room:
            return [_stat(buffer.raw[at * STAT_SIZE :]) for at in range(count)]
        room = count + 16


def refused(netns: str | None = None) -> dict[str, int]:
    """How many sockets of the namespace were not attached, by reason; all of them since it was made."""
    told = struct.unpack(LIST_FORMAT, control(LIST, struct.pack(LIST_FORMAT, 0, 0, 0, *NOTHING), netns))
    return {name: count for name, count in zip(REFUSALS, told[5:], strict=False) if count}


def _reasons(data: bytes) -> dict[str, int]:
    counts = COUNTERS.unpack_from(data)
    names = [*REASONS, *(f"reason{number}" for number in range(len(REASONS), 32))]
    return {name: count for name, count in zip(names, counts, strict=True) if count}


def _stat(data: bytes) -> Json:
    netns, laddr, raddr, lport, rport, pid, comm, held, taken, fast, size = STAT.unpack_from(data)
    return {
        "netns": netns,
        "local": [socket.inet_ntoa(laddr), int.from_bytes(lport, "big")],
        "peer": [socket.inet_ntoa(raddr), int.from_bytes(rport, "big")],
        "pid": pid,
        "comm": comm.split(b"\0")[0].decode(errors="replace"),
        "rx_held": held,
        "rx_taken": taken,
        "claimed": held - taken,
        "tx_fast": fast,
        "tx_fast_bytes": size,
        "rx_kernel": _reasons(data[STAT.size :]),
        "tx_kernel": _reasons(data[STAT.size + COUNTERS.size :]),
    }


def bypass_filters(netns: str | None = None, value: int | None = None) -> int:
    """The namespace's setting that overtaking goes on although hooks are installed; set it with ``value``."""
    request = struct.pack(SETTING_FORMAT, BYPASS_FILTERS, value is not None, value or 0)
    return int(struct.unpack(SETTING_FORMAT, control(SETTING, request, netns))[2])


def parameter(name: str, value: int | None = None) -> int:
    """A parameter of the module as it was; set it with ``value``."""
    path = PARAMETERS / name
    before = int(path.read_text())
    if value is not None:
        path.write_text(str(value))
    return before


_stamped: socket.socket | None = None


def stamping(on: bool) -> None:
    """Have the kernel stamp every frame it receives, which it begins some time after the first socket asked:
    results that tell of stamps are then the same from the first datagram on."""
    global _stamped
    if _stamped is not None:
        _stamped.close()
        _stamped = None
    if on:
        _stamped = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        _stamped.setsockopt(socket.SOL_SOCKET, 29, 1)


def unlimited_errors(netns: str | None) -> None:
    """ICMP errors are sent however many there are: the second one that a program causes is told like the
    first."""
    with in_netns(netns):
        for name in ("icmp_ratelimit", "icmp_msgs_per_sec"):
            value = "0" if name == "icmp_ratelimit" else "1000000"
            with contextlib.suppress(OSError):  # in another namespace the second one cannot be set
                Path("/proc/sys/net/ipv4", name).write_text(value)


def references() -> int:
    """How many open descriptors, mappings and users keep the module from being unloaded."""
    return int(Path("/sys/module/exasock/refcnt").read_text())

"""A tenant without any privilege who writes what he likes into his own control page. Runs *in the guest*.

The datagrams he is sent imitate slot headers where slots begin inside them, with frames in them that nobody
sent: addressed to a neighbour on the same port, and to the port itself. He claims the slots in which nothing
begins, in every state, and has the kernel take what is claimed by every way that there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import select
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.guest.agent import in_netns
from suites.guest import exasock, sockets
from suites.guest.streams import rdtsc

Json = dict[str, Any]
STRIDE, RING, PAGE = 0x200000, 0x10000, 4096
HEAD, CLAIMS = 64, 128
SLOT, HEADER = 512, 64
FREE, HELD, USER, KERNEL = range(4)
STATES = {"free": FREE, "held": HELD, "user": USER, "kernel": KERNEL}
MASK = 0x3FFFFFFF
#: Of the forged frames: an Ethernet type of nobody's, a source address of nobody's, and a port of a victim's.
FORGED, FORGER, PORT = 0x88B5, bytes.fromhex("02666f726765"), 7009
#: Before the payload on the wire: Ethernet, the tag, IP, UDP.
FRONT = 14 + 4 + 20 + 8
NOBODY = 65534
#: Where the three that are held begin: two fit behind it, and three slots are left.
AT = 53
_libc = ctypes.CDLL(None, use_errno=True)


class Attachment:
    """A UDP socket attached by hand, its control page and its ring."""

    def __init__(self, fd: int, sock: socket.socket) -> None:
        self.fd, self.sock = fd, sock
        buffer = bytearray(struct.pack(exasock.ATTACH_FORMAT, sock.fileno(), 0, 0))
        fcntl.ioctl(fd, exasock.ATTACH, buffer, True)
        self.handle = struct.unpack(exasock.ATTACH_FORMAT, buffer)[1]
        info = bytearray(16)
        fcntl.ioctl(fd, exasock.INFO, info, True)
        self.slots = struct.unpack(exasock.INFO_FORMAT, info)[1]
        at = self.handle * STRIDE
        self.control = mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=at)
        size = PAGE + self.slots * SLOT
        self.ring = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=at + RING)

    def look(self, looking: bool = True) -> None:
        struct.pack_into("=Q", self.control, 0, rdtsc() if looking else 0)

    @property
    def head(self) -> int:
        return int(struct.unpack_from("=I", self.ring, HEAD)[0])

    def refused(self) -> dict[str, int]:
        """Why datagrams went to the stack."""
        counts = exasock.COUNTERS.unpack_from(self.ring, 224)
        return {name: count for name, count in zip(exasock.REASONS, counts, strict=False) if count}

    def claim(self, at: int, number: int, state: int) -> None:
        """The word of slot ``at`` speaks of ``number``."""
        where = CLAIMS + 4 * (at % self.slots)
        struct.pack_into("=I", self.control, where, (number & MASK) << 2 | state)

    def request(self, number: int) -> None:
        fcntl.ioctl(self.fd, number, struct.pack("=I", self.handle))

    def close(self) -> None:
        self.control.close()
        self.ring.close()


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _datagram(port: int) -> bytes:
    """An IP packet with a UDP datagram for that port of 10.1.0.1, from 10.1.0.9."""
    data = b"forged"
    udp = struct.pack("!HHHH", 7777, port, 8 + len(data), 0) + data
    front = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes((10, 1, 0, 9)), bytes((10, 1, 0, 1))
    )
    return front[:10] + struct.pack("!H", _checksum(front)) + front[12:] + udp


def frames(victim: bytes, vid: int, port: bytes) -> list[bytes]:
    """For the victim's VLAN, of nobody's type and as a datagram; for the port's own device."""
    tag = struct.pack("!HH", 0x8100, vid)
    kind = struct.pack("!H", FORGED)
    return [
        (victim + FORGER + tag + kind + b"forged").ljust(60, b"\0"),
        victim + FORGER + tag + b"\x08\x00" + _datagram(PORT),
        (port + FORGER + kind + b"forged").ljust(60, b"\0"),
    ]


def imitation(length: int, forged: list[bytes], size: int = 1472) -> bytes:
    """A payload in which a slot header lies wherever a slot begins, of a frame of ``length`` bytes."""
    payload = bytearray(size)
    for slot in range(1, 4):
        frame = forged[slot % len(forged)]
        header = struct.pack("=IHHII", slot, 64, 18, 0, 0).ljust(48, b"\0") + struct.pack("=I", length)
        image = header.ljust(HEADER, b"\0") + frame
        at = SLOT * slot - HEADER - FRONT
        payload[at : at + len(image)] = image[: max(size - at, 0)]
    return bytes(payload)


@dataclass
class Attack:
    """One process's. ``seconds``: how long anything may take to arrive."""

    netns: str | None
    fd: int
    sender: socket.socket
    payload: bytes
    seconds: float
    reached: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """A socket, attached, and its ring filled once with datagrams of one slot: whatever the kernel
        remembers of a slot is there then."""
        self.sock = sockets.make(self.netns, "udp")
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.bind(("10.1.0.1", 7001))
        self.es = Attachment(self.fd, self.sock)
        self.begun: dict[int, bytes] = {}
        deadline = time.monotonic() + self.seconds
        while self.es.head <= self.es.slots:
            if not self.send(b"one slot") and time.monotonic() > deadline:
                raise TimeoutError(f"nothing is held: {self.es.refused()}")
            self.take()
            self.drain()

    def end(self) -> None:
        self.es.close()
        self.sock.close()

    def send(self, data: bytes, count: int = 1) -> bool:
        """Datagrams at once; True: all of them are held."""
        at = self.es.head
        span = (HEADER + FRONT + len(data) + SLOT - 1) // SLOT
        self.es.look()
        for _ in range(count):
            left = self.es.slots - at % self.es.slots
            at += left if span > left else 0
            self.begun[at] = data
            at += span
            self.sender.sendto(data, ("10.1.0.1", 7001))
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        deadline = time.monotonic() + self.seconds
        while self.es.head != at:
            if poll.poll(0):
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(f"a datagram does not arrive: {self.es.refused()}")
        self.reached["held"] += count
        return True

    def take(self) -> None:
        """As a reader does it, but for the reading."""
        for number in self.begun:
            self.es.claim(number, number, FREE)
        self.begun.clear()

    def drain(self) -> list[bytes]:
        """What the native socket has."""
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(self.sock.recv(4096))
        return got

    def lap(self) -> None:
        """Three datagrams of four slots are held, the last of them behind slots that are passed over. Again,
        if the timer was earlier."""
        deadline = time.monotonic() + self.seconds
        while True:
            while left := (AT - self.es.head) % self.es.slots:
                self.send(self.payload if left >= 4 else b"one slot")
                self.take()
                self.drain()
            first = self.es.head
            if self.send(self.payload, 3):
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"they are not held: {self.es.refused()}")
            self.es.request(exasock.FLUSH)
            self.begun.clear()
            self.drain()
        self.padding = list(range(first + 8, max(self.begun)))
        rest = set(range(first, self.es.head)) - set(self.padding) - set(self.begun)
        self.inner = sorted(rest)

    def forge(self, target: str, state: int) -> None:
        """The words of slots in which nothing begins."""
        slots = self.es.slots
        shift = {"stale": -slots, "future": slots}.get(target, 0)
        numbers = self.padding if target == "padding" else self.inner
        for number in numbers:
            self.es.claim(number, number + shift, state)
        self.reached[f"forged {target}"] += len(numbers)

    def trigger(self, how: str) -> None:
        """Have the kernel take what is held."""
        if how == "flush":
            self.es.request(exasock.FLUSH)
        elif how == "detach":
            self.es.request(exasock.DETACH)
        elif how == "close":
            self.sock.close()
        elif how in ("idle", "fragment"):
            size = 100 if how == "idle" else 3000
            self.es.look(how != "idle")
            self.sender.sendto(b"last".ljust(size, b"."), ("10.1.0.1", 7001))
        self.reached[f"by {how}"] += 1

    def arrives(self, last: bool) -> list[bytes]:
        """What comes to the native socket, until all is there that was held."""
        got: list[bytes] = []
        deadline = time.monotonic() + self.seconds
        while len(got) < len(self.begun) + last and time.monotonic() < deadline:
            select.select([self.sock], [], [], self.seconds)
            got += self.drain()
        return got

    def attempt(self, target: str, state: str, how: str) -> None:
        self.lap()
        self.forge(target, STATES[state])
        self.trigger(how)
        if how == "close":
            return
        expected = list(self.begun.values())
        last = how in ("idle", "fragment")
        got = self.arrives(last)
        if (got[:-1] if last else got) != expected:
            sizes = [len(one) for one in got]
            self.wrong.append(f"{target} {state} {how}: {len(expected)} were held, came {sizes}")
        self.reached["taken"] += len(got) - last

    def run(self) -> None:
        self.begin()
        for target in ("inner", "padding", "stale", "future"):
            for state in STATES:
                self.attempt(target, state, "flush")
            for how in ("idle", "fragment", "timeout"):
                self.attempt(target, "held", how)
        for target in ("inner", "padding"):
            for how in ("detach", "close"):
                self.attempt(target, "held", how)
                self.end()
                self.begin()
        self.end()


def _drop() -> None:
    """Nobody, without any capability, and without a way back."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def as_nobody(netns: str, work: Callable[[], Json], seconds: float) -> Json:
    """What ``work`` tells, done by a process of its own in that namespace that has no privilege. Its end by
    an exception is {"failed": which}."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with in_netns(netns):
                _drop()
                try:
                    told = work()
                except (OSError, AssertionError, ValueError) as error:
                    told = {"failed": repr(error)}
                os.write(writer, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        said = b""
        deadline = time.monotonic() + seconds
        while select.select([reader], [], [], max(deadline - time.monotonic(), 0))[0]:
            piece = os.read(reader, 1 << 16)
            if not piece:
                break
            said += piece
        else:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(reader)
        os.waitpid(child, 0)
    found: Json = json.loads(said) if said else {"failed": "it says nothing"}
    return found


def _heard(listener: socket.socket) -> list[str]:
    frames = []
    with contextlib.suppress(BlockingIOError):
        while True:
            frames.append(listener.recv(4096).hex())
    return frames


def _listener(netns: str | None) -> socket.socket:
    """Of one Ethernet type on all devices: one that is bound to a device would be seen to tap it."""
    with in_netns(netns):
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(FORGED))


def _probe(netns: str | None, device: str, to: bytes) -> None:
    """A frame of the forged type that somebody did send: listeners must hear it."""
    with in_netns(netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((device, 0))
        sock.send((to + FORGER + struct.pack("!H", FORGED) + b"probe").ljust(60, b"\0"))


def attack(length: int, victim: Json, host: Json, seconds: float) -> Json:
    """Claims forged over datagrams with slot headers of frames of ``length`` bytes in them.

    ``victim``: {"netns", "mac", "vid", "beside"}: a namespace in another VLAN of the same port, and one that
    reaches it. ``host``: {"mac", "beside"}: the port's own. Returns {"reached": counts, "wrong": what
    came that was not sent so, "heard": {"victim", "host", "socket": what came there}, "uid"}.
    """
    listeners = {"victim": _listener(victim["netns"]), "host": _listener(None)}
    sock = sockets.make(victim["netns"], "udp")
    sock.bind(("10.1.0.1", PORT))
    sender = sockets.make("b", "udp")
    sender.bind(("10.1.0.2", 7002))
    macs = [bytes.fromhex(one["mac"].replace(":", "")) for one in (victim, host)]
    forged = frames(macs[0], victim["vid"], macs[1])

    def work() -> Json:
        fd = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
        made = Attack(None, fd, sender, imitation(length, forged), seconds)
        made.run()
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        os.close(fd)
        told = {"reached": dict(made.reached), "wrong": made.wrong, "uid": os.getuid()}
        return told | {"capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16)}

    told = as_nobody("a", work, 30 * seconds)
    heard = {name: _heard(one) for name, one in listeners.items()}
    _probe(victim["beside"], "lan0", macs[0])
    _probe(None, host["beside"], macs[1])
    for name, one in listeners.items():
        select.select([one], [], [], seconds)
        told[f"{name} listens"] = len(_heard(one))
        one.close()
    with contextlib.suppress(BlockingIOError):
        heard["socket"] = []
        while True:
            heard["socket"].append(sock.recv(2048).hex())
    sock.close()
    sender.close()
    return told | {"heard": heard}


# --- the ring cannot be written -----------------------------------------------------------------------------


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _tried(call: Callable[[], Any]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def _checked(result: int) -> None:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _writes(es: Attachment, at: int) -> dict[str, Callable[[], Any]]:
    """Every way we know to write memory that one may only read; each at a slot's length."""
    libc, target = _libc, at + PAGE + 48
    libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    offset = es.handle * STRIDE + RING

    def mapped(protection: int, flags: int, fd: int) -> None:
        found = libc.mmap(None, size(PAGE), protection, flags, fd, ctypes.c_long(offset))
        _checked(-1 if found in (None, pointer(-1).value) else 0)

    def moved() -> None:
        """Another mapping of the same pages (mremap with old size 0), made writable."""
        found = libc.mremap(pointer(at), size(0), size(PAGE), 1)
        _checked(-1 if found in (None, pointer(-1).value) else 0)
        _checked(libc.mprotect(pointer(found), size(PAGE), 3))

    def memory() -> None:
        with Path("/proc/self/mem").open("r+b", buffering=0) as file:
            file.seek(target)
            file.write(b"\xff" * 4)

    def another() -> None:
        word = ctypes.c_uint32(0xFFFFFFFF)
        here = _Iovec(ctypes.addressof(word), 4)
        there = _Iovec(target, 4)
        pid = os.getpid()
        _checked(libc.process_vm_writev(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))

    def received() -> None:
        """The kernel copies there."""
        one, other = os.pipe()
        os.write(other, b"\xff" * 4)
        try:
            _checked(libc.read(one, pointer(target), size(4)))
        finally:
            os.close(one)
            os.close(other)

    def traced() -> None:
        """A child is traced, and its memory written by PTRACE_POKEDATA."""
        child = os.fork()
        if child == 0:
            libc.ptrace(0, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        os.waitpid(child, 0)
        try:
            _checked(libc.ptrace(5, child, pointer(target), pointer(0xFFFFFFFF)))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def given_away() -> None:
        """The page into a pipe as a gift, and the pipe written on: what is written goes elsewhere."""
        one, other = os.pipe()
        try:
            here = _Iovec(at + PAGE, 64)
            _checked(libc.vmsplice(other, ctypes.byref(here), size(1), 8))
            os.write(other, b"\xff" * 64)
        finally:
            os.close(one)
            os.close(other)
        raise OSError(errno.EACCES, "it was not written, as is looked at afterwards")

    def folded(advice: int) -> Callable[[], None]:
        return lambda: _checked(libc.madvise(pointer(at), size(PAGE), advice))

    def merged() -> None:
        folded(12)()
        _checked(libc.mprotect(pointer(at), size(PAGE), 3))

    def grown() -> None:
        found = libc.mremap(pointer(at), size(len(es.ring)), size(len(es.ring) + PAGE), 1)
        _checked(-1 if found in (None, pointer(-1).value) else 0)

    def read_only_file() -> None:
        fd = os.open(exasock.DEVICE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mapped(1, mmap.MAP_SHARED, fd)
        finally:
            os.close(fd)

    return {
        "mmap to write": lambda: mapped(3, mmap.MAP_SHARED, es.fd),
        "mmap private": lambda: mapped(3, mmap.MAP_PRIVATE, es.fd),
        "mmap private to read": lambda: mapped(1, mmap.MAP_PRIVATE, es.fd),
        "mmap of a file opened to read": read_only_file,
        "mprotect": lambda: _checked(libc.mprotect(pointer(at), size(PAGE), 3)),
        "mprotect to execute": lambda: _checked(libc.mprotect(pointer(at), size(PAGE), 5)),
        "mremap, mprotect": moved,
        "mremap to more": grown,
        "/proc/self/mem": memory,
        "process_vm_writev": another,
        "read(2) into it": received,
        "PTRACE_POKEDATA": traced,
        "vmsplice as a gift": given_away,
        "MADV_MERGEABLE, mprotect": merged,
        "MADV_COLLAPSE": folded(25),
        "MADV_REMOVE": folded(9),
    }


def write_ring(netns: str, seconds: float) -> Json:
    """{"results": {way: errno or "ok"}, "changed": whether a byte of the ring did}, as nobody."""

    def work() -> Json:
        fd = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
        sock = sockets.make(None, "udp")
        sock.bind(("10.1.0.1", 7001))
        es = Attachment(fd, sock)
        whole = (ctypes.c_char * 1).from_buffer_copy(es.ring[:1])  # touched: it is there
        assert whole
        before = es.ring[:]
        _libc.mmap.restype = ctypes.c_void_p
        length = ctypes.c_size_t(len(es.ring))
        offset = ctypes.c_long(es.handle * STRIDE + RING)
        at = int(_libc.mmap(None, length, 1, mmap.MAP_SHARED, fd, offset))
        results = {name: _tried(call) for name, call in _writes(es, at).items()}
        return {"results": results, "changed": es.ring[:] != before}

    return as_nobody(netns, work, seconds)

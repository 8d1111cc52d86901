"""Whatever a process may do to /dev/exasock: wrong calls, shared pages scribbled over, races. *In the guest*.

By seed, for a time; several workers share one context and have one of their own. The answer to anything is a
result or an errno of those that the header and the kernel allow; what it does to other processes, and to the
kernel, is for the tests outside to see.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from suites.exasock.guest_boundary import (
    CLAIMS,
    FREE,
    HEAD,
    HELD,
    KERNEL,
    MASK,
    PAGE,
    RING,
    STRIDE,
    USER,
    Attachment,
    imitation,
)
from suites.guest import exasock, sockets
from suites.guest.streams import rdtsc

Json = dict[str, Any]
SLOTS = 64
#: Where a ring's header tells how many datagrams were held, and how many of them the stack was given.
COUNTS = 192
#: How what is held goes: claimed by its process, and the rest flushed; by its timer, or by a datagram for the
#: stack, while words are written.
WAYS = ["claimed", "flush", "timeout", "idle"]
#: A process without privilege may be told these, and nothing else.
ALLOWED = {
    "EBADF", "ENOTSOCK", "EOPNOTSUPP", "EBUSY", "EPERM", "EMFILE", "ENOMEM", "ESTALE", "EFAULT", "EINVAL",
    "ENOTTY", "EACCES", "ENXIO", "ENODEV", "ENOENT", "EAGAIN", "E2BIG", "EMSGSIZE", "EOVERFLOW", "ENOSPC",
    "EINTR", "ENOBUFS", "ENETUNREACH", "EDESTADDRREQ", "ENOTCONN", "ENOTSUP", "EPROTONOSUPPORT",
}  # fmt: skip
#: Seconds that a reader waits for what it was sent, and for its going.
HOLDING = 1.0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]  # fmt: skip


def counts(es: Attachment) -> tuple[int, int]:
    """How many datagrams were held, and how many of them the kernel took."""
    held, taken = struct.unpack_from("=QQ", es.ring, COUNTS)
    return held, taken


class Fuzzer:
    """One thread's sequence of operations; what is shared is in ``common``."""

    def __init__(self, seed: int, common: Common, netns: list[str | None]) -> None:
        self.draw = random.Random(seed)
        self.common = common
        self.netns = netns
        self.results: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.own = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
        self.socks: list[socket.socket] = []

    def close(self) -> None:
        os.close(self.own)
        for sock in self.socks:
            sock.close()

    def run(self, until: float) -> None:
        actions = [
            self.attach, self.attach, self.detach, self.flush, self.send, self.send, self.send, self.listing,
            self.setting, self.number, self.raw, self.map, self.map, self.scribble, self.scribble,
            self.scribble, self.traffic, self.traffic, self.drop, self.reopen, self.honest, self.hold,
        ]  # fmt: skip
        action = self.hold
        while time.monotonic() < until:
            try:
                action()
                self.note(action.__name__, "ok")
            except OSError as error:
                self.note(action.__name__, errno.errorcode.get(error.errno or 0, str(error.errno)))
            action = self.draw.choice(actions)

    def note(self, name: str, result: str) -> None:
        self.results[f"{name} {result}"] += 1

    # material

    def fd(self) -> int:
        return self.own if self.draw.random() < 0.6 else self.common.fd

    def word(self) -> int:
        return self.draw.choice(
            [0, 1, 2, 3, 63, 64, 511, 512, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, self.draw.getrandbits(32)]
        )

    def handle(self) -> int:
        known = self.common.handles
        return self.draw.choice(known) if known and self.draw.random() < 0.8 else self.word()

    def some_socket(self) -> socket.socket:
        if self.socks and (len(self.socks) > 12 or self.draw.random() < 0.7):
            return self.draw.choice(self.socks)
        kind = self.draw.choice(["udp", "udp", "udp", "udp", "tcp", "icmp"])
        with contextlib.suppress(OSError):
            sock = sockets.make(self.draw.choice(self.netns), kind)
            if kind == "udp" and self.draw.random() < 0.8:
                with contextlib.suppress(OSError):
                    sock.bind((self.draw.choice(["0.0.0.0", "10.1.0.1", "10.1.0.2"]), self.port()))
            self.socks.append(sock)
            return sock
        return self.draw.choice(self.socks)

    def port(self) -> int:
        return self.draw.randint(7000, 7015)

    def some_fd(self) -> int:
        chosen = self.draw.random()
        if chosen < 0.75:
            return self.some_socket().fileno()
        return self.draw.choice([-1, 0, 1, self.own, self.common.fd, 99999, 0x7FFFFFFF])

    def ioctl(self, number: int, data: bytes) -> bytes:
        buffer = bytearray(data)
        fcntl.ioctl(self.fd(), number, buffer, True)
        return bytes(buffer)

    # operations

    def attach(self) -> None:
        fd = self.fd()
        buffer = bytearray(struct.pack(exasock.ATTACH_FORMAT, self.some_fd(), self.word(), 0))
        fcntl.ioctl(fd, exasock.ATTACH, buffer, True)
        handle = struct.unpack(exasock.ATTACH_FORMAT, buffer)[1]
        self.common.attached(fd, handle)

    def detach(self) -> None:
        self.ioctl(exasock.DETACH, struct.pack("=I", self.handle()))

    def flush(self) -> None:
        self.ioctl(exasock.FLUSH, struct.pack("=I", self.handle()))

    def send(self) -> None:
        """Right and wrong vectors, lengths, flags, addresses."""
        room = self.draw.choice([0, 1, 18, 64, 1472, 1473, 60000])
        content = ctypes.create_string_buffer(max(room, 1))
        base = self.draw.choice([ctypes.addressof(content)] * 4 + [0, 1, 0xFFFF800000000000, 1 << 63])
        length = self.draw.choice([room] * 5 + [self.word(), (1 << 64) - 1])
        count = self.draw.choice([0, 1, 1, 1, 2, 1024])
        vectors = (ctypes.c_uint64 * (2 * max(count, 1)))()
        for at in range(max(count, 1)):
            vectors[2 * at], vectors[2 * at + 1] = base & (2**64 - 1), length
        iov = self.draw.choice([ctypes.addressof(vectors)] * 6 + [0, 8, 1 << 63])
        told = self.draw.choice([count] * 6 + [1025, 0xFFFFFFFF])
        buffer = self.draw.choice([0, exasock.SEND_BUFFER])
        if buffer:
            iov, told = base & (2**64 - 1), length & 0xFFFFFFFF
        request = struct.pack(
            exasock.SEND_FORMAT,
            self.handle(),
            self.some_fd(),
            socket.inet_aton(
                self.draw.choice(["10.1.0.1", "10.1.0.2", "239.1.1.1", "10.1.0.255", "0.0.0.0"])
            ),
            struct.pack("!H", self.draw.choice([0, self.port()])),
            self.draw.choice([0, 0, 1, 2, 3, 0xFFFF]) | buffer,
            socket.inet_aton(self.draw.choice(["0.0.0.0", "10.1.0.1", "10.9.9.9"])),
            self.draw.choice([0, 1, 2, 3, -1, 0x7FFFFFFF]),
            iov,
            told,
            self.draw.choice([0, 0, 0, self.word()]),
        )
        self.ioctl(exasock.SEND, request)

    def honest(self) -> None:
        """What a library would do, beside all the others who do not."""
        with sockets.make("a", "udp") as sock:
            sock.bind(("10.1.0.1", 0))
            buffer = bytearray(struct.pack(exasock.ATTACH_FORMAT, sock.fileno(), 0, 0))
            fcntl.ioctl(self.own, exasock.ATTACH, buffer, True)
            handle = struct.unpack(exasock.ATTACH_FORMAT, buffer)[1]
            content = ctypes.create_string_buffer(b"honest", 64)
            vector = (ctypes.c_uint64 * 2)(ctypes.addressof(content), 64)
            to = (socket.inet_aton("10.1.0.2"), struct.pack("!H", self.port()))
            for flags, where, count in (
                (0, ctypes.addressof(vector), 1),
                (exasock.SEND_BUFFER, ctypes.addressof(content), 64),
            ):
                rest = (flags, bytes(4), 0, where, count, 0)
                request = struct.pack(exasock.SEND_FORMAT, handle, sock.fileno(), *to, *rest)
                fcntl.ioctl(self.own, exasock.SEND, bytearray(request), True)

    def listing(self) -> None:
        room = self.draw.choice([0, 1, 16, 0xFFFFFFFF])
        buffer = ctypes.create_string_buffer(16 * exasock.STAT_SIZE)
        address = self.draw.choice([ctypes.addressof(buffer)] * 3 + [0, 1 << 63])
        if room > 16 and address == ctypes.addressof(buffer):
            room = 16
        flags = self.draw.choice([0, 0, 1, self.word()])
        self.ioctl(
            exasock.LIST, struct.pack(exasock.LIST_FORMAT, address, room, flags, 0, self.word(), *[0] * 8)
        )

    def setting(self) -> None:
        """Read only: writing is right for who may, and would change what the others see."""
        request = struct.pack(exasock.SETTING_FORMAT, self.draw.choice([1, self.word()]), 0, self.word())
        self.ioctl(exasock.SETTING, request)

    def number(self) -> None:
        """Numbers, sizes and directions that do not exist."""
        size = self.draw.choice([0, 4, 16, 24, 40, 584, 4095])
        number = self.draw.getrandbits(2) << 30 | size << 16 | ord("E") << 8 | self.draw.getrandbits(8)
        if number not in (exasock.SETTING,):
            self.ioctl(number, self.draw.randbytes(1024))

    def raw(self) -> None:
        """A pointer that is none."""
        numbers = [exasock.INFO, exasock.ATTACH, exasock.DETACH, exasock.FLUSH, exasock.SEND, exasock.LIST]
        pointer = self.draw.choice([0, 1, 4095, 1 << 47, (1 << 64) - 8])
        number = ctypes.c_ulong(self.draw.choice(numbers))
        if _libc.ioctl(self.fd(), number, ctypes.c_void_p(pointer)):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def map(self) -> None:
        """Pages of this and that, in every mode; those that may be written are kept to be scribbled on."""
        fd = self.fd()
        offset = self.handle() * STRIDE + self.draw.choice([0, 0, 0, RING, RING, PAGE, STRIDE - PAGE, 512])
        size = self.draw.choice([PAGE, PAGE, 2 * PAGE, PAGE + 64 * 2048, 5, 1 << 26])
        protection = self.draw.choice([1, 3, 3, 3, 2, 7, 0])
        flags = self.draw.choice([mmap.MAP_SHARED] * 4 + [mmap.MAP_PRIVATE])
        at = _libc.mmap(None, size, protection, flags, fd, offset & (2**62 - 1))
        if at in (None, ctypes.c_void_p(-1).value):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        if protection & 3 == 3 and flags == mmap.MAP_SHARED and size <= PAGE:
            self.common.keep(at, size)
        else:
            _libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))

    def scribble(self) -> None:
        """Heartbeats that are right, tails and claims that are not."""
        page = self.common.page(self.draw)
        if page is None:
            return
        with page as at:
            if at is None:
                return
            words = (ctypes.c_uint32 * 1024).from_address(at)
            heartbeat = self.draw.choice([rdtsc(), rdtsc(), rdtsc(), 0, 1, (1 << 64) - 1])
            ctypes.c_uint64.from_address(at).value = heartbeat
            if (ring := self.common.pages[at].ring) and self.draw.random() < 0.7:
                for number, state in self.forged(ctypes.c_uint32.from_address(ring + HEAD).value):
                    words[CLAIMS // 4 + number % SLOTS] = (number & MASK) << 2 | state
                return
            for _ in range(self.draw.choice([1, 4, 64])):
                index = self.draw.choice([16, 32 + self.draw.randrange(64), self.draw.randrange(1024)])
                number = self.draw.choice([self.draw.randrange(70), self.draw.getrandbits(30)])
                words[index] = number << 2 | self.draw.getrandbits(2)

    def forged(self, head: int, but: int = -1) -> Iterator[tuple[int, int]]:
        """All numbers that may be held, and what lies inside and between, in one state; ``but`` that one."""
        state = self.draw.choice([HELD, HELD, HELD, FREE, USER, KERNEL])
        for number in range(max(head - SLOTS, 1), head):
            if number != but and self.draw.random() < 0.8:
                yield number, state

    def payload(self) -> bytes:
        """With the header of a slot wherever one begins in it, of a frame of a harmful length."""
        return imitation(self.draw.choice([0, 60, 2000, 0xFFFFFFE0]), [b"forged".ljust(60, b".")])

    def hold(self) -> None:
        """A reader who looks and is then busy, so that datagrams are held for it, and who writes over them
        while they go: the first time by each of the ways, then by one of them."""
        with sockets.make("a", "udp") as sock, sockets.make("b", "udp") as sender:
            sock.bind(("10.1.0.1", 0))
            sender.bind(("10.1.0.2", 0))
            sender.connect(sock.getsockname())
            es = Attachment(self.own, sock)
            self.common.attached(self.own, es.handle)
            try:
                for way in self.draw.sample(WAYS, 1 if self.reached["held"] else len(WAYS)):
                    self.held(es, sock, sender, way)
            finally:
                es.close()

    def write(self, es: Attachment, begun: list[int]) -> None:
        """Anything but over the first one that is held, which the kernel has to take."""
        for number, state in self.forged(es.head, *begun[:1]):
            es.claim(number, number, state)

    def held(self, es: Attachment, sock: socket.socket, sender: socket.socket, way: str) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.recv(2048)
        head, (held, taken) = es.head, counts(es)
        size = self.draw.randint(1, 6)
        came = select.poll()
        came.register(sock, select.POLLIN)
        until = time.monotonic() + HOLDING
        es.look()
        for _ in range(size):
            sender.send(self.draw.choice([b"small", self.payload()]))
        # it may be another worker's heartbeat that it is judged by: then it comes to the socket
        while counts(es)[0] < held + size and not came.poll(0) and time.monotonic() < until:
            es.look()
        there = counts(es)[0] - held
        self.reached["held"] += there
        words = struct.unpack_from(f"={SLOTS}I", es.control, CLAIMS)
        begun = [one for one in range(head, es.head) if words[one % SLOTS] == one << 2 | HELD]
        if way == "claimed":
            for one in begun:
                es.claim(one, one, self.draw.choice([FREE, USER]))
            es.request(exasock.FLUSH)
            self.reached["claimed"] += max(there - (counts(es)[1] - taken), 0)
        elif way == "flush":
            self.write(es, begun)
            es.request(exasock.FLUSH)
            self.reached["taken"] += counts(es)[1] - taken
        elif begun:
            if way == "idle":
                es.look(False)
                sender.send(b"last")
            while counts(es)[1] == taken and time.monotonic() < until:
                self.write(es, begun)
            self.reached[f"by {way} while it writes"] += counts(es)[1] - taken

    def traffic(self) -> None:
        """Through the sockets themselves, both ways."""
        sock = self.some_socket()
        if sock.type == socket.SOCK_DGRAM:
            data = self.draw.choice([b"", b"x" * 18, b"x" * 500, self.payload()])
            sock.sendto(data, ("10.1.0.2", self.port()))
            with contextlib.suppress(BlockingIOError):
                sock.recv(2048)

    def drop(self) -> None:
        """A socket is closed with whatever is attached to it."""
        if self.socks:
            self.socks.pop(self.draw.randrange(len(self.socks))).close()

    def reopen(self) -> None:
        """A context ends, with everything attached in it."""
        if self.draw.random() < 0.2:
            os.close(self.own)
            self.own = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)


class _Page:
    """A mapping in use: not unmapped meanwhile."""

    def __init__(self, common: Common, at: int | None) -> None:
        self.common, self.at = common, at

    def __enter__(self) -> int | None:
        self.common.lock.acquire()
        return self.at if self.at in self.common.pages else None

    def __exit__(self, *_: object) -> None:
        self.common.lock.release()


@dataclass(frozen=True)
class Kept:
    """A control page that is mapped, and the first page of its ring, or 0."""

    size: int
    ring: int


class Common:
    """A context that all workers use, the handles there are, and the pages that can be written."""

    def __init__(self) -> None:
        self.fd = os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)
        self.handles: list[int] = []
        self.pages: dict[int, Kept] = {}
        self.lock = threading.Lock()

    def attached(self, fd: int, handle: int) -> None:
        """Have its control page, which a process writes, and its ring's header, which tells."""
        self.handles = [*self.handles[-30:], handle]
        at = _libc.mmap(None, PAGE, 3, mmap.MAP_SHARED, fd, handle * STRIDE)
        ring = _libc.mmap(None, PAGE, 1, mmap.MAP_SHARED, fd, handle * STRIDE + RING)
        failed = ctypes.c_void_p(-1).value
        if at not in (None, failed):
            self.keep(at, PAGE, 0 if ring in (None, failed) else ring)
        elif ring not in (None, failed):
            _libc.munmap(ctypes.c_void_p(ring), ctypes.c_size_t(PAGE))

    def keep(self, at: int, size: int, ring: int = 0) -> None:
        with self.lock:
            self.pages[at] = Kept(size, ring)
            if len(self.pages) > 24:
                self.drop(next(iter(self.pages)))

    def drop(self, at: int) -> None:
        """With the lock."""
        kept = self.pages.pop(at)
        _libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(kept.size))
        if kept.ring:
            _libc.munmap(ctypes.c_void_p(kept.ring), ctypes.c_size_t(PAGE))

    def page(self, draw: random.Random) -> _Page | None:
        with self.lock:
            return _Page(self, draw.choice(list(self.pages))) if self.pages else None

    def close(self) -> None:
        with self.lock:
            for at in list(self.pages):
                self.drop(at)
        os.close(self.fd)


def fuzz(seed: int, seconds: float, netns: list[str | None], workers: int = 3) -> Json:
    """Everything at once for a time. {"operations": how many, "results": {operation and result: times},
    "strange": those results that no process should be told, "reached": {what became of datagrams: times}}.
    """
    common = Common()
    fuzzers = [Fuzzer(seed * 1000 + number, common, netns) for number in range(workers)]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=one.run, args=(until,)) for one in fuzzers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in fuzzers:
        one.close()
    common.close()
    results: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    for one in fuzzers:
        results.update(one.results)
        reached.update(one.reached)
    strange = {name: times for name, times in results.items() if name.split()[1] not in {"ok", *ALLOWED}}
    return {
        "operations": results.total(),
        "results": dict(sorted(results.items())),
        "strange": strange,
        "reached": dict(reached),
    }

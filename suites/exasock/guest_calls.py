"""Socket calls as data, done as a program would, one after the other. Runs *in the guest*, under test.

A step is ``{"op": name, "s": socket's label, ...}``; its result is ``{"ok": value}`` or ``{"errno": name}``.
A list of steps is a program: done through kernel sockets and through accelerated ones it must give the same
results (rule N10). Calls are libc's: Python's own where they go straight there, ctypes for the others.

Payloads are ``{"seed": n, "size": m}``; what is received is told as the seed and size it has, or in hex.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.guest.agent import in_netns, setns
from suites.guest import dummy, records, sockets
from suites.guest.messages import Iovec, Mmsghdr

Json = dict[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]

LEVELS = {"socket": socket.SOL_SOCKET, "ip": socket.IPPROTO_IP, "udp": socket.IPPROTO_UDP, "exasock": 0x200}
OPTIONS = {
    "reuseaddr": ("socket", socket.SO_REUSEADDR),
    "reuseport": ("socket", socket.SO_REUSEPORT),
    "broadcast": ("socket", socket.SO_BROADCAST),
    "mark": ("socket", socket.SO_MARK),
    "priority": ("socket", socket.SO_PRIORITY),
    "rcvbuf": ("socket", socket.SO_RCVBUF),
    "sndbuf": ("socket", socket.SO_SNDBUF),
    "timestamp": ("socket", 29),
    "timestampns": ("socket", 35),
    "timestamping": ("socket", 37),
    "dontroute": ("socket", socket.SO_DONTROUTE),
    "no_check": ("socket", 11),
    "tos": ("ip", socket.IP_TOS),
    "ttl": ("ip", socket.IP_TTL),
    "pktinfo": ("ip", 8),
    "mtu_discover": ("ip", 10),
    "recverr": ("ip", 11),
    "recvttl": ("ip", 12),
    "recvtos": ("ip", 13),
    "multicast_ttl": ("ip", socket.IP_MULTICAST_TTL),
    "multicast_loop": ("ip", socket.IP_MULTICAST_LOOP),
    "multicast_all": ("ip", 49),
    "options": ("ip", socket.IP_OPTIONS),
    "segment": ("udp", 103),
    "gro": ("udp", 104),
    "no_accel": ("exasock", 1),
}
FLAGS = {
    "peek": socket.MSG_PEEK,
    "trunc": socket.MSG_TRUNC,
    "dontwait": socket.MSG_DONTWAIT,
    "waitall": socket.MSG_WAITALL,
    "errqueue": socket.MSG_ERRQUEUE,
    "dontroute": socket.MSG_DONTROUTE,
    "more": socket.MSG_MORE,
    "confirm": socket.MSG_CONFIRM,
    "oob": socket.MSG_OOB,
    "waitforone": 0x10000,
    "nosignal": socket.MSG_NOSIGNAL,
}
#: Full size of control messages that are taken apart; MSG_CTRUNC may leave less.
CUT = {(0, 8): 12, (socket.SOL_SOCKET, 29): 16, (socket.SOL_SOCKET, 35): 16, (socket.SOL_SOCKET, 37): 48}
#: Ports the kernel chose are told as this: they differ from run to run.
EPHEMERAL = "chosen"
#: membarrier(2) for all processors: synchronize_rcu() in the kernel.
MEMBARRIER, MEMBARRIER_CMD_GLOBAL = 324, 1
#: epoll_wait(2), epoll_pwait(2), as /proc tells them.
EPOLL_WAITS = {"232", "281"}


def payload(spec: Json) -> bytes:
    """``size`` bytes that depend on ``seed``; a record of the suites where it is to be found on the wire."""
    if "flow" in spec:
        return records.encode(spec["flow"], spec["seed"], max(spec["size"], records.SHORTEST))
    return _filling(spec["seed"], spec["size"])


def _filling(seed: int, size: int) -> bytes:
    head = struct.pack("!IH", seed & 0xFFFFFFFF, size & 0xFFFF)
    unit = bytes((seed * 7 + number * 13) & 0xFF for number in range(251))
    return (head + unit * (size // 251 + 1))[:size]


def told(data: bytes) -> Any:
    """What was received, short: the payload it is the start of, or the bytes themselves."""
    if len(data) < 8:
        return data.hex()
    record = records.decode(data)
    if record is not None:
        return {"flow": record.flow, "seed": record.sequence, "size": len(data), "intact": record.intact}
    seed, size = struct.unpack_from("!IH", data)
    if _filling(seed, len(data))[6:] == data[6:]:
        return {"seed": seed, "of": size, "size": len(data)}
    return data[:64].hex()


def _address(given: Any) -> Any:
    """As the results tell it."""
    if not isinstance(given, tuple) or len(given) != 2:
        return None
    return [given[0], EPHEMERAL if given[1] >= 32768 else given[1]]


def _ancillary(items: list[tuple[int, int, bytes]]) -> list[Any]:
    """Control messages, in order; times as whether they are there and can be true."""
    found: list[Any] = []
    for level, kind, data in items:
        if (level, kind) in CUT and len(data) < CUT[level, kind]:
            found.append([level, kind, len(data)])
        elif (level, kind) == (socket.IPPROTO_IP, 8):
            index, spec, to = struct.unpack("=i4s4s", data)
            found.append(["pktinfo", index, socket.inet_ntoa(spec), socket.inet_ntoa(to)])
        elif level == socket.IPPROTO_IP and kind in (1, 2):
            found.append([{1: "tos", 2: "ttl"}[kind], data.hex()])
        elif level == socket.SOL_SOCKET and kind in (29, 35):
            seconds, part = struct.unpack("=qq", data)
            unit = 1e-6 if kind == 29 else 1e-9
            now = abs(time.time() - seconds - part * unit) < 600
            found.append([{29: "timestamp", 35: "timestampns"}[kind], now])
        elif (level, kind) == (socket.SOL_SOCKET, 37):
            stamps = struct.unpack("=6q", data)
            found.append(["timestamping", *(bool(stamps[at] or stamps[at + 1]) for at in (0, 2, 4))])
        else:
            found.append([level, kind, data.hex()])
    return found


def _flags(names: list[str]) -> int:
    value = 0
    for name in names:
        value |= FLAGS[name]
    return value


def _control(spec: list[Any]) -> list[tuple[int, int, bytes]]:
    """Control messages to send: ["pktinfo", ifindex, source], ["tos", n], ["ttl", n], ["segment", n]."""
    made = []
    for kind, *values in spec:
        if kind == "pktinfo":
            data = struct.pack("=i4s4s", values[0], socket.inet_aton(values[1]), bytes(4))
            made.append((socket.IPPROTO_IP, 8, data))
        elif kind == "segment":
            made.append((socket.IPPROTO_UDP, 103, struct.pack("=H", values[0])))
        else:
            number = {"tos": socket.IP_TOS, "ttl": socket.IP_TTL}[kind]
            made.append((socket.IPPROTO_IP, number, struct.pack("=i", values[0])))
    return made


class Program:
    """The sockets of one program, and what it may do with them."""

    def __init__(self) -> None:
        self.sockets: dict[str, socket.socket] = {}
        self.epolls: dict[str, select.epoll] = {}
        self.began = 0.0

    def run(self, steps: list[Json]) -> list[Json]:
        return [self.step(step) for step in steps]

    def step(self, step: Json) -> Json:
        action: Callable[[Json], Any] = getattr(self, f"do_{step['op']}")
        try:
            return {"ok": action(step)}
        except OSError as error:
            return {"errno": errno.errorcode.get(error.errno or 0, str(error))}

    def close(self) -> None:
        for poller in self.epolls.values():
            poller.close()
        for sock in self.sockets.values():
            with contextlib.suppress(OSError):
                sock.close()
        self.sockets.clear()
        self.epolls.clear()

    # life

    def do_open(self, step: Json) -> None:
        sock = sockets.make(step.get("netns"), step.get("kind", "udp"), step.get("device"), blocking=True)
        if "seconds" in step:
            self._timeout(sock, socket.SO_RCVTIMEO, step["seconds"])
        if old := self.sockets.pop(step["s"], None):
            old.close()
        self.sockets[step["s"]] = sock

    @staticmethod
    def _timeout(sock: socket.socket, option: int, seconds: float) -> None:
        whole, part = int(seconds), int(seconds % 1 * 1e6)
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, part))

    def do_timeout(self, step: Json) -> None:
        self._timeout(self.sockets[step["s"]], socket.SO_RCVTIMEO, step["seconds"])

    def do_close(self, step: Json) -> None:
        self.sockets.pop(step["s"]).close()

    def do_dup(self, step: Json) -> None:
        self.sockets[step["to"]] = self.sockets[step["s"]].dup()

    def do_dup2(self, step: Json) -> None:
        """Over an open descriptor, which is thereby closed."""
        os.dup2(self.sockets[step["s"]].fileno(), self.sockets[step["to"]].fileno(), inheritable=False)

    def do_setns(self, step: Json) -> None:
        """Move this thread; the program goes on there."""
        fd = os.open(f"/run/netns/{step['netns']}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd)
        finally:
            os.close(fd)

    def do_unshare(self, step: Json) -> None:
        if _libc.unshare(0x40000000):
            raise OSError(ctypes.get_errno(), "unshare")

    def do_settle(self, step: Json) -> None:
        """Wait until every processor has seen what was done: a socket is accelerated from then on. And until
        the agent's own thread sleeps: a thread that goes to sleep has the whole process stop looking."""
        if _libc.syscall(MEMBARRIER, MEMBARRIER_CMD_GLOBAL, 0, 0):
            raise OSError(ctypes.get_errno(), "membarrier")
        deadline = time.monotonic() + 30
        while not self._agent_sleeps():
            if time.monotonic() >= deadline:
                raise TimeoutError("the agent's own thread does not sleep")
            time.sleep(0.001)

    @staticmethod
    def _agent_sleeps() -> bool:
        called = Path(f"/proc/self/task/{os.getpid()}/syscall").read_text().split()[0]
        return called in EPOLL_WAITS

    def do_blocking(self, step: Json) -> None:
        self.sockets[step["s"]].setblocking(step["value"])

    # names and options

    def do_bind(self, step: Json) -> None:
        self.sockets[step["s"]].bind((step["to"][0], step["to"][1]))

    def do_connect(self, step: Json) -> None:
        self.sockets[step["s"]].connect((step["to"][0], step["to"][1]))

    def do_disconnect(self, step: Json) -> None:
        unspecified = ctypes.create_string_buffer(bytes(16))
        if _libc.connect(self.sockets[step["s"]].fileno(), unspecified, 16):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def do_shutdown(self, step: Json) -> None:
        self.sockets[step["s"]].shutdown(step["how"])

    def do_name(self, step: Json) -> Any:
        return _address(self.sockets[step["s"]].getsockname())

    def do_peer(self, step: Json) -> Any:
        return _address(self.sockets[step["s"]].getpeername())

    def do_error(self, step: Json) -> int:
        return self.sockets[step["s"]].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def do_set(self, step: Json) -> None:
        level, number = OPTIONS[step["name"]]
        value = bytes.fromhex(step["hex"]) if "hex" in step else step["value"]
        self.sockets[step["s"]].setsockopt(LEVELS[level], number, value)

    def do_option(self, step: Json) -> None:
        """Any option by its numbers; the value in hex."""
        self.sockets[step["s"]].setsockopt(step["level"], step["number"], bytes.fromhex(step["hex"]))

    def do_now(self, step: Json) -> None:
        """From here on is what ``stamp`` calls new."""
        self.began = time.time()

    def do_stamp(self, step: Json) -> bool:
        """Is the time that SIOCGSTAMP, or SIOCGSTAMPNS, tells of the last datagram new? (asm/sockios.h)"""
        number, unit = (0x8907, 1e9) if step.get("ns") else (0x8906, 1e6)
        told = fcntl.ioctl(self.sockets[step["s"]].fileno(), number, bytes(16))
        seconds, part = struct.unpack("=qq", told)
        return bool(seconds + part / unit >= self.began)

    def do_get(self, step: Json) -> int:
        level, number = OPTIONS[step["name"]]
        return self.sockets[step["s"]].getsockopt(LEVELS[level], number)

    def do_device(self, step: Json) -> None:
        option = socket.SO_BINDTODEVICE
        self.sockets[step["s"]].setsockopt(socket.SOL_SOCKET, option, step["name"].encode() + b"\0")

    def do_member(self, step: Json) -> None:
        mreqn = sockets.membership(step["group"], interface=step.get("interface"))
        option = socket.IP_DROP_MEMBERSHIP if step.get("leave") else socket.IP_ADD_MEMBERSHIP
        self.sockets[step["s"]].setsockopt(socket.IPPROTO_IP, option, mreqn)

    def do_multicast_if(self, step: Json) -> None:
        address = socket.inet_aton(step["interface"])
        self.sockets[step["s"]].setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, address)

    # sending

    def do_send_wild(self, step: Json) -> int:
        """From memory that is not there: at "address", or "short" bytes before the end of what is."""
        address = step.get("address")
        if address is None:
            page = _libc.mmap(None, 2 * mmap.PAGESIZE, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
            _libc.munmap(ctypes.c_void_p(page + mmap.PAGESIZE), mmap.PAGESIZE)
            address = page + mmap.PAGESIZE - step["short"]
        fd, length = self.sockets[step["s"]].fileno(), ctypes.c_size_t(step["length"])
        if (sent := _libc.send(fd, ctypes.c_void_p(address), length, 0)) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return int(sent)

    def do_warm(self, step: Json) -> list[int]:
        return dummy.by_every_call(self.sockets[step["s"]], step.get("to"))

    def do_send(self, step: Json) -> int:
        return self.sockets[step["s"]].send(payload(step["data"]), _flags(step.get("flags", [])))

    def do_sendto(self, step: Json) -> int:
        to = (step["to"][0], step["to"][1])
        return self.sockets[step["s"]].sendto(payload(step["data"]), _flags(step.get("flags", [])), to)

    def do_write(self, step: Json) -> int:
        return os.write(self.sockets[step["s"]].fileno(), payload(step["data"]))

    @staticmethod
    def _pieces(data: bytes, count: int) -> list[bytes]:
        edges = [len(data) * number // count for number in range(count + 1)]
        return [data[start:end] for start, end in itertools.pairwise(edges)]

    def do_writev(self, step: Json) -> int:
        pieces = self._pieces(payload(step["data"]), step.get("pieces", 3))
        return os.writev(self.sockets[step["s"]].fileno(), pieces)

    def do_sendmsg(self, step: Json) -> int:
        arguments: list[Any] = [
            self._pieces(payload(step["data"]), step.get("pieces", 1)),
            _control(step.get("control", [])),
            _flags(step.get("flags", [])),
        ]
        if "to" in step:
            arguments.append((step["to"][0], step["to"][1]))
        return self.sockets[step["s"]].sendmsg(*arguments)

    def do_sendmmsg(self, step: Json) -> Any:
        """Several datagrams, by one call: ["sent", their lengths as the call tells them]."""
        datagrams = [payload(one) for one in step["many"]]
        messages, _kept = self._vector([len(one) for one in datagrams], datagrams)
        if "to" in step:
            name = ctypes.create_string_buffer(self._sockaddr(step["to"]))
            for message in messages:
                message.header.name, message.header.namelen = ctypes.addressof(name), 16
        flags = _flags(step.get("flags", []))
        sent = _libc.sendmmsg(self.sockets[step["s"]].fileno(), messages, len(messages), flags)
        if sent < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return ["sent", [messages[number].length for number in range(sent)]]

    @staticmethod
    def _sockaddr(to: list[Any]) -> bytes:
        return (
            struct.pack("=H", socket.AF_INET) + struct.pack("!H", to[1]) + socket.inet_aton(to[0]) + bytes(8)
        )

    @staticmethod
    def _vector(sizes: list[int], contents: list[bytes] | None = None) -> tuple[Any, Any]:
        messages = (Mmsghdr * len(sizes))()
        kept: list[Any] = []
        for number, size in enumerate(sizes):
            buffer = ctypes.create_string_buffer(contents[number] if contents else b"", max(size, 1))
            vector = Iovec(ctypes.addressof(buffer), size)
            messages[number].header.iov = ctypes.pointer(vector)
            messages[number].header.iovlen = 1
            kept += [buffer, vector]
        return messages, kept

    # receiving

    def do_recv(self, step: Json) -> Any:
        return told(self.sockets[step["s"]].recv(step.get("size", 2048), _flags(step.get("flags", []))))

    def do_recvfrom(self, step: Json) -> Any:
        flags = _flags(step.get("flags", []))
        data, source = self.sockets[step["s"]].recvfrom(step.get("size", 2048), flags)
        return [told(data), _address(source)]

    def do_recv_into(self, step: Json) -> Any:
        """With MSG_TRUNC the length is the datagram's, more than there is room for."""
        buffer = bytearray(step.get("size", 2048))
        length = self.sockets[step["s"]].recv_into(buffer, 0, _flags(step.get("flags", [])))
        return [length, told(bytes(buffer[:length]))]

    def do_read(self, step: Json) -> Any:
        return told(os.read(self.sockets[step["s"]].fileno(), step.get("size", 2048)))

    def do_readv(self, step: Json) -> Any:
        buffers = [bytearray(7), bytearray(100), bytearray(2048)]
        length = os.readv(self.sockets[step["s"]].fileno(), buffers)
        return told(b"".join(buffers)[:length])

    def do_recvmsg(self, step: Json) -> Any:
        data, ancillary, flags, source = self.sockets[step["s"]].recvmsg(
            step.get("size", 2048), step.get("room", 512), _flags(step.get("flags", []))
        )
        return [told(data), _ancillary(ancillary), flags, _address(source)]

    def do_recvmmsg(self, step: Json) -> Any:
        """The datagrams that one call gave; it waits for the first, and for ``many`` without "waitforone"."""
        sizes = [step.get("size", 2048)] * step["many"]
        messages, kept = self._vector(sizes)
        names = [ctypes.create_string_buffer(16) for _ in sizes]
        for message, name in zip(messages, names, strict=True):
            message.header.name, message.header.namelen = ctypes.addressof(name), 16
        flags = _flags(step.get("flags", []))
        got = _libc.recvmmsg(self.sockets[step["s"]].fileno(), messages, len(sizes), flags, None)
        if got < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        found = []
        for number in range(got):
            raw = names[number].raw
            source = (socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4], "big"))
            length = messages[number].length
            found.append(
                [told(kept[2 * number].raw[:length]), messages[number].header.flags, _address(source)]
            )
        return found

    def do_drain(self, step: Json) -> Any:
        """Everything until the socket's time is over."""
        found: list[Any] = []
        while True:
            try:
                data, source = self.sockets[step["s"]].recvfrom(65536)
            except BlockingIOError:
                return found
            found.append([told(data), _address(source)])

    # waiting

    def do_poll(self, step: Json) -> Any:
        """poll(2) of one or several sockets: the labels that are ready, with their events."""
        poller = select.poll()
        names = step["s"] if isinstance(step["s"], list) else [step["s"]]
        labels = {self.sockets[name].fileno(): name for name in names}
        for fd in labels:
            poller.register(fd, step.get("events", select.POLLIN))
        ready = poller.poll(step.get("seconds", 5) * 1000)
        return sorted([labels[fd], events] for fd, events in ready)

    def do_select(self, step: Json) -> Any:
        names = step["s"] if isinstance(step["s"], list) else [step["s"]]
        objects = {self.sockets[name]: name for name in names}
        readable = select.select(list(objects), [], [], step.get("seconds", 5))[0]
        return sorted(objects[one] for one in readable)

    def do_epoll(self, step: Json) -> None:
        """Register in the set ``set`` (made on first use); "edge" and "oneshot" as asked."""
        poller = self.epolls.get(step["set"]) or self.epolls.setdefault(step["set"], select.epoll())
        events = select.EPOLLIN
        events |= select.EPOLLET if step.get("edge") else 0
        events |= select.EPOLLONESHOT if step.get("oneshot") else 0
        fd = self.sockets[step["s"]].fileno()
        poller.modify(fd, events) if step.get("again") else poller.register(fd, events)

    def do_epoll_wait(self, step: Json) -> Any:
        labels = {sock.fileno(): name for name, sock in self.sockets.items()}
        ready = self.epolls[step["set"]].poll(step.get("seconds", 5))
        return sorted([labels.get(fd, "?"), events] for fd, events in ready)


programs: dict[str, Program] = {}
_running: dict[str, tuple[threading.Thread, list[Any]]] = {}


def run(program: str, steps: list[Json], keep: bool = False) -> list[Json]:
    """Do the steps in the sockets of a program (made on first use); ``keep``: they stay for a later run."""
    one = programs.setdefault(program, Program())
    try:
        return one.run(steps)
    finally:
        if not keep:
            close(program)


def start(thread: str, program: str, steps: list[Json]) -> None:
    """Do the steps in a thread, beside what is done next; ``finish`` tells their results."""
    results: list[Any] = []
    one = programs.setdefault(program, Program())

    def work() -> None:
        for step in steps:
            results.append(one.step(step))

    worker = threading.Thread(target=work, name=thread, daemon=True)
    _running[thread] = (worker, results)
    worker.start()


def finish(thread: str, seconds: float = 60.0) -> list[Json]:
    """Results of a thread's steps. TimeoutError: it is still at one of them, told by number."""
    worker, results = _running[thread]
    worker.join(seconds)
    if worker.is_alive():
        raise TimeoutError(f"thread {thread} is still at step {len(results)}")
    del _running[thread]
    return results


def close(program: str) -> None:
    """Close every socket of a program."""
    one = programs.pop(program, None)
    if one is not None:
        one.close()


def close_all() -> None:
    for name in list(programs):
        close(name)


def indexes(netns: str | None) -> dict[str, int]:
    """Interface indexes of a namespace by name."""
    with in_netns(netns):
        return {name: index for index, name in socket.if_nameindex()}

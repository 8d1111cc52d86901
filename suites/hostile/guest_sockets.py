"""What a tenant does with /dev/exasock while others work. Runs *in the guest*, as the tenant.

Each attack goes on for so many seconds and says what it did: {what: times}.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.guest.agent import CLONE_NEWNET, in_netns
from suites.exasock import guest_fuzz
from suites.guest import exasock, sockets, streams
from suites.hostile.guest_devices import until

Done = dict[str, int]
STRIDE, RING = 0x200000, 0x10000
FREE, HELD, USER, KERNEL = 0, 1, 2, 3
CLAIMS, SLOTS = 128, 64
#: Slots that are held at least, while it scribbles.
LEAST = 200
_libc = ctypes.CDLL(None, use_errno=True)


def _attach(context: int, sock: socket.socket, request: int = exasock.ATTACH) -> int:
    buffer = bytearray(struct.pack(exasock.ATTACH_FORMAT, sock.fileno(), 0, 0))
    fcntl.ioctl(context, request, buffer, True)
    return int(struct.unpack(exasock.ATTACH_FORMAT, buffer)[1])


def _context() -> int:
    return os.open(exasock.DEVICE, os.O_RDWR | os.O_CLOEXEC)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


class _Hoard:
    """What the tenant has got hold of, and keeps until it is told to let go."""

    socks: list[socket.socket] = []
    contexts: list[int] = []


def let_go() -> None:
    for fd in _Hoard.contexts:
        os.close(fd)
    for sock in _Hoard.socks:
        sock.close()
    _Hoard.contexts.clear()
    _Hoard.socks.clear()


def attend(address: str, port: int) -> None:
    """One accelerated socket for as long as the process lives: the tenant's namespace is one of those that
    the module has to do with."""
    sock = sockets.make(None, "udp")
    sock.bind((address, port))
    _attach(_context(), sock)
    _kept.append(sock)


_kept: list[socket.socket] = []


def hoarding(seconds: float, address: str, patience: float) -> Done:
    """As many attached sockets as it can have, in as many contexts, and all of them are kept."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    done: Counter[str] = Counter()
    for _ in _wanting(seconds, patience, done):
        if not done["attached"] % 100:
            _Hoard.contexts.append(_context())
        sock = sockets.make(None, "udp")
        sock.bind((address, 0))
        _hoard(_Hoard.contexts[-1], sock, exasock.ATTACH, done)
    return dict(done)


def _wanting(seconds: float, patience: float, done: Counter[str]) -> Iterator[None]:
    """For so long, and until it has been refused a few times."""
    for _ in until(seconds):
        yield
    deadline = time.monotonic() + patience
    while done["refused"] < 3 and time.monotonic() < deadline:
        yield


def _hoard(context: int, sock: socket.socket, request: int, done: Counter[str]) -> None:
    """Attached, it is kept; refused, it is not."""
    try:
        _attach(context, sock, request)
    except OSError as error:
        done[_name(error)] += 1
        done["refused"] += 1
        sock.close()
    else:
        done["attached"] += 1
        _Hoard.socks.append(sock)


def hoarding_connections(seconds: float, address: str, patience: float) -> Done:
    """As many attached connections as it can have, both ends of each, and all of them are kept."""
    done: Counter[str] = Counter()
    context = _context()
    _Hoard.contexts.append(context)
    listener = sockets.make(None, "tcp", blocking=True)
    _Hoard.socks.append(listener)
    listener.bind((address, 0))
    listener.listen(64)
    for _ in _wanting(seconds, patience, done):
        near = sockets.make(None, "tcp", blocking=True)
        near.connect(listener.getsockname())
        far, _peer = listener.accept()
        for sock in (near, far):
            _hoard(context, sock, streams.STREAM_ATTACH, done)
    return dict(done)


def scribbling(seconds: float, address: str, port: int, patience: float) -> Done:
    """Every word of its control page claims that a datagram is held which is none, while datagrams that
    imitate the kernel's own descriptions come in; its heartbeat is true, so that they are held."""
    draw = random.Random(1)
    done: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(sockets.make(None, "udp"))
        sock.bind((address, port))
        context = _context()
        stack.callback(os.close, context)
        handle = _attach(context, sock)
        offset = handle * STRIDE
        page = mmap.mmap(context, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)
        ring = mmap.mmap(context, 4096, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset + RING)
        head = 1
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline or (done["held"] < LEAST and now < deadline + patience):
            # What lies in its own queue keeps everything after it from being held.
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.recv(4096)
                    done["received"] += 1
            struct.pack_into("=Q", page, 0, streams.rdtsc())
            came = struct.unpack_from("=I", ring, 64)[0]
            if came == head:
                continue
            done["held"] += came - head
            state = draw.choice((HELD, HELD, HELD, FREE, USER, KERNEL))
            for number in range(max(came - SLOTS, 1), came + draw.randrange(3)):
                if draw.randrange(8):
                    _claim(page, number, state)
                    done["claims"] += 1
            head = came
            fcntl.ioctl(context, exasock.FLUSH, struct.pack("=I", handle))
            done["flushes"] += 1
            # What it says is not free is not used again: then nothing more is held, and no harm can be done.
            for number in range(max(came - SLOTS, 0), came + 3):
                _claim(page, number, FREE)
        for one in exasock.accelerated(everything=False):
            if one["local"][1] == port:
                done.update({f"kernel {reason}": times for reason, times in one["rx_kernel"].items()})
        ring.close()
        page.close()
    return dict(done)


def _claim(page: mmap.mmap, number: int, state: int) -> None:
    struct.pack_into("=I", page, CLAIMS + 4 * (number % SLOTS), number << 2 | state)


def calling(seconds: float, seed: int) -> Done:
    """Every call of /dev/exasock with arguments that are none, mappings of everything, races of threads."""
    told = guest_fuzz.fuzz(seed, seconds, [None], workers=2)
    if told["strange"]:
        raise AssertionError(f"answers that no process should be told: {told['strange']}")
    return {"calls": told["operations"], "attached": told["results"].get("attach ok", 0)}


def dying(seconds: float, address: str) -> Done:
    """Processes that attach, send and map, and are killed in the middle of it, many at a time."""
    done: Counter[str] = Counter()
    for _ in until(seconds):
        children = [_forked(address) for _ in range(6)]
        for pid, told in children:
            done["attached"] += len(os.read(told, 16))
            os.kill(pid, signal.SIGKILL)
            os.close(told)
        for pid, _told in children:
            os.waitpid(pid, 0)
            done["killed"] += 1
    return dict(done)


def _forked(address: str) -> tuple[int, int]:
    """A child that attaches, sends and detaches until it is killed, and says a byte when it is at it."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        return pid, told
    try:
        while True:
            context = _context()
            for _ in range(4):
                sock = sockets.make(None, "udp")
                sock.bind((address, 0))
                with contextlib.suppress(OSError):
                    _attach(context, sock)
                with contextlib.suppress(OSError):
                    sock.sendto(b"dying", ("10.66.0.99", 9))
            with contextlib.suppress(OSError):
                os.write(tell, b"x")
            os.close(context)
    finally:
        os._exit(0)


def sneaking(seconds: float, address: str, others: list[str], cookies: list[int]) -> Done:
    """Into other namespaces, by whatever name they have; and what the module tells of others."""
    done: Counter[str] = Counter()
    for _ in until(seconds):
        for path in (*(f"/run/netns/{name}" for name in others), "/proc/1/ns/net"):
            try:
                fd = os.open(path, os.O_RDONLY)
            except OSError as error:
                done[f"open {_name(error)}"] += 1
                continue
            try:
                if _libc.setns(fd, CLONE_NEWNET) == 0:
                    raise AssertionError(f"the tenant is in {path}")
                done[f"setns {errno.errorcode[ctypes.get_errno()]}"] += 1
            finally:
                os.close(fd)
        for request, listing in (
            (exasock.LIST, exasock.accelerated),
            (streams.STREAM_LIST, streams.attached),
        ):
            try:
                listing(everything=True)
                raise AssertionError("everything is listed to a tenant")
            except OSError as error:
                done[f"list {_name(error)}"] += 1
            seen = {one["netns"] for one in listing(everything=False)} & set(cookies)
            if seen:
                raise AssertionError(f"the tenant sees attachments of {seen} by {request:#x}")
        _elsewhere(address, done)
    return dict(done)


def _elsewhere(address: str, done: Counter[str]) -> None:
    """A context opened in another namespace of its own, for sockets of this one: they stay what they are."""
    other = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    try:
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(sockets.make(None, "udp"))
            sock.bind((address, 0))
            with _visited(f"/proc/{other.pid}/ns/net"):
                context = _context()
                stack.callback(os.close, context)
                stranger = stack.enter_context(sockets.make(None, "udp"))
            for what, one in (("own", sock), ("cardless", stranger)):
                try:
                    _attach(context, one)
                    done[f"attached {what}"] += 1
                except OSError as error:
                    done[f"{what} {_name(error)}"] += 1
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


@contextlib.contextmanager
def _visited(path: str) -> Any:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(path, os.O_RDONLY)
    try:
        _libc.setns(there, CLONE_NEWNET)
        yield
    finally:
        _libc.setns(home, CLONE_NEWNET)
        os.close(there)
        os.close(home)


def giving(seconds: float, address: str, path: str) -> Done:
    """Its attached sockets, and the contexts they are attached in, go to another process by a message."""
    done: Counter[str] = Counter()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as to:
        to.settimeout(60)
        to.connect(path)
        for _ in until(seconds):
            context = _context()
            with sockets.make(None, "udp") as sock:
                sock.bind((address, 0))
                _attach(context, sock)
                socket.send_fds(to, [b"x"], [sock.fileno(), context, sock.fileno()])
            os.close(context)
            if to.recv(1) != b"y":
                raise OSError(errno.EPIPE, "nobody takes it")
            done["given"] += 1
    return dict(done)


def modules(seconds: float) -> Done:
    """The modules themselves: unloaded, loaded again, their parameters written, their devices unbound."""
    done: Counter[str] = Counter()
    init_module, delete_module = 175, 176
    for _ in until(seconds):
        for name in (b"exasock", b"exanic"):
            _libc.syscall(delete_module, name, 0o4000)
            done[f"delete {errno.errorcode.get(ctypes.get_errno(), 'done')}"] += 1
        _libc.syscall(init_module, b"\x7fELF", 4, b"")
        done[f"init {errno.errorcode.get(ctypes.get_errno(), 'done')}"] += 1
        targets = [*exasock.PARAMETERS.iterdir(), *Path("/sys/bus/pci/drivers/exanic").glob("*bind")]
        for path in targets:
            try:
                path.write_text("0")
                raise AssertionError(f"the tenant wrote {path}")
            except OSError as error:
                done[f"written {_name(error)}"] += 1
    return dict(done)


def fragments(seconds: float, device: str, address: str, to: str) -> Done:
    """Fragments and datagrams with options leave by its own device, as fast as it can."""
    done: Counter[str] = Counter()
    with in_netns(None), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        for number in until(seconds):
            for offset, head in ((0x2000, 5), (0x0004, 5), (0x4000, 7)):
                words = struct.pack("!BBHHHBBH", 0x40 | head, 0, 0, number & 0xFFFF, offset, 9, 17, 0)
                packet = words + socket.inet_aton(address) + socket.inet_aton(to) + bytes(4 * (head - 5))
                with contextlib.suppress(OSError):
                    sock.sendto(packet + b"exalab-hostile-fragment!", (to, 0))
                    done["sent"] += 1
    return dict(done)

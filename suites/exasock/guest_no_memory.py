"""Allocations that fail, the first, the second, ... of a call, until it has no more. *In the guest*.

The kernel fails the n-th allocation that a thread asks for (/proc/thread-self/fail-nth,
Documentation/fault-injection/fault-injection.rst). A step is prepared in peace, made while one allocation
fails, and looked at in peace again: what it says is success or an errno, and what was sent arrives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.guest.agent import in_netns
from suites.guest import sockets

Json = dict[str, Any]
Step = Callable[["Fault", float], str]
_DEBUG = Path("/sys/kernel/debug")
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
HERE, THERE = ("10.1.0.1", 7001), ("10.1.0.2", 7002)
MINE, PEER, DEVICE = "a", "peer", "lan0"


def able() -> bool:
    """Whether this kernel can fail allocations; if so, any may fail from now on, quietly."""
    if not all((_DEBUG / name).is_dir() for name in ("failslab", "fail_page_alloc")):
        return False
    for name in ("failslab", "fail_page_alloc"):
        for knob, value in (("ignore-gfp-wait", "N"), ("verbose", "0")):
            (_DEBUG / name / knob).write_text(value)
    (_DEBUG / "fail_page_alloc/ignore-gfp-highmem").write_text("N")
    (_DEBUG / "fail_page_alloc/min-order").write_text("0")
    return True


class Fault:
    """``with fault:`` the n-th allocation of this thread fails; ``acted`` says whether there were so many,
    ``made`` how many there were up to it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.made = 0
        self.acted = False
        self._fd = os.open("/proc/thread-self/fail-nth", os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> Fault:
        os.pwrite(self._fd, str(self.number).encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        left = int(os.pread(self._fd, 16, 0))
        self.made, self.acted = self.number - left, bool(self.number) and not left
        os.pwrite(self._fd, b"0", 0)

    def close(self) -> None:
        os.close(self._fd)


def attempt(fault: Fault, call: Callable[[], object]) -> str:
    """Make the call while the fault lasts: what it says, ``ok`` or an errno."""
    try:
        with fault:
            call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except MemoryError:
        return "ENOMEM"
    return "ok"


def heard(sock: socket.socket, patience: float) -> bytes:
    """What comes next; TimeoutError when nothing does."""
    if not select.select([sock], [], [], patience)[0]:
        raise TimeoutError(f"nothing came within {patience:g} s")
    return sock.recv(4096)


def idle(seconds: float) -> None:
    """Let others do theirs."""
    select.select([], [], [], seconds)


def exchange(one: socket.socket, other: socket.socket, patience: float) -> None:
    """A word each way, and nothing before it or twice."""
    for source, sink, word in ((one, other, b"there"), (other, one, b"back")):
        source.send(word)
        if (got := heard(sink, patience)) != word:
            raise AssertionError(f"{got!r} came for {word!r}")
    for sock in (one, other):
        if select.select([sock], [], [], 0)[0]:
            raise AssertionError(f"{sock.recv(4096)!r} came, which nobody sent")


@contextlib.contextmanager
def bound(netns: str, at: tuple[str, int]) -> Iterator[socket.socket]:
    with sockets.make(netns, "udp", blocking=True) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(at)
        yield sock


@contextlib.contextmanager
def datagrams(patience: float) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, one at each port, that have exchanged a word."""
    with bound(MINE, HERE) as one, bound(PEER, THERE) as other:
        one.connect(THERE)
        other.connect(HERE)
        exchange(one, other, patience)
        yield one, other


@contextlib.contextmanager
def stream(patience: float) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection, that have exchanged a word."""
    with listening() as listener, sockets.make(MINE, "tcp", blocking=True) as one:
        one.connect(THERE)
        other, _ = listener.accept()
        with other:
            for end in (one, other):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            exchange(one, other, patience)
            yield one, other


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with sockets.make(PEER, "tcp", blocking=True) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(THERE)
        listener.listen(4)
        yield listener


# --- steps ------------------------------------------------------------------------------------------------


def attach_udp(fault: Fault, patience: float) -> str:
    """A socket is bound, connected, and sends the first time, which is when it is attached; in the end all of
    that is so, and a word goes each way."""
    with bound(PEER, THERE) as other, sockets.make(MINE, "udp", blocking=True) as one:
        other.connect(HERE)

        def attach() -> None:
            one.bind(HERE)
            one.connect(THERE)
            one.send(b"word")

        said = attempt(fault, attach)
        if said != "ok":
            if one.getsockname() != HERE:
                one.bind(HERE)
            one.connect(THERE)
        elif (got := heard(other, patience)) != b"word":
            raise AssertionError(f"{got!r} came for b'word'")
        exchange(one, other, patience)
        return said


def send_udp(fault: Fault, patience: float) -> str:
    """A datagram is sent: it arrives once, or an errno says that it was not sent."""
    with datagrams(patience) as (one, other):
        said = attempt(fault, lambda: one.send(b"word"))
        if said == "ok" and (got := heard(other, patience)) != b"word":
            raise AssertionError(f"{got!r} came for b'word'")
        exchange(one, other, patience)
        return said


def receive_udp(fault: Fault, patience: float) -> str:
    """A datagram is received: now, or after an errno by the next call."""
    with datagrams(patience) as (one, other):
        other.send(b"word")
        got: list[bytes] = []
        said = attempt(fault, lambda: got.append(one.recv(4096)))
        if (got or [heard(one, patience)]) != [b"word"]:
            raise AssertionError(f"{got!r} came for b'word'")
        exchange(one, other, patience)
        return said


def take_tcp(fault: Fault, patience: float) -> str:
    """A connection is made and taken, or stays with the kernel; a word goes each way."""
    with listening() as listener, sockets.make(MINE, "tcp", blocking=True) as one:
        said = attempt(fault, lambda: one.connect(THERE))
        if said != "ok":
            with contextlib.suppress(OSError):  # EISCONN: it was the library's part that failed
                one.connect(THERE)
        other, _ = listener.accept()
        with other:
            exchange(one, other, patience)
        return said


def send_tcp(fault: Fault, patience: float) -> str:
    """Some bytes are sent: all that the call says it took arrive, and no other."""
    with stream(patience) as (one, other):
        took: list[int] = [0]
        said = attempt(fault, lambda: took.append(one.send(b"w" * 3000)))
        left = took[-1]
        while left:
            got = heard(other, patience)
            if got.strip(b"w") or len(got) > left:
                raise AssertionError(f"{len(got)} bytes came, of {left}")
            left -= len(got)
        exchange(one, other, patience)
        return said


def give_tcp(fault: Fault, patience: float) -> str:
    """A connection is handed back, for one of its sides says that it has no more to say: the other hears all
    of it and then the end, and may still answer."""
    with stream(patience) as (one, other):
        one.send(b"last")
        said = attempt(fault, lambda: one.shutdown(socket.SHUT_WR))
        if said != "ok":
            one.shutdown(socket.SHUT_WR)
        if (got := heard(other, patience)) != b"last":
            raise AssertionError(f"{got!r} came for b'last'")
        if not select.select([other], [], [], patience)[0]:
            said = "no end"
        elif got := other.recv(4096):
            raise AssertionError(f"{got!r} came for the end")
        other.send(b"answer")
        if (got := heard(one, patience)) != b"answer":
            raise AssertionError(f"{got!r} came for b'answer'")
        return said


def close_both(fault: Fault, patience: float) -> str:
    """A datagram socket and a connection, both accelerated, are closed: a failure keeps nothing."""
    with contextlib.ExitStack() as stack:
        one, _other = stack.enter_context(datagrams(patience))
        mine, _theirs = stack.enter_context(stream(patience))

        def close() -> None:
            one.close()
            mine.close()

        return attempt(fault, close)


def device_flaps(fault: Fault, patience: float) -> str:
    """The device goes down and comes up under a socket and a connection; then once more, in peace: one that
    comes up without memory for its route has none, whoever's sockets these are, and nobody is told."""
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(kind(patience)) for kind in (datagrams, stream)]
        with sockets.make(MINE, "udp") as control, in_netns(MINE):

            def flags(up: bool) -> None:
                request = bytearray(struct.pack("16sh14x", DEVICE.encode(), 0))
                fcntl.ioctl(control, SIOCGIFFLAGS, request, True)
                (now,) = struct.unpack_from("h", request, 16)
                struct.pack_into("h", request, 16, now | IFF_UP if up else now & ~IFF_UP)
                fcntl.ioctl(control, SIOCSIFFLAGS, request, True)

            def flap() -> None:
                flags(False)
                flags(True)

            said = attempt(fault, flap)
            flap()
        for one, other in pairs:
            words_after_loss(one, other, patience)
        return said


def words_after_loss(one: socket.socket, other: socket.socket, patience: float) -> None:
    """A word each way over a path that may have lost some: datagrams are sent until one arrives."""
    for source, sink in ((one, other), (other, one)):
        if source.type == socket.SOCK_STREAM:
            source.send(b"word")
            heard(sink, patience)
            continue
        for _ in range(50):
            with contextlib.suppress(OSError):
                source.send(b"word")
            if select.select([sink], [], [], patience / 50)[0]:
                break
        heard(sink, patience)
        while select.select([sink], [], [], 0)[0]:
            sink.recv(4096)


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (
        attach_udp, send_udp, receive_udp, take_tcp, send_tcp, give_tcp, close_both, device_flaps,
    )
}  # fmt: skip


def fail_each(step: str, patience: float, first: int = 1, most: int = 8) -> Json:
    """``each_fails``, of the steps here."""
    return each_fails(STEPS[step], patience, first, most)


def each_fails(step: Step, patience: float, first: int, most: int, kind: type[Fault] = Fault) -> Json:
    """Make the step with its first allocation failing, then the second, ..., until it has no more of them.

    From the ``first`` on, ``most`` at once: {"outcomes": {what the call said: how often}, "whole": it has no
    more}.
    """
    outcomes: Counter[str] = Counter()
    gc.disable()
    try:
        step(kind(0), patience)  # in peace first: what is made once for all is there
        for number in range(first, first + most):
            fault = kind(number)
            try:
                said = step(fault, patience)
            except (OSError, AssertionError) as error:
                raise AssertionError(f"{step.__name__}, allocation {number} failing: {error!r}") from error
            finally:
                fault.close()
            if not fault.acted:
                if said != "ok":
                    raise AssertionError(f"{step.__name__} said {said}, and no allocation failed")
                return {"outcomes": dict(outcomes), "whole": True}
            outcomes[said] += 1
    finally:
        gc.enable()
    return {"outcomes": dict(outcomes), "whole": False}

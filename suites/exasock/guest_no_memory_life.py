"""Namespaces and devices come, move and go while an allocation fails. Runs *in the guest*.

The steps are of the kind of ``guest_no_memory``: prepared in peace, made while one allocation fails, and put
right in peace. What the kernel refused is then done, and a socket and a connection that were open all the
time exchange words again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.guest.agent import in_netns, setns
from suites.exasock import guest_no_memory as calls
from suites.exasock.guest_no_memory import DEVICE, MINE, PEER, Fault, Json, Step
from suites.guest import health, iproute, namespaces, rtnetlink, sockets

#: A namespace that is made for one attempt, and its side of the VLAN whose other side the peer has.
FRESH, FRESH_VID, FRESH_HERE, FRESH_THERE = "fresh", 6, ("10.2.0.1", 7001), ("10.2.0.2", 7002)
VID, PREFIX = 5, "10.1.0.1/24"
CLONE_NEWNET = 0x40000000
NEWLINK, DELLINK, IFLA_NET_NS_FD = 16, 17, 28


def link_message(kind: int, index: int, attributes: bytes = b"") -> bytes:
    """What is asked of one device."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, rtnetlink.REQUEST | rtnetlink.ACK, 1, 0) + body


@contextlib.contextmanager
def asking(message: bytes) -> Iterator[Callable[[], None]]:
    """What sends the message from the thread's namespace; an OSError is the kernel's refusal."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:

        def ask() -> None:
            sock.send(message)
            if code := rtnetlink._refusal(sock.recv(65536)):
                raise OSError(code, os.strerror(code))

        yield ask


def port() -> str:
    """The card's first port, in the initial namespace."""
    return str(health.ports()[0]["name"])


def there(netns: str) -> bool:
    with in_netns(netns):
        return DEVICE in (name for _, name in socket.if_nameindex())


@contextlib.contextmanager
def talking(patience: float) -> Iterator[None]:
    """A socket and a connection that are open all the time, and exchange words in the end."""
    with calls.datagrams(patience) as one, calls.stream(patience) as other:
        yield
        for pair in (one, other):
            calls.words_after_loss(*pair, patience)


@contextlib.contextmanager
def fresh(*devices: Json) -> Iterator[None]:
    """A namespace that nobody has used; its end is waited for."""
    namespaces.create([{"name": FRESH, "devices": list(devices)}])
    try:
        yield
    finally:
        namespaces.destroy([FRESH], missing_ok=True)


def fresh_device() -> Json:
    """Its device, on the same port as the others'."""
    device = {"kind": "vlan", "name": DEVICE, "on": port(), "vid": FRESH_VID}
    return {**device, "addresses": [f"{FRESH_HERE[0]}/24"]}


def attach_first(fault: Fault, patience: float) -> str:
    """A socket of the fresh namespace is attached, while the fault lasts, and goes."""
    with calls.bound(PEER, FRESH_THERE) as other, sockets.make(FRESH, "udp", blocking=True) as one:
        one.bind(FRESH_HERE)
        one.connect(FRESH_THERE)
        other.connect(FRESH_HERE)
        said = calls.attempt(fault, lambda: one.send(b"word"))
        calls.words_after_loss(one, other, patience)
    return said


class WorkersFault(Fault):
    """The n-th allocation of each of the kernel's unbound workers fails, one of which ends a namespace;
    ``acted``: one of them asked for so many."""

    def __enter__(self) -> WorkersFault:
        self._set: list[Path] = []
        for task in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # one that ended meanwhile
                if task.name.isdigit() and (task / "comm").read_text().startswith("kworker/u"):
                    (task / "fail-nth").write_text(str(self.number))
                    self._set.append(task / "fail-nth")
        return self

    def __exit__(self, *_: object) -> None:
        for knob in self._set:
            with contextlib.suppress(OSError):
                left = int(knob.read_text().rstrip("\0"))
                knob.write_text("0")
                self.made = max(self.made, self.number - left)
                self.acted |= bool(self.number) and not left


# --- steps ------------------------------------------------------------------------------------------------


def first_attach(fault: Fault, patience: float) -> str:
    """The first socket of a namespace is attached, which is when the namespace gets its state."""
    with fresh(fresh_device()):
        return attach_first(fault, patience)


def namespace_removed(fault: Fault, patience: float) -> str:
    """A namespace whose socket has just gone ends, in the kernel's own threads: another one's socket and
    connection notice nothing of it."""
    with talking(patience), fresh(fresh_device()):
        attach_first(Fault(0), patience)
        with fault:
            namespaces.destroy([FRESH])
        if fault.number and not fault.made:
            raise AssertionError("no worker that was watched asked for memory")
    return "ok"


def namespace_made(fault: Fault, patience: float) -> str:
    """A namespace is made and goes: another one's socket and connection notice nothing of it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def unshare() -> None:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")

    with talking(patience):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            said = calls.attempt(fault, unshare)
            setns(home)
        finally:
            os.close(home)
    return said


def device_moved(fault: Fault, patience: float) -> str:
    """The device of a socket and a connection moves to another namespace; it comes back, and so do they."""
    with talking(patience), fresh():
        with in_netns(MINE), (Path("/run/netns") / FRESH).open() as target:
            to = rtnetlink._attribute(IFLA_NET_NS_FD, struct.pack("=i", target.fileno()))
            with asking(link_message(NEWLINK, socket.if_nametoindex(DEVICE), to)) as ask:
                said = calls.attempt(fault, ask)
        if there(FRESH):
            iproute.run(FRESH, [f"link set {DEVICE} netns {MINE}"])
        come_back()
    return said


def device_removed(fault: Fault, patience: float) -> str:
    """The device of a socket and a connection is removed; it is made anew, and they go on."""
    with talking(patience):
        with in_netns(MINE), asking(link_message(DELLINK, socket.if_nametoindex(DEVICE))) as ask:
            said = calls.attempt(fault, ask)
        if not there(MINE):
            iproute.run(None, [f"link add link {port()} name {DEVICE} netns {MINE} type vlan id {VID}"])
        come_back()
    return said


def come_back() -> None:
    """The device is as it was, whatever of that it has lost."""
    iproute.run(
        MINE, [f"link set {DEVICE} down", f"addr replace {PREFIX} dev {DEVICE}", f"link set {DEVICE} up"]
    )


def retake_tcp(fault: Fault, patience: float) -> str:
    """A connection that is at home sends until it is taken again, by a route that has to be looked up anew:
    what the calls took arrives, and no other."""
    took = [0]
    with calls.stream(patience) as (one, other):

        def speak() -> None:
            for _ in range(12):
                took.append(one.send(b"w"))
                calls.idle(0.005)

        one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        with in_netns(MINE):
            Path("/proc/sys/net/ipv4/route/flush").write_text("1")
        said = calls.attempt(fault, speak)
        left = sum(took)
        while left:
            got = calls.heard(other, patience)
            if got.strip(b"w") or len(got) > left:
                raise AssertionError(f"{len(got)} bytes came, of {left}")
            left -= len(got)
        calls.exchange(one, other, patience)
    return said


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (
        first_attach, namespace_made, namespace_removed, device_moved, device_removed, retake_tcp,
    )
}  # fmt: skip


def fail_each(step: str, patience: float, first: int = 1, most: int = 8) -> Json:
    """As ``guest_no_memory.fail_each``, of the steps here."""
    kind = WorkersFault if step == namespace_removed.__name__ else Fault
    return calls.each_fails(STEPS[step], patience, first, most, kind)

"""The outside of a real port: an interface of this machine that is cabled to it, as an end of the wire.

What the card sends out of its port arrives at the interface and enters the wire at this end; what the wire
delivers to this end leaves through the interface. So switches, rules, captures and testers are the same for
real cards. The interface keeps silent otherwise (:mod:`lab.real.tester`).

Sources: packet(7) for the tags that the kernel takes out of frames, rtnetlink(7) for links that change.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.wire.capture import INBOUND, OUTBOUND, Capture
from lab.wire.frame import FCS_SIZE, MAX_FRAME, intact, seal

_ETH_P_ALL = 0x0003
_SOL_PACKET, _ADD_MEMBERSHIP, _AUXDATA, _IGNORE_OUTGOING = 263, 1, 8, 23
_PROMISC = 1
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_AUX = struct.Struct("=IIIHHHH")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _UP = 0x8913, 0x8914, 1
_LINK_GROUP = 1
_BUFFER = 8 << 20
#: Frames taken before the others get a turn.
_BURST = 256
_SYS = Path("/sys/class/net")


@dataclass
class NicCounters:
    """Frames at the interface, from the card's point of view: ``tx`` it sent, ``rx`` were sent to it."""

    tx: int = 0
    rx: int = 0
    rx_dropped: int = 0
    rx_bad_fcs: int = 0
    too_long: int = 0


class Nic:
    """The interface ``name`` as the outside of one port.

    ``arrived(frame)`` puts a frame (with FCS) on the wire; ``linked(link)`` tells of the cable. Raises
    ``OSError`` when there is no such interface.
    """

    def __init__(
        self,
        name: str,
        poller: select.epoll,
        arrived: Callable[[bytes], None],
        linked: Callable[[bool], None],
        capture: Capture | None = None,
    ) -> None:
        self.name = name
        self.counters = NicCounters()
        self._poller = poller
        self._arrived, self._linked = arrived, linked
        self._capture = capture
        index = socket.if_nametoindex(name)
        with contextlib.ExitStack() as opened:
            # No protocol until it is bound: before that it would hear every interface.
            self._packets = opened.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            self._packets.setblocking(False)
            for option, value in ((_AUXDATA, 1), (_IGNORE_OUTGOING, 1)):
                self._packets.setsockopt(_SOL_PACKET, option, value)
            membership = struct.pack("iHH8s", index, _PROMISC, 0, b"")
            self._packets.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
            self._packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._packets.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._packets.bind((name, _ETH_P_ALL))
            self._links = opened.enter_context(
                socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            )
            self._links.setblocking(False)
            self._links.bind((0, _LINK_GROUP))
            opened.pop_all()
        poller.register(self._packets, select.EPOLLIN)
        poller.register(self._links, select.EPOLLIN)

    def filenos(self) -> set[int]:
        """Descriptors of this interface in the poller."""
        return {self._packets.fileno(), self._links.fileno()}

    def ready(self, fd: int, _events: int) -> None:
        """Handle what the poller reported about one of our descriptors."""
        if fd == self._links.fileno():
            with contextlib.suppress(OSError):  # also one that tells of messages lost: look anyway
                while self._links.recv(1 << 16):
                    pass
            self.tell_link()
        else:
            self._receive()

    def tell_link(self) -> None:
        """Say what the cable is like now."""
        self._linked(self._read("carrier") == "1")

    @property
    def speed(self) -> int | None:
        """Of the link, Mb/s; None without one, or where the interface does not say."""
        told = self._read("speed")
        return int(told) if told.isdigit() and int(told) > 0 else None

    def plug(self, up: bool) -> None:
        """Pull the cable, as far as an interface can: it goes down, and its link with it. Or plug it in."""
        request = struct.pack("16sH14x", self.name.encode(), 0)
        # As the administrator has them: that we listen is no flag of theirs.
        told = fcntl.ioctl(self._packets, _SIOCGIFFLAGS, request)
        flags = struct.unpack("16sH14x", told)[1]
        if bool(flags & _UP) != up:
            request = struct.pack("16sH14x", self.name.encode(), flags ^ _UP)
            fcntl.ioctl(self._packets, _SIOCSIFFLAGS, request)

    def deliver(self, frame: bytes) -> None:
        """A frame of the wire (with FCS) goes to the card. The interface makes its own FCS, so a frame whose
        FCS is wrong cannot be sent as it is: it is dropped, as the card would drop it.
        """
        if not intact(frame):
            self.counters.rx_bad_fcs += 1
            return
        try:
            self._packets.send(frame[:-FCS_SIZE])
        except OSError as problem:
            if problem.errno == errno.EMSGSIZE:
                self.counters.too_long += 1
            else:
                self.counters.rx_dropped += 1
            return
        self.counters.rx += 1
        if self._capture is not None:
            self._capture.write(frame, INBOUND)

    def close(self) -> None:
        """Let go of the interface."""
        for one in (self._packets, self._links):
            self._poller.unregister(one)
            one.close()

    def _receive(self) -> None:
        for _ in range(_BURST):
            try:
                data, notes, _flags, _from = self._packets.recvmsg(MAX_FRAME, socket.CMSG_SPACE(_AUX.size))
            except BlockingIOError:
                return
            except OSError:  # the interface went down: its link says so
                return
            frame = seal(_retag(data, notes))
            if len(frame) > MAX_FRAME:
                self.counters.too_long += 1
                continue
            self.counters.tx += 1
            if self._capture is not None:
                self._capture.write(frame, OUTBOUND)
            self._arrived(frame)

    def _read(self, file: str) -> str:
        try:
            return (_SYS / self.name / file).read_text().strip()
        except OSError:
            return ""


def _retag(data: bytes, notes: list[tuple[int, int, bytes]]) -> bytes:
    """The frame with its 802.1Q tag, which the kernel keeps beside it."""
    for level, kind, note in notes:
        if (level, kind) == (_SOL_PACKET, _AUXDATA) and len(note) >= _AUX.size:
            status, _length, _kept, _mac, _net, tci, tpid = _AUX.unpack(note[: _AUX.size])
            if status & _VLAN_VALID:
                kind_of_tag = tpid if status & _TPID_VALID else 0x8100
                return data[:12] + struct.pack("!HH", kind_of_tag, tci) + data[12:]
    return data

"""The world outside the guest: stations on the tester's side of the wire, scapy, and what the captures say.

A :class:`Station` answers ARP and ping like any neighbour. Frames for nobody in particular are kept for
:meth:`Outside.expect`, which waits for the one a test speaks of.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from lab.cardd.control import Control
from lab.deadline import Deadline, scaled
from lab.wire.scapy_socket import TesterSocket
from suites import capture, timeline
from suites.capture import Captured, Frame

BROADCAST = "ff:ff:ff:ff:ff:ff"
#: Frames kept for ``expect``.
KEPT = 100_000


@dataclass
class Station:
    """A host that exists only on the tester's side. ``vid`` None: untagged."""

    mac: str
    ip: str
    vid: int | None = None
    heard: Counter[str] = field(default_factory=Counter)

    @property
    def tags(self) -> tuple[int, ...]:
        return () if self.vid is None else (self.vid,)

    def ether(self, dst: str = BROADCAST) -> Packet:
        """The start of a frame of this station's, tagged if it is in a VLAN: append the rest with ``/``."""
        head = Ether(src=self.mac, dst=dst)
        return head if self.vid is None else head / Dot1Q(vlan=self.vid)

    def answer(self, frame: Frame) -> bytes | None:
        """The answer to an ARP request or a ping for this station; None: nothing to say."""
        at = 14 + 4 * len(frame.tags)
        data = frame.data
        head = bytes.fromhex((frame.src + self.mac).replace(":", "")) + data[12:at]
        packet = data[at:]
        if frame.ethertype == capture.ARP and packet[6:8] == b"\0\1":
            mine = bytes.fromhex(self.mac.replace(":", "")) + IPv4Address(self.ip).packed
            return head + packet[:6] + b"\0\2" + mine + packet[8:18]
        if frame.protocol == capture.ICMP and packet[20:21] == b"\x08" and frame.dst == self.mac:
            swapped = packet[:12] + packet[16:20] + packet[12:16]
            total = int.from_bytes(packet[22:24], "big") + 0x0800  # RFC 1624: type 8 becomes 0
            checksum = (total & 0xFFFF) + (total >> 16)
            length = int.from_bytes(packet[2:4], "big")
            return head + swapped + b"\0\0" + checksum.to_bytes(2, "big") + packet[24:length]
        return None


class Outside:
    """One tester end, its stations, and the captures of the lab's ports."""

    def __init__(self, tester: Path, captures: Path, control: Control) -> None:
        self.control = control
        self.captures = captures
        self.began = time.time_ns()
        self.stations: dict[tuple[tuple[int, ...], str], Station] = {}
        self.kept: list[Frame] = []
        self._looked = 0
        self._changed = threading.Condition()
        self._socket = TesterSocket(tester)
        self._thread = threading.Thread(target=self._read, name="outside", daemon=True)
        self._thread.start()

    def close(self) -> None:
        # The shutdown wakes the reader; the descriptor is closed when it has left.
        with contextlib.suppress(OSError):
            self._socket.ins.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv_raw()[1]
            except OSError:
                return
            if data is None:
                return
            frame = capture.dissect(data)
            reply = None
            station = self.stations.get((frame.tags, frame.ip_dst or ""))
            if station is not None:
                station.heard[frame.src] += 1
                reply = station.answer(frame)
            if reply is not None:
                with contextlib.suppress(OSError):
                    self._socket.send(reply)
            with self._changed:
                if len(self.kept) < KEPT:
                    self.kept.append(frame)
                self._changed.notify_all()

    def station(self, number: int, ip: str, vid: int | None = None) -> Station:
        """A new neighbour, in a VLAN or untagged, with a MAC address of its own."""
        station = Station(f"02:7e:57:00:{number >> 8:02x}:{number & 0xFF:02x}", ip, vid)
        self.stations[station.tags, ip] = station
        return station

    def send(self, packet: Packet | bytes) -> None:
        """Put a frame on the wire at the tester's end."""
        self._socket.send(bytes(packet))

    def expect(self, what: str, match: Callable[[Frame], bool], seconds: float = 1.0) -> Frame:
        """The first frame, seen since the last one expected, that matches; DeadlineExpired names ``what``.

        ``seconds`` are scaled to the accelerator.
        """
        deadline = Deadline(f"on the wire: {what}", scaled(seconds))
        with timeline.step(f"on the wire: {what}"), self._changed:
            while True:
                while self._looked < len(self.kept):
                    frame = self.kept[self._looked]
                    self._looked += 1
                    if match(frame):
                        return frame
                deadline.check()
                self._changed.wait(deadline.remaining())

    def ask(self, what: str, packet: Packet, match: Callable[[Frame], bool]) -> Frame:
        """Send a frame and expect the one that answers it."""
        with self._changed:
            self._looked = len(self.kept)
        self.send(packet)
        return self.expect(what, match)

    def resolve(self, station: Station, ip: str) -> str:
        """The MAC address that answers ARP for ``ip`` in the station's VLAN."""
        request = station.ether() / ARP(hwsrc=station.mac, psrc=station.ip, pdst=ip)

        def answers(frame: Frame) -> bool:
            return frame.ethertype == capture.ARP and frame.tags == station.tags and frame.ip_src == ip

        return self.ask(f"{ip} answers ARP", request, answers).src

    def ping(self, station: Station, ip: str, mac: str, number: int = 1) -> Frame:
        """An echo reply from ``ip`` to the station."""
        request = station.ether(mac) / IP(src=station.ip, dst=ip) / ICMP(id=number, seq=1) / b"exalab"

        def answers(frame: Frame) -> bool:
            return frame.protocol == capture.ICMP and frame.ip_src == ip and frame.tags == station.tags

        return self.ask(f"{ip} answers a ping", request, answers)

    def captured(self, end: str) -> list[Captured]:
        """Every frame that passed a port since this test began."""
        with timeline.step(f"reading the capture of {end}"):
            self.control.flush()
            return capture.read(self.captures, end, self.began)

    def sent(self, end: str) -> list[Frame]:
        """What the card sent through a port since this test began."""
        return [one.frame for one in self.captured(end) if one.sent]

    def summary(self, end: str) -> dict[str, Any]:
        """How many frames of which kind passed, for messages."""
        kinds: Counter[str] = Counter()
        for one in self.captured(end):
            kinds[("sent " if one.sent else "received ") + str(one.frame.ethertype)] += 1
        return dict(kinds)

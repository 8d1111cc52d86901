"""A TCP peer on the tester's side that says exactly what a test wants it to say."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from scapy.layers.inet import IP, TCP
from scapy.packet import Raw

from lab.errors import DeadlineExpired
from suites.capture import Frame
from suites.outside import Outside, Station
from suites.tcp_oracle import ACK, SYN, Segment, later, segment

#: How often it says a thing before it gives up.
TRIES = 6


@dataclass
class ByHand:
    """One end of a connection with ``to``. ``seq``: its next number; ``ack``: what it has of the other's."""

    wire: Outside
    station: Station
    mac: str
    to: tuple[str, int]
    port: int = 4000
    seq: int = 1000
    ack: int = 0
    window: int = 60_000
    heard: bytearray = field(default_factory=bytearray)

    def say(self, flags: str, data: bytes = b"", *, seq: int | None = None, ack: int | None = None) -> None:
        """A segment, by its own numbers or given ones; only data at its own number moves it on."""
        tcp = TCP(
            sport=self.port, dport=self.to[1], flags=flags, window=self.window,
            seq=(self.seq if seq is None else seq) & 0xFFFFFFFF,
            ack=(self.ack if ack is None else ack) & 0xFFFFFFFF if "A" in flags else 0,
        )  # fmt: skip
        self.wire.send(
            self.station.ether(self.mac) / IP(src=self.station.ip, dst=self.to[0]) / tcp / Raw(data)
        )
        if seq is None:
            self.seq = self.seq + len(data) + ("S" in flags) + ("F" in flags) & 0xFFFFFFFF

    def expect(self, what: str, flags: int = ACK, least: int = 0, seconds: float = 1.0) -> Segment:
        """The next segment for it with these flags and so much data; what is in order is taken in."""
        found: list[Segment] = []

        def matches(frame: Frame) -> bool:
            one = segment(frame)
            if one is None or (frame.ip_src, frame.sport, frame.dport) != (*self.to, self.port):
                return False
            self._take(one)
            if one.flags & flags == flags and len(one.payload) >= least:
                found.append(one)
            return bool(found)

        self.wire.expect(what, matches, seconds)
        return found[0]

    def _take(self, one: Segment) -> None:
        if one.flags & SYN:
            self.ack = one.seq + 1 & 0xFFFFFFFF
        elif later(self.ack, one.seq) >= 0:
            fresh = one.payload[later(self.ack, one.seq) :]
            self.heard += fresh
            self.ack = self.ack + len(fresh) & 0xFFFFFFFF

    def deliver(self, data: bytes) -> None:
        """Say it until it is acknowledged, as every TCP does: a kernel may drop what came together with a
        segment that it does not like (its backlog makes one of both)."""
        start = self.seq
        self.say("PA", data)
        for _ in range(TRIES):
            with contextlib.suppress(DeadlineExpired):
                while later(self.expect("an acknowledgment", seconds=0.1).ack, self.seq) < 0:
                    pass
                return
            self.say("PA", data, seq=start)
        raise AssertionError(f"{len(data)} bytes are not acknowledged")

    def hear(self, count: int) -> bytes:
        """So many bytes, acknowledged as they come."""
        while len(self.heard) < count:
            self.expect(f"{count} bytes", least=1)
            self.say("A")
        data = bytes(self.heard[:count])
        del self.heard[:count]
        return data

    def connect(self, data: bytes = b"") -> None:
        """The handshake, with data on its last segment."""
        self.say("S")
        self.expect("the answer to the SYN", SYN | ACK)
        self.say("PA" if data else "A", data)

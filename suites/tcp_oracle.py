"""An oracle of TCP: what an end may say, judged by what had passed its own port by then.

Each end of each connection is followed at the port it speaks through: what the port received before is the
most that the end can know, so whatever it says beyond that is a lie. It knows of numbers and bytes only, and
nothing of the datapath. RFC 9293 (numbers, windows), RFC 7323 (scale, time stamps).

What a capture cannot tell is not judged: what was received and then lost between port and end makes the
oracle lenient, never wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from suites import capture
from suites.capture import Captured, Frame

FIN, SYN, RST, ACK = 1, 2, 4, 16
#: A number is taken for the one that is nearest to what is known; one so far away is nobody's.
FAR = 1 << 30
#: Segments kept of a peer whose first number is not known yet.
KEPT = 1000
#: (VLAN tags, own address, own port, the peer's address and port).
Key = tuple[tuple[int, ...], str, int, str, int]


@dataclass(frozen=True)
class Segment:
    """One TCP segment, taken apart. ``stamp``: TSval and TSecr; ``intact``: both checksums are right."""

    seq: int
    ack: int
    flags: int
    window: int
    payload: bytes
    options: int
    mss: int | None
    scale: int | None
    stamp: tuple[int, int] | None
    intact: bool

    def __str__(self) -> str:
        names = "".join(
            name for bit, name in ((SYN, "S"), (FIN, "F"), (RST, "R"), (ACK, "A")) if self.flags & bit
        )
        told = f"{names or '-'} seq {self.seq} ack {self.ack} win {self.window} len {len(self.payload)}"
        return told + (f" ts {self.stamp[0]}/{self.stamp[1]}" if self.stamp else "")

    @property
    def length(self) -> int:
        """In sequence numbers."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)


def _sum(data: bytes) -> int:
    """The ones' complement sum (RFC 1071); 0xFFFF over data that holds its own right checksum."""
    data = data + b"\0" * (len(data) & 1)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def segment(frame: Frame) -> Segment | None:
    """The TCP segment of a frame; None: it has none, or none that can be read."""
    if frame.protocol != capture.TCP or frame.sport is None:
        return None
    packet = frame.data[14 + 4 * len(frame.tags) :]
    head = (packet[0] & 15) * 4
    packet = packet[: int.from_bytes(packet[2:4], "big")]
    tcp = packet[head:]
    if len(tcp) < 20 or len(tcp) < (size := (tcp[12] >> 4) * 4) or size < 20:
        return None
    seq, ack = struct.unpack_from("!II", tcp, 4)
    pseudo = packet[12:20] + struct.pack("!HH", capture.TCP, len(tcp))
    intact = _sum(packet[:head]) == 0xFFFF and _sum(pseudo + tcp) == 0xFFFF
    mss, scale, stamp = _options(tcp[20:size])
    window = int.from_bytes(tcp[14:16], "big")
    return Segment(seq, ack, tcp[13], window, tcp[size:], size - 20, mss, scale, stamp, intact)


def _options(data: bytes) -> tuple[int | None, int | None, tuple[int, int] | None]:
    mss = scale = stamp = None
    at = 0
    while at < len(data) and data[at]:
        if data[at] == 1:
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        if size < 2 or at + size > len(data):
            break
        if data[at] == 2 and size == 4:
            mss = int.from_bytes(data[at + 2 : at + 4], "big")
        elif data[at] == 3 and size == 3:
            scale = min(data[at + 2], 14)
        elif data[at] == 8 and size == 10:
            stamp = struct.unpack_from("!II", data, at + 2)
        at += size
    return mss, scale, stamp


def later(number: int, than: int) -> int:
    """How much later one 32-bit number is than another, at most half way round."""
    return ((number - than + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@dataclass
class Line:
    """Positions of one direction's numbers, counted from its first one, over every wrap."""

    first: int
    last: int = 0

    def place(self, number: int) -> int:
        return self.last + later(number, self.first + self.last & 0xFFFFFFFF)

    def seen(self, position: int) -> None:
        self.last = max(self.last, position)


@dataclass
class Intervals:
    """Which positions have come: up to ``whole`` all of them, and islands behind."""

    whole: int
    islands: list[tuple[int, int]] = field(default_factory=list)

    def add(self, start: int, end: int) -> None:
        if end <= self.whole:
            return
        if start > self.whole:
            self.islands.append((start, end))
            return
        self.whole = end
        while self.islands:
            joined = [one for one in self.islands if one[0] <= self.whole]
            if not joined:
                return
            self.islands = [one for one in self.islands if one[0] > self.whole]
            self.whole = max(self.whole, *(end for _start, end in joined))


@dataclass
class Said:
    """The bytes of one direction, as they were said first."""

    first: int = 1
    data: bytearray = field(default_factory=bytearray)
    known: bytearray = field(default_factory=bytearray)

    def add(self, start: int, payload: bytes) -> int | None:
        """Position of the first byte that was another one before; None: all are as they were, or new."""
        if start < self.first:
            payload = payload[self.first - start :]
            start = self.first
        at = start - self.first
        end = at + len(payload)
        if end > len(self.data):
            more = end - len(self.data)
            self.data += bytes(more)
            self.known += bytes(more)
        before = self.known[at:end]
        if not any(before):
            self.data[at:end] = payload
        elif self.data[at:end] != payload or not all(before):
            for number, byte in enumerate(payload, start=at):
                if self.known[number] and self.data[number] != byte:
                    return number + self.first
                self.data[number] = byte
        self.known[at:end] = b"\1" * len(payload)
        return None


@dataclass
class Terms:
    """What a SYN offers."""

    mss: int | None
    scale: int | None
    stamps: bool

    @classmethod
    def of(cls, one: Segment) -> Terms:
        return cls(one.mss, one.scale, one.stamp is not None)


@dataclass
class End:
    """One end of one connection, at its own port.

    ``joined``: its beginning was not captured, or there was none on the wire (TCP_REPAIR). ``scale``: of both
    windows then; None: windows are not judged. ``gaps``: what it says may be lost before its port.
    ``cut``: what it heard before the capture is unknown.
    """

    joined: bool = False
    scale: int | None = None
    gaps: bool = False
    cut: bool = False
    #: SYNs heard, by number.
    offers: dict[int, Terms] = field(default_factory=dict)
    waiting: list[Segment] = field(default_factory=list)
    heard_of: bool = False
    own: Line | None = None
    own_terms: Terms | None = None
    peer: Line | None = None
    peer_terms: Terms | None = None
    #: What was said: up to here; its bytes; where its FIN is; whether all of it was ended by a RST.
    most: int = 0
    #: The first that was captured has no byte: it may be a probe, whose number is one before what comes next.
    probed: bool = False
    bytes: Said = field(default_factory=Said)
    fin: int | None = None
    reset: bool = False
    #: What was heard: bytes; where the FIN is; how far one may send; the stamps that may be echoed.
    came: Intervals = field(default_factory=lambda: Intervals(0))
    peer_fin: int | None = None
    edge: int | None = None
    stamps: set[int] = field(default_factory=set)
    #: What was told: stamp, echo, acknowledgment, right edge of the window.
    stamp: int | None = None
    echo: int | None = None
    acked: int | None = None
    told_edge: int | None = None

    # --- what it hears

    def hear(self, one: Segment) -> None:
        if not one.intact:
            return
        self.heard_of = True
        if one.stamp is not None:
            self.stamps.add(one.stamp[0])
        if one.flags & SYN:
            self.offers[one.seq] = Terms.of(one)
        if self.peer is None:
            if len(self.waiting) < KEPT:
                self.waiting.append(one)
            return
        self._understand(one)

    def _understand(self, one: Segment) -> None:
        assert self.own is not None and self.peer is not None
        start = self.peer.place(one.seq)
        if abs(start - self.peer.last) < FAR and not one.flags & RST:
            data = start + bool(one.flags & SYN)
            end = data + len(one.payload)
            self.came.add(start, end)
            self.peer.seen(self.came.whole)
            if one.flags & FIN:
                self.peer_fin = end
        if one.flags & ACK and not one.flags & RST:
            position = self.own.place(one.ack)
            scale = 0 if one.flags & SYN else self._scale(self.peer_terms)
            if scale is not None and abs(position - self.most) < FAR:
                edge = position + (one.window << scale)
                self.edge = edge if self.edge is None else max(self.edge, edge)

    def _scale(self, whose: Terms | None) -> int | None:
        """How far the windows of this end are shifted, beyond its SYN."""
        if self.own_terms is None or self.peer_terms is None or whose is None:
            return self.scale
        if self.own_terms.scale is None or self.peer_terms.scale is None:
            return 0
        return whose.scale

    # --- what it says

    def say(self, one: Segment) -> list[str]:
        """What is wrong with it."""
        if not one.intact:
            return ["its checksum is wrong"]
        if one.flags & RST:
            return self._reset(one)
        if one.flags & SYN and (self.own is None or one.seq != self.own.first):
            self._begin(one)
        if self.own is None:
            if not self.joined:
                return ["no connection has begun here"]
            self.own = Line(one.seq - 1 & 0xFFFFFFFF, 1)
            self.most = self.bytes.first = 1
            self.probed = self.cut and not one.length
        found = self._place(one) + self._stamps(one)
        if one.flags & ACK:
            found += self._acknowledgment(one)
        elif not one.flags & SYN:
            found.append("it acknowledges nothing")
        return found

    def _begin(self, one: Segment) -> None:
        """A new connection of the same addresses and ports."""
        fresh = End(self.joined, self.scale, self.gaps, self.cut)
        fresh.offers, fresh.stamps, fresh.heard_of = self.offers, self.stamps, self.heard_of
        self.__dict__.update(fresh.__dict__)
        self.own, self.own_terms = Line(one.seq), Terms.of(one)

    def _reset(self, one: Segment) -> list[str]:
        if self.own is None:
            return [] if self.heard_of or self.joined else ["it resets what it never heard of"]
        if one.flags & ACK and self.own.place(one.seq) == self.most:
            self.reset = True
        return []

    def _place(self, one: Segment) -> list[str]:
        assert self.own is not None
        found = []
        start = self.own.place(one.seq)
        data = start + bool(one.flags & SYN)
        end = data + len(one.payload)
        if start > self.most + self.probed and not self.gaps:
            found.append(f"{start - self.most} bytes before it were never sent")
        self.probed &= start == self.most and not one.length
        if one.payload:
            if self.reset:
                found.append("data after its own reset")
            if self.fin is not None and end > self.fin:
                found.append("data after its own FIN")
            if self.edge is not None and end > self.edge and end > self.most:
                found.append(f"{end - self.edge} bytes beyond the window of its peer")
            mss = self.peer_terms.mss if self.peer_terms is not None else None
            if mss is not None and len(one.payload) + one.options > mss:
                found.append(f"longer than the {mss} bytes that its peer takes")
            differs = self.bytes.add(data, one.payload)
            if differs is not None:
                found.append(f"byte {differs} was another one when it was first sent")
        if one.flags & FIN:
            if self.fin is not None and self.fin != end:
                found.append(f"its FIN was at {self.fin} before, and is at {end}")
            elif self.fin is None and end < self.most:
                found.append("a FIN before data that was already sent")
            self.fin = end if self.fin is None else self.fin
        self.most = max(self.most, start + one.length)
        self.own.seen(self.most)
        return found

    def _anchor(self, one: Segment) -> list[str]:
        """The first acknowledgment says which of the numbers heard is the peer's first one."""
        first = one.ack - 1 & 0xFFFFFFFF
        found = []
        self.peer_terms = self.offers.get(first)
        if self.peer_terms is None and not self.joined:
            found.append("it acknowledges a SYN that never came")
        self.peer = Line(first, 1)
        self.came = Intervals(1)
        waiting, self.waiting = self.waiting, []
        for heard in waiting:
            self._understand(heard)
        return found

    def _acknowledgment(self, one: Segment) -> list[str]:
        found = self._anchor(one) if self.peer is None else []
        assert self.peer is not None
        position = self.peer.place(one.ack)
        most = self.came.whole
        if self.peer_fin is not None and self.peer_fin == most:
            most += 1
        if position > most and not self.cut:
            found.append(f"it acknowledges {position - most} bytes that never came")
        if self.acked is not None and position < self.acked:
            found.append(f"it takes back the acknowledgment of {self.acked - position} bytes")
        self.acked = position if self.acked is None else max(self.acked, position)
        scale = 0 if one.flags & SYN else self._scale(self.own_terms)
        if scale is None:
            return found
        edge = position + (one.window << scale)
        # A socket that only waits for the end tells its window rounded down. One without memory tells none.
        slack = (1 << scale) - 1 if self.fin is not None else 0
        if self.told_edge is not None and edge + slack < self.told_edge and one.window:
            found.append(f"it takes back {self.told_edge - edge} bytes of its window")
        self.told_edge = edge if self.told_edge is None else max(self.told_edge, edge)
        return found

    def _stamps(self, one: Segment) -> list[str]:
        if not one.flags & SYN and self.own_terms is not None and self.peer_terms is not None:
            agreed = self.own_terms.stamps and self.peer_terms.stamps
            if agreed != (one.stamp is not None):
                return ["no time stamp" if agreed else "a time stamp that was not agreed on"]
        if one.stamp is None:
            return []
        found = []
        value, echo = one.stamp
        if self.stamp is not None and later(value, self.stamp) < 0:
            found.append(f"its time stamp goes back by {-later(value, self.stamp)}")
        self.stamp = value
        if not one.flags & ACK:
            return found
        if echo not in self.stamps and not self.joined:
            found.append(f"it echoes a time stamp that never came, {echo}")
        if self.echo is not None and later(echo, self.echo) < 0:
            found.append(f"the time stamp that it echoes goes back by {-later(echo, self.echo)}")
        self.echo = echo
        return found


@dataclass
class TcpOracle:
    """Every connection of one port. Options: see :class:`End`."""

    end: str
    joined: bool = False
    scale: int | None = None
    gaps: bool = False
    cut: bool = False
    ends: dict[Key, End] = field(default_factory=dict)
    #: Segments said, and bytes in them, sent again ones included.
    segments: int = 0
    octets: int = 0

    def examine(self, frames: Iterable[Captured]) -> list[str]:
        """Every objection to what the card sent through the port, with its segment."""
        found = []
        for number, one in enumerate(frames):
            said = segment(one.frame)
            if said is None or one.bad_fcs:
                continue
            end = self._end(one)
            if not one.sent:
                end.hear(said)
                continue
            self.segments += 1
            self.octets += len(said.payload)
            found += [f"{self.end} #{number}: {one.frame}: {said}: {what}" for what in end.say(said)]
        return found

    def _end(self, one: Captured) -> End:
        frame = one.frame
        assert frame.ip_src and frame.ip_dst and frame.sport is not None and frame.dport is not None
        key = (frame.tags, frame.ip_src, frame.sport, frame.ip_dst, frame.dport)
        if not one.sent:
            key = (frame.tags, frame.ip_dst, frame.dport, frame.ip_src, frame.sport)
        if key not in self.ends:
            self.ends[key] = End(self.joined, self.scale, self.gaps, self.cut)
        return self.ends[key]

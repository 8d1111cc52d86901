"""What passed a port, read back from its pcapng capture, with the little that the suites ask of a frame."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from suites.guest import records

ARP, IPV4, IPV6, VLAN = 0x0806, 0x0800, 0x86DD, 0x8100
ICMP, IGMP, TCP, UDP = 1, 2, 6, 17
FCS_SIZE = 4
#: Block and option numbers, and bits of epb_flags: draft-ietf-opsawg-pcapng.
ENHANCED_PACKET, EPB_FLAGS = 6, 2
OUTBOUND, CRC_ERROR = 2, 1 << 24


@dataclass(frozen=True)
class Frame:
    """One Ethernet frame, without FCS, taken apart as far as the oracle looks.

    ``tags``: VLAN ids, outermost first. ``flow``: of the record of ours in a UDP payload or at the start of a
    TCP segment.
    """

    data: bytes
    dst: str
    src: str
    tags: tuple[int, ...]
    ethertype: int
    protocol: int | None = None
    ip_src: str | None = None
    ip_dst: str | None = None
    sport: int | None = None
    dport: int | None = None
    record: records.Record | None = None

    def __str__(self) -> str:
        tags = "".join(f" vlan {vid}" for vid in self.tags)
        kind = {ARP: "arp", IPV4: "ip", IPV6: "ipv6"}.get(self.ethertype, f"{self.ethertype:#06x}")
        rest = f" {self.ip_src}:{self.sport} > {self.ip_dst}:{self.dport} proto {self.protocol}"
        flow = f" flow {self.record.flow} #{self.record.sequence}" if self.record else ""
        return f"{self.src} > {self.dst}{tags} {kind}{rest if self.protocol is not None else ''}{flow}"


@dataclass(frozen=True)
class Captured:
    """A frame at a port. ``sent``: by the card (else received); ``time`` in ns since the epoch."""

    frame: Frame
    sent: bool
    time: int
    bad_fcs: bool


def dissect(data: bytes) -> Frame:
    """Take a frame without FCS apart; never fails, whatever the bytes are."""
    dst, src = data[:6].hex(":"), data[6:12].hex(":")
    tags: list[int] = []
    at = 12
    ethertype = int.from_bytes(data[at : at + 2], "big")
    while ethertype == VLAN and len(data) >= at + 4:
        tags.append(int.from_bytes(data[at + 2 : at + 4], "big") & 0xFFF)
        at += 4
        ethertype = int.from_bytes(data[at : at + 2], "big")
    packet = data[at + 2 :]
    if ethertype == ARP and len(packet) >= 28:
        sender, target = str(IPv4Address(packet[14:18])), str(IPv4Address(packet[24:28]))
        return Frame(data, dst, src, tuple(tags), ethertype, None, sender, target)
    if ethertype != IPV4 or len(packet) < 20:
        return Frame(data, dst, src, tuple(tags), ethertype)
    head = (packet[0] & 15) * 4
    packet = packet[: int.from_bytes(packet[2:4], "big")]
    protocol = packet[9]
    ends = (str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20])))
    body = packet[head:]
    fragment = int.from_bytes(packet[6:8], "big") & 0x1FFF
    if fragment or protocol not in (TCP, UDP) or len(body) < 8:
        return Frame(data, dst, src, tuple(tags), ethertype, protocol, *ends)
    ports = (int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big"))
    payload = body[8:] if protocol == UDP else body[(body[12] >> 4) * 4 :] if len(body) >= 20 else b""
    record = records.decode(payload)
    return Frame(data, dst, src, tuple(tags), ethertype, protocol, *ends, *ports, record)


def read(directory: Path, end: str, after: int = 0) -> list[Captured]:
    """Every frame of a port that passed after ``after`` (ns since the epoch), in order.

    Reads the previous segment too where there is one. Ask cardd for a ``flush`` before.
    """
    stem = end.replace(":", "-")
    frames: list[Captured] = []
    for path in (directory / f"{stem}.1.pcapng", directory / f"{stem}.pcapng"):
        if path.exists():
            for time, flags, data in _packets(path.read_bytes()):
                if time >= after:
                    sent, bad = flags & 3 == OUTBOUND, bool(flags & CRC_ERROR)
                    frames.append(Captured(dissect(data[:-FCS_SIZE]), sent, time, bad))
    return frames


def reaches(directory: Path, end: str, after: int) -> bool:
    """Whether all that passed a port after ``after`` (ns since the epoch) is still there."""
    before = directory / f"{end.replace(':', '-')}.1.pcapng"
    if not before.exists():
        return True
    with before.open("rb") as file:
        first = next(_packets(file.read(1 << 16)), None)
    return first is not None and first[0] < after


def since(path: Path, time: int) -> bytes:
    """The capture without the packets before ``time`` (ns since the epoch), its other blocks verbatim."""
    data = path.read_bytes()
    kept = []
    for kind, at, size in _blocks(data):
        high, low = struct.unpack_from("<II", data, at + 12) if kind == ENHANCED_PACKET else (0, 0)
        if kind != ENHANCED_PACKET or high << 32 | low >= time:
            kept.append(data[at : at + size])
    return b"".join(kept)


def has_packets(data: bytes) -> bool:
    return any(kind == ENHANCED_PACKET for kind, _at, _size in _blocks(data))


def _blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, offset and size of each whole block."""
    at = 0
    while at + 12 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if size < 12 or at + size > len(data):
            return  # cut short: the writer is at it
        yield kind, at, size
        at += size


def _packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Time, flags and bytes of each packet. By hand: a library takes a second for what a fast test captures;
    that other readers understand the files too is a test of its own."""
    for kind, at, size in _blocks(data):
        if kind == ENHANCED_PACKET:
            high, low, captured = struct.unpack_from("<III", data, at + 12)
            start = at + 28
            flags = 0
            option = start + (captured + 3 & ~3)
            while option + 4 <= at + size - 4:
                code, length = struct.unpack_from("<HH", data, option)
                if code == EPB_FLAGS:
                    flags = struct.unpack_from("<I", data, option + 4)[0]
                if code == 0:
                    break
                option += 4 + (length + 3 & ~3)
            yield high << 32 | low, flags, data[start : start + captured]

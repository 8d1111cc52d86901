"""Ethernet frames as the wire carries them: bytes from destination address to FCS, both included.

Source: IEEE 802.3 clause 3 (FCS as the little-endian CRC-32 of the rest), 802.1Q (tags).
"""

from __future__ import annotations

import zlib

FCS_SIZE = 4
#: Shortest frame without FCS that a sender puts on the wire.
MIN_FRAME = 60
#: Longest frame the wire carries, FCS included; same as :data:`lab.card.layout.MAX_FRAME`.
MAX_FRAME = 9216
#: Shortest thing worth carrying: two addresses, a type and an FCS.
RUNT = 18
ETHERTYPE_VLAN = b"\x81\x00"


def fcs(data: bytes) -> bytes:
    """The four FCS bytes of a frame given without one, in wire order."""
    return zlib.crc32(data).to_bytes(4, "little")


def seal(data: bytes, pad: bool = True) -> bytes:
    """A frame for the wire from one without FCS: padded to 60 bytes unless told otherwise, FCS appended."""
    if pad and len(data) < MIN_FRAME:
        data = data.ljust(MIN_FRAME, b"\0")
    return data + fcs(data)


def intact(frame: bytes) -> bool:
    """Whether the frame's FCS is right."""
    return len(frame) >= RUNT and zlib.crc32(frame[:-4]) == int.from_bytes(frame[-4:], "little")


def vlan_of(frame: bytes) -> int | None:
    """The VLAN id of an 802.1Q-tagged frame; None when untagged or only priority-tagged."""
    if frame[12:14] != ETHERTYPE_VLAN or len(frame) < RUNT + 4:
        return None
    return (int.from_bytes(frame[14:16], "big") & 0xFFF) or None


def untag(frame: bytes) -> bytes:
    """The frame without its 802.1Q tag, with a new FCS; padded back to the minimum."""
    return seal(frame[:12] + frame[16:-4])


def tag(frame: bytes, vlan: int) -> bytes:
    """The frame with an 802.1Q tag of priority 0, replacing a priority tag if there is one; new FCS."""
    tagged = frame[12:14] == ETHERTYPE_VLAN and len(frame) >= RUNT + 4
    rest = frame[16:-4] if tagged else frame[12:-4]
    return seal(frame[:12] + ETHERTYPE_VLAN + vlan.to_bytes(2, "big") + rest)

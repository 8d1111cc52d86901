"""A pluggable optical module: its identification and diagnostics pages.

Source: SFF-8472 (layout, checksums, calibration), SFF-8024 (identifier and compliance codes).
"""

from __future__ import annotations

import struct

from lab.card.i2c import Memory

IDENTITY_ADDRESS = 0x50
DIAGNOSTICS_ADDRESS = 0x51


def identity(speed: int, serial: str) -> bytes:
    """Page A0h of a short-range module for 10G (or 25G when ``speed`` is 25000)."""
    page = bytearray(256)
    fast = speed == 25000
    page[0:3] = b"\x03\x04\x07"  # SFP, two-wire identifier, LC connector
    page[3] = 0 if fast else 0x10  # 10GBASE-SR
    page[11] = 0x06  # 64B/66B
    page[12] = 0xFF if fast else 103  # units of 100 Mb/s; FFh: see byte 66
    page[16], page[18], page[19] = 8, 10, 30  # reach on OM2, OM4, OM3, in 10 m
    page[20:36] = b"EXALAB".ljust(16)
    page[36] = 0x02 if fast else 0  # 25GBASE-SR
    page[40:56] = (b"SFP28-SR" if fast else b"SFP-10G-SR").ljust(16)
    page[56:60] = b"A   "
    page[60:62] = struct.pack(">H", 850)  # nm
    page[63] = sum(page[:63]) & 0xFF
    page[65] = 0x1A  # loss of signal, fault and disable pins
    page[66] = 103 if fast else 0  # units of 250 Mb/s
    page[68:84] = serial.encode("ascii", "replace")[:16].ljust(16)
    page[84:92] = b"260101  "
    page[92] = 0x68  # diagnostics, internally calibrated, average power
    page[93] = 0xF0
    page[94] = 0x08
    page[95] = sum(page[64:95]) & 0xFF
    return bytes(page)


def diagnostics() -> bytes:
    """Page A2h: thresholds and calm readings (38 degrees, 3.3 V, 6 mA, 0.5 mW both ways)."""
    page = bytearray(256)
    thresholds = (
        (75, -5, 70, 0, 256, ">h"),  # degrees, 1/256
        (3.63, 2.97, 3.46, 3.13, 10_000, ">H"),  # volts, 100 uV
        (12, 2, 11, 3, 500, ">H"),  # mA, 2 uA
        (1.5, 0.1, 1.2, 0.15, 10_000, ">H"),  # mW sent, 0.1 uW
        (1.5, 0.05, 1.2, 0.07, 10_000, ">H"),  # mW received
    )
    readings = (38, 3.3, 6, 0.5, 0.5)
    for row, (*limits, scale, form) in enumerate(thresholds):
        for column, limit in enumerate(limits):
            struct.pack_into(str(form), page, row * 8 + column * 2, int(limit * scale))
        struct.pack_into(str(form), page, 96 + row * 2, int(readings[row] * scale))
    for offset in (68, 72, 76, 80):  # calibration slope and power coefficient 1.0
        page[offset : offset + 4] = b"\0\0\0\0" if offset != 68 else struct.pack(">f", 1.0)
    for offset in (76, 80, 84, 88):
        page[offset : offset + 2] = b"\x01\x00"
    page[95] = sum(page[:95]) & 0xFF
    return bytes(page)


def module(speed: int, serial: str) -> dict[int, Memory]:
    """The slaves that a module adds to its bus, by 7-bit address."""
    return {
        IDENTITY_ADDRESS: Memory(bytearray(identity(speed, serial))),
        DIAGNOSTICS_ADDRESS: Memory(bytearray(diagnostics())),
    }

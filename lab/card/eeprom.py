"""The card's EEPROM. Source: reference/exanic-hardware.md section 11 (24AA08 style, 16-byte write pages)."""

from __future__ import annotations

from lab.card.i2c import Memory

ADDRESS = 0x50
BUS = 4
SIZE = 256
PAGE = 16
SERIAL_AT = 0x10
SERIAL_SIZE = 16
SPEED_AT = 0x50
_SPEED_CODES = {1000: 1}
_SPEED_OTHER = 2


def eeprom(mac: bytes, serial: str, speeds: tuple[int, ...]) -> Memory:
    """A card's EEPROM: MAC of port 0, serial text (at most 16 ASCII characters), Mb/s per port.

    Raises ValueError when the MAC or the serial do not fit.
    """
    text = serial.encode("ascii")
    if len(mac) != 6:
        raise ValueError(f"a MAC address has 6 bytes, not {len(mac)}")
    if len(text) > SERIAL_SIZE:
        raise ValueError(f"serial {serial!r} is longer than {SERIAL_SIZE} characters")
    content = bytearray(b"\xff" * SIZE)
    content[0:6] = mac
    content[SERIAL_AT : SERIAL_AT + SERIAL_SIZE] = text.ljust(SERIAL_SIZE, b"\0")
    content[0x40] = 0
    for port, speed in enumerate(speeds[:4]):
        content[SPEED_AT + port] = _SPEED_CODES.get(speed, _SPEED_OTHER)
        content[SPEED_AT + 4 + port] = 0
    return Memory(content, page=PAGE)

"""Sizes, layouts and numbers of the card that are not registers: rings, chunks, identifiers.

Source: reference/exanic-hardware.md sections 1, 7 and 8. The C header carries the same values, generated.
"""

from __future__ import annotations

from enum import IntEnum

VENDOR_ID = 0x1CE4

PAGE_SIZE = 4096
RX_CHUNK_SIZE = 128
RX_CHUNK_DATA = 120
RX_RING_CHUNKS = 16384
RX_RING_SIZE = RX_RING_CHUNKS * RX_CHUNK_SIZE
#: Ring positions count chunks and generations together, modulo this (22 bits).
RX_POSITIONS = RX_RING_CHUNKS * 256

TX_HEADER_SIZE = 8
TX_PADDING = 2
TX_ALIGN = 8
#: Bytes of a port's region for each command that its FIFO holds.
TX_COMMAND_BYTES = 512
TX_FEEDBACK_SLOTS = PAGE_SIZE // 2
TX_NO_FEEDBACK = 0x8000
TX_TYPE_RAW = 1
TX_TYPE_TCP_ACCEL = 2

FCS_SIZE = 4
#: Shortest frame a card sends, without FCS, unless padding is off.
MIN_FRAME = 60
#: Longest frame the card and the wire carry, FCS included: MTU 9000 with two tags, and some to spare. [inf]
MAX_FRAME = 9216


class RxStatus(IntEnum):
    """Result of a received frame, low nibble of the status byte of its last chunk."""

    GOOD = 0
    ABORTED = 1
    BAD_CRC = 2
    OVERFLOW = 3


class Function(IntEnum):
    """FUNCTION_ID: what the card's image is."""

    NIC = 0
    FIREWALL = 1
    FORWARDER = 2
    DEVKIT = 3
    PTP_GRANDMASTER = 4
    RECOVERY = 0x80000000

"""vfio-user on the wire: numbers, layouts and errors. Little knowledge, no behaviour.

Source: the vfio-user protocol specification (QEMU, docs/interop/vfio-user.rst) and <linux/vfio.h>.
All fields are in the host's byte order, which is little endian on every host we run on.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from enum import IntEnum

MAJOR = 0
MINOR = 0

#: Most bytes of data in one REGION_READ or REGION_WRITE, offered in VERSION.
MAX_DATA_XFER = 1 << 20
#: Most descriptors in one message, offered in VERSION. The kernel's own limit is 253.
MAX_MSG_FDS = 8
#: Most DMA ranges at one time. Beyond it DMA_MAP gets ENOSPC.
MAX_DMA_MAPS = 4096
PAGE = 4096

HEADER = struct.Struct("<HHIII")
#: Nothing legal is longer: a REGION_WRITE of MAX_DATA_XFER.
MAX_MESSAGE = HEADER.size + 16 + MAX_DATA_XFER

TYPE_MASK = 0xF
TYPE_COMMAND = 0
TYPE_REPLY = 1
FLAG_NO_REPLY = 0x10
FLAG_ERROR = 0x20


class Command(IntEnum):
    """Command numbers. 14 was DIRTY_PAGES in older drafts of the protocol."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    DIRTY_PAGES = 14
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


class RegionIndex(IntEnum):
    """VFIO's fixed region numbers of a PCI device; 0 to 5 are the BARs."""

    BAR0 = 0
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


NUM_REGIONS = 9


class IrqIndex(IntEnum):
    """VFIO's fixed interrupt types of a PCI device."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


NUM_IRQS = 5

DEVICE_FLAGS_RESET = 1
DEVICE_FLAGS_PCI = 2

REGION_FLAG_READ = 1
REGION_FLAG_WRITE = 2
REGION_FLAG_MMAP = 4
REGION_FLAG_CAPS = 8
REGION_CAP_SPARSE_MMAP = 1

IRQ_INFO_EVENTFD = 1
IRQ_INFO_MASKABLE = 2
IRQ_INFO_NORESIZE = 8

IRQ_DATA_NONE = 1
IRQ_DATA_BOOL = 2
IRQ_DATA_EVENTFD = 4
IRQ_DATA_MASK = 7
IRQ_ACTION_MASK = 8
IRQ_ACTION_UNMASK = 16
IRQ_ACTION_TRIGGER = 32
IRQ_ACTION_ALL = 56

DMA_UNMAP_GET_DIRTY = 1
DMA_UNMAP_ALL = 2

VERSION = struct.Struct("<HH")
DEVICE_INFO = struct.Struct("<IIII")  # argsz flags regions irqs
REGION_INFO = struct.Struct("<IIIIQQ")  # argsz flags index cap_offset size offset
CAP_SPARSE = struct.Struct("<HHIII")  # id version next nr_areas reserved
CAP_AREA = struct.Struct("<QQ")  # offset size
REGION_IO_FDS = struct.Struct("<IIII")  # argsz flags index count
IRQ_INFO = struct.Struct("<IIII")  # argsz flags index count
IRQ_SET = struct.Struct("<IIIII")  # argsz flags index start count
REGION_RW = struct.Struct("<QII")  # offset region count
MULTI_COUNT = struct.Struct("<Q")
MULTI_WRITE = struct.Struct("<QII8s")  # offset region count data
DMA_MAP = struct.Struct("<IIQQQ")  # argsz flags offset address size
DMA_UNMAP = struct.Struct("<IIQQ")  # argsz flags address size
DEVICE_FEATURE = struct.Struct("<II")  # argsz flags


class RequestError(Exception):
    """The command fails: its sender gets ``errno`` and the connection goes on."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {reason}")
        self.errno = number
        self.reason = reason


class ProtocolError(RequestError):
    """The stream cannot be trusted any more: the connection is closed, after a last error reply."""


@dataclass
class Message:
    """One received message; it owns ``fds`` until a handler takes them out of the list."""

    id: int
    command: int
    size: int
    flags: int
    error: int
    payload: bytes = b""
    fds: list[int] | None = None

    @property
    def wants_reply(self) -> bool:
        return not self.flags & FLAG_NO_REPLY

    def take_fds(self) -> list[int]:
        """The descriptors, now the caller's to close."""
        fds, self.fds = self.fds or [], None
        return fds

    def close_fds(self) -> None:
        """Close what nobody took. Safe to call twice."""
        close_all(self.take_fds())


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def reply(message: Message, payload: bytes = b"") -> bytes:
    """The success reply to a command."""
    return HEADER.pack(message.id, message.command, HEADER.size + len(payload), TYPE_REPLY, 0) + payload


def error_reply(message: Message, number: int) -> bytes:
    """The failure reply: a header only, with ``number`` as its errno."""
    return HEADER.pack(message.id, message.command, HEADER.size, TYPE_REPLY | FLAG_ERROR, number)


def unpack(layout: struct.Struct, payload: bytes, what: str, *, exact: bool = True) -> tuple[int, ...]:
    """Fields of a fixed payload; EINVAL when it is too short, or longer than ``layout`` when ``exact``."""
    if len(payload) < layout.size or (exact and len(payload) != layout.size):
        raise RequestError(errno.EINVAL, f"{what}: {len(payload)} bytes of payload, not {layout.size}")
    return layout.unpack_from(payload)

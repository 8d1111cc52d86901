"""Transmit memory and feedback slots, used from inside. Runs *in the guest*, in a process of its own."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from typing import Any

from suites.driver import guest_exanic as exanic

TX_COMMAND, PORT_BLOCK, PORT_STRIDE = 0x20, 0x200, 0x40
HEADER, PADDING, RAW = 8, 2, 1


class _Taken:
    """What this process has until it ends."""

    files: list[int] = []
    sock: socket.socket | None = None


def lose_hardware_rights() -> None:
    """From here on this process has port rights at most."""
    exanic.drop_hardware_rights()


def take(port: int, files: int) -> dict[str, Any]:
    """All pages and slots of a port that so many open files can get, and write over the pages."""
    found: dict[str, Any] = {"pages": [], "slots": []}
    for _ in range(files):
        fd = exanic._open()
        _Taken.files.append(fd)
        pages = _until_refused(fd, exanic.TX_ALLOC, struct.pack("<IIQQ", port, 0, exanic.PAGE, 0), "<Q", 16)
        slots = _until_refused(fd, exanic.SLOT_ALLOC, struct.pack("<II", port, 0), "<I", 4)
        size = exanic._info(fd)["tx"]
        place = exanic.AREAS["tx"][0] * exanic.PAGE
        with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_WRITE, offset=place) as memory:
            for page in pages:
                memory[page : page + exanic.PAGE] = b"\xbb" * exanic.PAGE
        found["pages"].append(len(pages))
        found["slots"].append(slots)
    return found


def _until_refused(fd: int, number: int, request: bytes, layout: str, at: int) -> list[int]:
    got: list[int] = []
    while True:
        answer = exanic._try(lambda: exanic._ioctl(fd, number, request))
        if answer == "ENOMEM":
            return got
        if isinstance(answer, str):
            raise RuntimeError(answer)
        got.append(struct.unpack_from(layout, answer, at)[0])


def give() -> None:
    """Close them all."""
    while _Taken.files:
        os.close(_Taken.files.pop())


def slots(numbers: list[int]) -> list[int]:
    """What the feedback slots say."""
    fd = exanic._open()
    try:
        with exanic._map(fd, "feedback") as page:
            return [struct.unpack_from("<H", page, 2 * number)[0] for number in numbers]
    finally:
        os.close(fd)


def send_and_close(port: int, size: int) -> int:
    """As a program of the vendor's library would: a page, a slot, a frame, the doorbell, the end.

    Returns the offset of the page. The frame is the one that ``guest_exanic.raw_frames`` sends first.
    """

    def body() -> int:
        fd = exanic._open()
        page = struct.unpack_from("<Q", exanic._ioctl(fd, exanic.TX_ALLOC, _request(port)), 16)[0]
        slot = struct.unpack_from("<I", exanic._ioctl(fd, exanic.SLOT_ALLOC, struct.pack("<II", port, 0)), 4)[
            0
        ]
        head = b"\xff" * 6 + bytes.fromhex("020000000001") + struct.pack(">HH", 0x88B5, size)
        frame = head + bytes(i & 255 for i in range(len(head), size))
        chunk = struct.pack("<HHHBB", 1, slot, PADDING + size, RAW, 0) + bytes(PADDING) + frame
        total = exanic._info(fd)["tx"]
        place = exanic.AREAS["tx"][0] * exanic.PAGE
        with mmap.mmap(fd, total, mmap.MAP_SHARED, mmap.PROT_WRITE, offset=place) as memory:
            memory[page : page + len(chunk)] = chunk
        with exanic._map(fd, "registers", write=True) as registers:
            at = PORT_BLOCK + PORT_STRIDE * port + TX_COMMAND
            memoryview(registers).cast("I")[at // 4] = page
        return int(page)

    return int(exanic._child(body))


def _request(port: int) -> bytes:
    return struct.pack("<IIQQ", port, 0, exanic.PAGE, 0)


def connect(address: str, port: int) -> None:
    """A datagram socket to send from."""
    _Taken.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    _Taken.sock.connect((address, port))


def datagrams(first: int, count: int, size: int) -> None:
    """Send datagrams whose bytes say their numbers."""
    assert _Taken.sock is not None
    for number in range(first, first + count):
        _Taken.sock.send(bytes([number & 255]) * size)


def hang_up() -> None:
    assert _Taken.sock is not None
    _Taken.sock.close()
    _Taken.sock = None


def serve(port: int) -> None:
    """A datagram socket to receive at."""
    _Taken.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    _Taken.sock.bind(("0.0.0.0", port))


def received(count: int, patience: float) -> list[list[int]]:
    """Of each datagram: its length and the byte that it is made of, -1 when it is made of several."""
    assert _Taken.sock is not None
    _Taken.sock.settimeout(patience)
    found: list[list[int]] = []
    while len(found) < count:
        try:
            data = _Taken.sock.recv(65536)
        except TimeoutError:
            break
        found.append([len(data), data[0] if data == data[:1] * len(data) else -1])
    return found

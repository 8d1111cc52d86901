"""What a tenant does with /dev/exanicN while others work. Runs *in the guest*, as the tenant.

Each attack goes on for so many seconds and says what it did: {what: times}.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import random
import struct
from collections import Counter
from typing import Any

from suites.driver import guest_exanic
from suites.hostile.guest_devices import until

Done = dict[str, int]
PAGE = 4096
#: Calls that there are, for some of its own port to be granted.
CALLS = (
    guest_exanic.INFO, guest_exanic.INFO_EX, guest_exanic.INFO_EX2, guest_exanic.TX_ALLOC,
    guest_exanic.TX_FREE, guest_exanic.SLOT_ALLOC, guest_exanic.SLOT_FREE,
    guest_exanic.BUFFER_ALLOC, guest_exanic.USAGE,
)  # fmt: skip
#: What is the other port's, or the whole card's.
OTHERS = ("registers", "ring0", "ring0_ext")
WORDS = (0, 1, 2, 7, 255, PAGE, 1 << 31, (1 << 32) - 1)


def _open() -> int:
    return os.open("/dev/exanic0", os.O_RDWR | os.O_CLOEXEC)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def calling(seconds: float, seed: int) -> Done:
    """Every call of /dev/exanic0, and calls that do not exist, with arguments that are none."""
    draw = random.Random(seed)
    done: Counter[str] = Counter()
    for _ in until(seconds):
        fd = _open()
        for _ in range(200):
            strange = draw.getrandbits(2) << 30 | draw.randrange(64) << 16 | 0x78 << 8 | draw.randrange(256)
            number = strange if draw.randrange(3) == 0 else draw.choice(CALLS)
            words = [draw.choice((*WORDS, draw.getrandbits(32))) for _ in range(64)]
            try:
                fcntl.ioctl(fd, number, bytearray(struct.pack("<64I", *words)), True)
                done["ok"] += 1
            except OSError as error:
                done[_name(error)] += 1
            except OverflowError:
                done["none"] += 1
        os.close(fd)
    return dict(done)


def mapping(seconds: float, seed: int) -> Done:
    """Every page that there may be, in every mode; what can be had is read, what can be written is not
    the card's."""
    draw = random.Random(seed)
    done: Counter[str] = Counter()
    fd = _open()
    for _ in until(seconds):
        for area, (page, length) in guest_exanic.AREAS.items():
            for shared in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
                for rights in (1, 3, 7):
                    at, pages = draw.choice((0, 0, 1, length - 1, length)), draw.choice((1, length))
                    where = area if at < length else f"behind {area}"
                    try:
                        memory = mmap.mmap(fd, pages * PAGE, shared, rights, offset=(page + at) * PAGE)
                    except (OSError, ValueError) as error:
                        done[f"{where} {_name(error) if isinstance(error, OSError) else 'EINVAL'}"] += 1
                        continue
                    memory.close()
                    done[f"{where} ok"] += 1
                    if where in OTHERS:
                        raise AssertionError(f"the tenant has {where}, {pages} pages from {at}")
    os.close(fd)
    return dict(done)


class _Hoard:
    fds: list[int] = []


def hoarding(seconds: float, port: int) -> Done:
    """All transmit memory and all feedback slots that it can have, and it keeps them."""
    done: Counter[str] = Counter()
    fd = _open()
    _Hoard.fds.append(fd)
    for what, most, number, request in (
        ("pages", 1024, guest_exanic.TX_ALLOC, struct.pack("<IIQQ", port, 0, PAGE, 0)),
        ("slots", 1024, guest_exanic.SLOT_ALLOC, struct.pack("<II", port, 0)),
        ("rings", 16, guest_exanic.BUFFER_ALLOC, struct.pack("<II", port, 0xFFFFFFFF)),
    ):
        for _ in range(most):
            try:
                fcntl.ioctl(fd, number, bytearray(request), True)
                done[what] += 1
            except OSError as error:
                done[f"{what} {_name(error)}"] += 1
                break
    return dict(done)


def let_go() -> None:
    while _Hoard.fds:
        os.close(_Hoard.fds.pop())


def available(port: int) -> dict[str, Any]:
    """How much of the card's memory and slots the host's owner can have for a port."""
    fd = _open()
    found: Counter[str] = Counter()
    try:
        for what, number, request in (
            ("pages", guest_exanic.TX_ALLOC, struct.pack("<IIQQ", port, 0, PAGE, 0)),
            ("slots", guest_exanic.SLOT_ALLOC, struct.pack("<II", port, 0)),
        ):
            with contextlib.suppress(OSError):
                while True:
                    fcntl.ioctl(fd, number, bytearray(request), True)
                    found[what] += 1
    finally:
        os.close(fd)
    return dict(found)

"""The frequency of this machine's time stamp counter, for the guest's kernel.

Without KVM the guest's counter is the host's, and the guest's kernel measures it against an emulated timer,
within milliseconds, early in its boot. On a busy host it gets that wrong: a guest was seen whose clock ran
six times too fast, with every timeout in it too short. So we measure, with patience and against the host's
own clock, and tell it (``tsc_early_khz``).
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import select
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

#: rdtsc; shl rdx, 32; or rax, rdx; ret
_RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
#: Milliseconds between two looks, how many there are at most, and the part of it that an answer may be wrong.
_APART, _LOOKS, _DOUBT = 40, 50, 5e-5


class Moment(NamedTuple):
    """The counter, and the clock in ns, which is within ``doubt`` ns of when the counter was read."""

    ticks: int
    time: float
    doubt: float


def steady(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the counter runs at one rate always and everywhere on this machine."""
    if platform.machine() != "x86_64":
        return False
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return "constant_tsc" in flags and "nonstop_tsc" in flags


def khz() -> int | None:
    """Its rate in kHz; None when it has no steady one, or two seconds of a disturbed machine did not tell."""
    if not steady():
        return None
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(_RDTSC)
        holder = ctypes.c_char.from_buffer(code)
        read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(holder))
        try:
            return _measure(partial(_moment, read))
        finally:
            # The mapping can be closed only when nothing points into it any more.
            del read, holder


def _measure(look: Callable[[], Moment]) -> int | None:
    """Look until two of the moments are far enough apart for the doubt about them not to matter."""
    moments = [look()]
    for _ in range(_LOOKS):
        select.poll().poll(_APART)
        last = look()
        doubt, first = min(((one.doubt + last.doubt) / (last.time - one.time), one) for one in moments)
        if doubt <= _DOUBT:
            return round((last.ticks - first.ticks) * 1e6 / (last.time - first.time))
        moments.append(last)
    return None


def _moment(read: Callable[[], int]) -> Moment:
    """The counter and the clock at one moment: of several tries, the one that was disturbed least."""
    tries = []
    for _ in range(20):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        ticks = read()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        tries.append(Moment(ticks, (before + after) / 2, (after - before) / 2))
    return min(tries, key=lambda one: one.doubt)

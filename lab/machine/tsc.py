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
from pathlib import Path

#: rdtsc; shl rdx, 32; or rax, rdx; ret
_RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
#: Milliseconds between the two looks, and how far two results may differ to be believed.
_APART, _AGREE = 40, 1e-4


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
    """Its rate in kHz; None when it has no steady one, or this machine is too disturbed to tell."""
    if not steady():
        return None
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(_RDTSC)
        holder = ctypes.c_char.from_buffer(code)
        read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(holder))
        try:
            first, second = _rate(read), _rate(read)
        finally:
            # The mapping can be closed only when nothing points into it any more.
            del read, holder
    if abs(first - second) > _AGREE * first:
        return None
    return round((first + second) / 2)


def _rate(read: Callable[[], int]) -> float:
    """kHz between two moments."""
    (ticks_a, time_a) = _moment(read)
    select.poll().poll(_APART)
    (ticks_b, time_b) = _moment(read)
    return (ticks_b - ticks_a) * 1e6 / (time_b - time_a)


def _moment(read: Callable[[], int]) -> tuple[int, float]:
    """The counter and the clock (ns) at one moment: of several tries, the one that was disturbed least."""
    best: tuple[float, int, float] | None = None
    for _ in range(20):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        ticks = read()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if best is None or after - before < best[0]:
            best = (after - before, ticks, (before + after) / 2)
    assert best is not None
    return best[1], best[2]

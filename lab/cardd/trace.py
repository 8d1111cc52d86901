"""The register trace: the last accesses of each card's regions, in a bounded ring.

It is on from the start: what the C pump serves it also logs (about 40 ns an access), so that a failing
test's bundle has the trace of what just happened.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from lab.card.register_table import MAX_PORTS
from lab.card.registers import REGISTERS
from lab.vfio_user.access import Access
from lab.vfio_user.protocol import RegionIndex

#: Accesses kept per card: about 16 MiB, and some seconds of full traffic.
RING = 65536
#: Bytes shown of one access.
SHOWN = 16


def _names() -> dict[int, str]:
    found: dict[int, str] = {}
    for register in REGISTERS:
        for port in range(MAX_PORTS) if register.block.per_port else range(1):
            suffix = f"[{port}]" if register.block.per_port else ""
            found.setdefault(register.address(port), register.name + suffix)
    return found


class Trace:
    """One card's ring: an :class:`~lab.vfio_user.access.AccessLog`."""

    def __init__(self, card: str, size: int = RING) -> None:
        self.card = card
        self.total = 0
        self._ring: deque[Access] = deque(maxlen=size)

    def record(self, kind: str, region: int, offset: int, data: bytes) -> None:
        """Keep one access: ``kind`` is "r" or "w"."""
        self.total += 1
        self._ring.append(Access(time.monotonic_ns(), kind, region, offset, data[:SHOWN]))

    def extend(self, accesses: Iterable[Access]) -> None:
        """Keep accesses from elsewhere; each finds its place in time."""
        found = list(accesses)
        self.total += len(found)
        merged = sorted([*self._ring, *found], key=lambda access: access.ns)
        self._ring = deque(merged, maxlen=self._ring.maxlen)

    def lines(self) -> list[str]:
        """What is kept, oldest first: monotonic seconds, r or w, place, register, value.

        >>> trace.lines()[-1]                                                     # doctest: +SKIP
        '  812.402113077 w bar0+0x000220 TX_COMMAND[0]            0x00000440'
        """
        names = _names()
        found = []
        for access in self._ring:
            where = "config" if access.region == RegionIndex.CONFIG else f"bar{access.region}"
            name = names.get(access.offset, "") if access.region == 0 else ""
            size = len(access.data)
            number = int.from_bytes(access.data, "little")
            value = f"0x{number:0{2 * size}x}" if size <= 8 else access.data.hex()
            seconds, rest = divmod(access.ns, 1_000_000_000)
            place = f"{where}+0x{access.offset:06x}"
            found.append(f"{seconds:5d}.{rest:09d} {access.kind} {place} {name:24s} {value}")
        return found

    def dump(self, directory: Path) -> Path:
        """Write the ring to ``CARD.trace`` in the directory; returns the file."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.card}.trace"
        lines = self.lines()
        head = f"# {self.card}: {len(lines)} of {self.total} accesses; monotonic seconds\n"
        path.write_text(head + "".join(line + "\n" for line in lines), encoding="utf-8")
        return path

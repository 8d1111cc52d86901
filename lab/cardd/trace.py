"""The register trace: the last accesses of each card's regions, in a bounded ring."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from lab.card.register_table import MAX_PORTS
from lab.card.registers import REGISTERS
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
    """One card's ring. ``record`` is what the server calls for each access."""

    def __init__(self, card: str, size: int = RING) -> None:
        self.card = card
        self.total = 0
        self._ring: deque[tuple[int, str, int, int, bytes]] = deque(maxlen=size)

    def record(self, kind: str, region: int, offset: int, data: bytes) -> None:
        """Keep one access: ``kind`` is "r" or "w"."""
        self.total += 1
        self._ring.append((time.monotonic_ns(), kind, region, offset, data[:SHOWN]))

    def lines(self) -> list[str]:
        """What is kept, oldest first: monotonic seconds, r or w, place, register, value.

        >>> trace.lines()[-1]                                                     # doctest: +SKIP
        '  812.402113077 w bar0+0x000220 PORT_TX_COMMAND[0]       0x00000440'
        """
        names = _names()
        found = []
        for when, kind, region, offset, data in self._ring:
            where = "config" if region == RegionIndex.CONFIG else f"bar{region}"
            name = names.get(offset, "") if region == 0 else ""
            value = f"0x{int.from_bytes(data, 'little'):0{2 * len(data)}x}" if len(data) <= 8 else data.hex()
            seconds, rest = divmod(when, 1_000_000_000)
            found.append(f"{seconds:5d}.{rest:09d} {kind} {where}+0x{offset:06x} {name:24s} {value}")
        return found

    def dump(self, directory: Path) -> Path:
        """Write the ring to ``CARD.trace`` in the directory; returns the file."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.card}.trace"
        lines = self.lines()
        head = f"# {self.card}: {len(lines)} of {self.total} accesses; monotonic seconds\n"
        path.write_text(head + "".join(line + "\n" for line in lines), encoding="utf-8")
        return path

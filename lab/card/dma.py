"""The card's view of guest memory: every access is checked against what the guest mapped.

A failed access is counted and reported, never an error to whoever asked: it is the guest's doing.
"""

from __future__ import annotations

import bisect
import mmap
from dataclasses import dataclass

from lab.vfio_user.device import DMA_READ, DMA_WRITE


@dataclass(frozen=True)
class _Range:
    iova: int
    size: int
    memory: mmap.mmap
    prot: int


class DmaTable:
    """Ranges of guest physical memory that may be read or written. Addresses and sizes in bytes."""

    def __init__(self) -> None:
        self.faults = 0
        self._starts: list[int] = []
        self._ranges: list[_Range] = []

    def map(self, iova: int, size: int, memory: mmap.mmap, prot: int) -> None:
        """Make a range reachable; it overlaps none there is."""
        index = bisect.bisect_left(self._starts, iova)
        self._starts.insert(index, iova)
        self._ranges.insert(index, _Range(iova, size, memory, prot))

    def unmap(self, iova: int, size: int) -> None:
        """Forget every range within [iova, iova + size)."""
        keep = [item for item in self._ranges if not iova <= item.iova < iova + size]
        self._ranges = keep
        self._starts = [item.iova for item in keep]

    def clear(self) -> None:
        """Forget every range."""
        self._starts.clear()
        self._ranges.clear()

    def reaches(self, iova: int, size: int, prot: int) -> bool:
        """Whether an access would succeed; a failure counts as one."""
        if self._find(iova, size, prot) is None:
            self.faults += 1
            return False
        return True

    def write(self, iova: int, data: bytes) -> bool:
        """Store ``data``; False (and counted) when it is not within one writable range."""
        found = self._find(iova, len(data), DMA_WRITE)
        if found is None:
            self.faults += 1
            return False
        offset = iova - found.iova
        found.memory[offset : offset + len(data)] = data
        return True

    def read(self, iova: int, size: int) -> bytes | None:
        """Copy of ``size`` bytes; None (and counted) when they are not within one readable range."""
        found = self._find(iova, size, DMA_READ)
        if found is None:
            self.faults += 1
            return None
        offset = iova - found.iova
        return found.memory[offset : offset + size]

    def _find(self, iova: int, size: int, prot: int) -> _Range | None:
        index = bisect.bisect_right(self._starts, iova) - 1
        if index < 0:
            return None
        found = self._ranges[index]
        inside = iova + size <= found.iova + found.size
        return found if inside and found.prot & prot else None

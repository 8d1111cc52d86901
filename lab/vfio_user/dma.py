"""Guest memory as the device reaches it: ranges of I/O virtual addresses and their mappings.

A guest that shrinks its memory file under a mapping makes the next access raise SIGBUS, which Python
cannot survive. So a range is mapped only from a file that cannot shrink: a memfd sealed with
``F_SEAL_SHRINK``, as QEMU's ``memory-backend-memfd`` makes by default. ``allow_unsealed`` gives that up
for hosts whose memory comes from elsewhere (huge pages on a file system): then only the size at the time
of mapping is checked, and a client that truncates its file afterwards kills the daemon.
"""

from __future__ import annotations

import bisect
import errno
import fcntl
import logging
import mmap
import os
import stat
from dataclasses import dataclass

from lab.vfio_user.device import DMA_READ, DMA_WRITE, PciDevice
from lab.vfio_user.protocol import MAX_DMA_MAPS, PAGE, RequestError

log = logging.getLogger(__name__)

F_SEAL_SHRINK = 2
ADDRESS_LIMIT = 1 << 64


@dataclass(frozen=True)
class Range:
    """One DMA range: ``iova`` and ``size`` in bytes; ``memory`` is None when it cannot be reached."""

    iova: int
    size: int
    prot: int
    memory: mmap.mmap | None


class DmaTable:
    """The client's ranges, none overlapping, kept in step with the device."""

    def __init__(self, device: PciDevice, *, allow_unsealed: bool = False) -> None:
        self._device = device
        self._allow_unsealed = allow_unsealed
        self._ranges: dict[int, Range] = {}
        self._starts: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def map(self, iova: int, size: int, prot: int, fd: int | None, offset: int) -> None:
        """Add a range; ``fd`` stays the caller's.

        Raises RequestError: EINVAL (empty, beyond 64 bits, unaligned offset, not a plain file, file too
        short), EEXIST (overlaps a range), EPERM (the file may shrink), ENOSPC (too many ranges), ENOMEM.
        """
        if size <= 0 or iova + size > ADDRESS_LIMIT:
            raise RequestError(errno.EINVAL, f"DMA range {iova:#x}+{size:#x} is empty or beyond 64 bits")
        if prot & ~(DMA_READ | DMA_WRITE):
            raise RequestError(errno.EINVAL, f"DMA flags {prot:#x} are unknown")
        at = bisect.bisect_right(self._starts, iova)
        before = at > 0 and self._end(at - 1) > iova
        if before or (at < len(self._starts) and self._starts[at] < iova + size):
            raise RequestError(errno.EEXIST, f"DMA range {iova:#x}+{size:#x} overlaps another")
        if len(self._starts) >= MAX_DMA_MAPS:
            raise RequestError(errno.ENOSPC, f"more than {MAX_DMA_MAPS} DMA ranges")
        memory = self._open(size, prot, fd, offset) if fd is not None and prot else None
        entry = Range(iova, size, prot, memory)
        try:
            self._device.dma_map(iova, size, memory, prot)
        except BaseException:
            _release(entry)
            raise
        self._starts.insert(at, iova)
        self._ranges[iova] = entry

    def unmap(self, iova: int, size: int) -> None:
        """Remove exactly one earlier range. Raises RequestError ENOENT when there is none such."""
        entry = self._ranges.get(iova)
        if entry is None or entry.size != size:
            raise RequestError(errno.ENOENT, f"no DMA range {iova:#x}+{size:#x}")
        del self._ranges[iova]
        self._starts.pop(bisect.bisect_left(self._starts, iova))
        self._device.dma_unmap(iova, size)
        _release(entry)

    def clear(self) -> None:
        """Remove every range."""
        entries = list(self._ranges.values())
        self._ranges.clear()
        self._starts.clear()
        self._device.dma_unmap_all()
        for entry in entries:
            _release(entry)

    def _end(self, at: int) -> int:
        entry = self._ranges[self._starts[at]]
        return entry.iova + entry.size

    def _open(self, size: int, prot: int, fd: int, offset: int) -> mmap.mmap:
        if offset % PAGE:
            raise RequestError(errno.EINVAL, f"DMA file offset {offset:#x} is not a multiple of a page")
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise RequestError(errno.EINVAL, "the DMA descriptor is not a plain file")
        if offset + size > status.st_size:
            raise RequestError(
                errno.EINVAL, f"the DMA file has {status.st_size:#x} bytes, not {offset:#x}+{size:#x}"
            )
        if not self._allow_unsealed and not _cannot_shrink(fd):
            raise RequestError(
                errno.EPERM, "the DMA file may shrink: give the guest memory-backend-memfd,share=on,seal=on"
            )
        access = (mmap.PROT_READ if prot & DMA_READ else 0) | (mmap.PROT_WRITE if prot & DMA_WRITE else 0)
        if prot == DMA_WRITE:
            access |= mmap.PROT_READ  # a mapping that can only be written does not exist on x86
        try:
            return mmap.mmap(fd, size, mmap.MAP_SHARED, access, offset=offset)
        except OSError as problem:
            raise RequestError(problem.errno or errno.EINVAL, f"cannot map DMA range: {problem}") from problem
        except (OverflowError, ValueError) as problem:
            raise RequestError(errno.EINVAL, f"cannot map DMA range: {problem}") from problem


def _cannot_shrink(fd: int) -> bool:
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & F_SEAL_SHRINK)
    except OSError:
        return False  # not a memfd: it has no seals


def _release(entry: Range) -> None:
    if entry.memory is None:
        return
    try:
        entry.memory.close()
    except BufferError:
        # The device still holds a view. The memory goes when the view does; better late than a fault.
        log.error("the device kept a view of DMA range %#x+%#x after its unmap", entry.iova, entry.size)

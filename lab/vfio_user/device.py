"""What a PCI device must offer to be served over vfio-user.

The server owns the protocol, the PCI configuration space and the descriptors; the device owns its
registers, its memory and what it does with the guest's memory. Nothing here does anything: it is the
seam between ``lab.vfio_user`` and ``lab.card``.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

#: ``prot`` of :meth:`PciDevice.dma_map`: what the guest allows the device to do with the range.
DMA_READ = 1
DMA_WRITE = 2


@dataclass(frozen=True)
class Bar:
    """One base address register: ``size`` in bytes, a power of two, at least 16."""

    index: int
    size: int
    is64: bool = False
    prefetch: bool = False


@dataclass(frozen=True)
class MmapArea:
    """A page-aligned part of a region that the client may map (sparse-mmap capability). Bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Region:
    """One VFIO region (0 to 5 are the BARs).

    ``mmap`` lists the parts that may be mapped through ``fd`` at ``fd_offset`` + area offset; without a
    descriptor every access is trapped. The descriptor stays the device's: the server only sends copies.
    """

    index: int
    size: int
    readable: bool = True
    writable: bool = True
    mmap: tuple[MmapArea, ...] = ()
    fd: int | None = None
    fd_offset: int = 0


@dataclass(frozen=True)
class PciIdentity:
    """The device's face in configuration space (type-0 header)."""

    vendor: int
    device: int
    subvendor: int = 0
    subdevice: int = 0
    class_code: int = 0x020000
    revision: int = 0
    bars: tuple[Bar, ...] = ()


class PciDevice(Protocol):
    """A device model. All calls come from the one thread that runs the server; none may block.

    ``read`` and ``write`` raise ``ValueError`` for an access the device cannot decode; the server
    answers it with ``EINVAL``. Offsets and sizes were checked against the region before the call.
    """

    identity: PciIdentity
    #: BARs only; configuration space (region 7) with its capabilities is the server's.
    regions: Mapping[int, Region]
    #: False while the card is pulled out: configuration space reads all ones then, too.
    present: bool
    #: The server's: called when power is back, and configuration space with it as after power-on.
    on_power: Callable[[], None]

    def read(self, region: int, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes of a trapped access."""

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Carry out a trapped write; when it returns, its effects on guest memory have been made."""

    def dma_map(self, iova: int, size: int, memory: mmap.mmap | None, prot: int) -> None:
        """A range of guest physical memory became reachable.

        ``memory`` is a mapping of exactly ``size`` bytes, valid until the matching :meth:`dma_unmap`;
        None when the client sent no descriptor (ROM, video memory, our own BARs): not reachable by DMA.
        ``prot`` is a combination of :data:`DMA_READ` and :data:`DMA_WRITE`. Ranges never overlap.
        """

    def dma_unmap(self, iova: int, size: int) -> None:
        """The range of an earlier :meth:`dma_map` is gone when this returns: keep no view of it."""

    def dma_unmap_all(self) -> None:
        """All ranges are gone when this returns."""

    def set_msi(self, eventfd: int | None) -> None:
        """Where to write 1 (8 bytes, native order) to interrupt the guest; None: masked or disabled.

        The descriptor is the server's and stays open until the next call.
        """

    def reset(self) -> None:
        """Back to the state after power-on; DMA ranges and the interrupt stay as they are."""

    def disconnected(self) -> None:
        """The client went away: DMA and interrupt are gone already; wire and statistics stay."""

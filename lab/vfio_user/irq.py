"""Interrupts: one MSI vector, carried by an eventfd of the client.

While the vector is masked the device is given an eventfd of ours, so that an interrupt raised
meanwhile is kept (the pending bit of a real function) and delivered on unmask.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from lab.vfio_user.device import PciDevice
from lab.vfio_user.protocol import (
    IRQ_ACTION_ALL,
    IRQ_ACTION_MASK,
    IRQ_ACTION_TRIGGER,
    IRQ_ACTION_UNMASK,
    IRQ_DATA_BOOL,
    IRQ_DATA_EVENTFD,
    IRQ_DATA_MASK,
    IRQ_DATA_NONE,
    IRQ_INFO_EVENTFD,
    IRQ_INFO_MASKABLE,
    IRQ_INFO_NORESIZE,
    NUM_IRQS,
    IrqIndex,
    RequestError,
)

#: Vectors of each interrupt type. The card has one MSI and never uses INTx or MSI-X.
COUNTS = {IrqIndex.INTX: 0, IrqIndex.MSI: 1, IrqIndex.MSIX: 0, IrqIndex.ERR: 0, IrqIndex.REQ: 0}


def info(index: int) -> tuple[int, int]:
    """(flags, count) of an interrupt type; RequestError EINVAL for an unknown one."""
    if index >= NUM_IRQS:
        raise RequestError(errno.EINVAL, f"interrupt type {index} does not exist")
    count = COUNTS[IrqIndex(index)]
    return (IRQ_INFO_EVENTFD | IRQ_INFO_MASKABLE | IRQ_INFO_NORESIZE if count else 0), count


class Irqs:
    """The state behind DEVICE_SET_IRQS."""

    def __init__(self, device: PciDevice) -> None:
        self._device = device
        self._eventfd: int | None = None
        self._pending: int | None = None

    @property
    def enabled(self) -> bool:
        return self._eventfd is not None

    @property
    def masked(self) -> bool:
        return self._pending is not None

    def set(self, flags: int, index: int, start: int, count: int, data: bytes, fds: list[int]) -> None:
        """Carry out one DEVICE_SET_IRQS. An eventfd that is kept is taken out of ``fds``.

        Raises RequestError: EINVAL (flags, range, data or descriptors wrong), EOPNOTSUPP (an eventfd for
        mask or unmask).
        """
        kind, action = flags & IRQ_DATA_MASK, flags & IRQ_ACTION_ALL
        if flags & ~(IRQ_DATA_MASK | IRQ_ACTION_ALL) or kind.bit_count() != 1 or action.bit_count() != 1:
            raise RequestError(errno.EINVAL, f"SET_IRQS flags {flags:#x} are not one data and one action")
        _, vectors = info(index)
        if start + count > vectors:
            raise RequestError(errno.EINVAL, f"vectors {start}+{count} of {vectors}")
        if len(data) != (count if kind == IRQ_DATA_BOOL else 0):
            raise RequestError(errno.EINVAL, f"{len(data)} bytes of SET_IRQS data for {count} vectors")
        if fds and (kind != IRQ_DATA_EVENTFD or len(fds) != count):
            raise RequestError(errno.EINVAL, f"{len(fds)} descriptors for {count} vectors, flags {flags:#x}")
        if kind == IRQ_DATA_EVENTFD:
            self._assign(action, count, fds)
        elif count == 0:
            if kind != IRQ_DATA_NONE or action != IRQ_ACTION_TRIGGER or start:
                raise RequestError(errno.EINVAL, f"SET_IRQS of no vector, flags {flags:#x}")
            self.disable()
        elif kind == IRQ_DATA_NONE or data[0]:
            self._act(action)

    def disable(self) -> None:
        """No interrupt from here on; descriptors closed."""
        if self._eventfd is None:
            return
        self._device.set_msi(None)
        self._drop_pending()
        os.close(self._eventfd)
        self._eventfd = None

    def _assign(self, action: int, count: int, fds: list[int]) -> None:
        if action != IRQ_ACTION_TRIGGER:
            raise RequestError(errno.EOPNOTSUPP, "an eventfd is supported for trigger only")
        if not fds:
            self.disable()
            return
        if not _is_eventfd(fds[0]):
            raise RequestError(errno.EINVAL, "the descriptor is not an eventfd")
        # The device must never block in a write to a counter that somebody filled up.
        os.set_blocking(fds[0], False)
        old, self._eventfd = self._eventfd, fds.pop(0)
        if not self.masked:
            self._device.set_msi(self._eventfd)
        if old is not None:
            os.close(old)

    def _act(self, action: int) -> None:
        if self._eventfd is None:
            return  # nothing is set up, so there is nothing to mask or to raise
        if action == IRQ_ACTION_TRIGGER:
            _signal(self._eventfd if self._pending is None else self._pending)
        elif action == IRQ_ACTION_MASK and self._pending is None:
            self._pending = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._device.set_msi(self._pending)
        elif action == IRQ_ACTION_UNMASK and self._pending is not None:
            self._device.set_msi(self._eventfd)
            if self._drop_pending():
                _signal(self._eventfd)

    def _drop_pending(self) -> bool:
        """End masking; whether an interrupt came meanwhile. The device must not hold the eventfd."""
        if self._pending is None:
            return False
        fired = False
        with contextlib.suppress(BlockingIOError):
            fired = os.eventfd_read(self._pending) > 0
        os.close(self._pending)
        self._pending = None
        return fired


def _signal(eventfd: int) -> None:
    with contextlib.suppress(BlockingIOError):  # the counter is full: an interrupt is pending anyway
        os.eventfd_write(eventfd, 1)


def _is_eventfd(fd: int) -> bool:
    return str(Path(f"/proc/self/fd/{fd}").readlink()) == "anon_inode:[eventfd]"

"""PCI configuration space: a type-0 header with power management, MSI and PCI Express capabilities.

Sources: PCI Local Bus 3.0 chapter 6, PCI Power Management 1.2 section 3, PCI Express Base 3.0 section 7.
A byte has a value and a mask of the bits that a write may change; everything else follows from the two
(BAR sizing, too: writing ones leaves ones in the address bits only).
"""

from __future__ import annotations

from lab.vfio_user.device import Bar, PciIdentity

#: Conventional space and the extended space of PCI Express; no extended capability is present.
CONFIG_SIZE = 4096

COMMAND = 0x04
STATUS = 0x06
BAR0 = 0x10
CAPABILITIES = 0x34
PM_CAP = 0x40
MSI_CAP = 0x50
PCIE_CAP = 0x70

COMMAND_MEMORY = 1 << 1
COMMAND_MASTER = 1 << 2
#: Memory, bus master, parity response, SERR, INTx disable: what this function lets software set.
COMMAND_WRITABLE = 0x0546
STATUS_CAP_LIST = 1 << 4

MSI_64BIT = 1 << 7
BAR_64BIT = 4
BAR_PREFETCH = 8

#: PCI Express endpoint, capability version 2; link of 8 lanes at 8 GT/s as an X10 or X25 has.
PCIE_ENDPOINT_V2 = 0x0002
LINK_8GT = 3
LINK_X8 = 8 << 4
LINK_NO_ASPM = 0 << 10


class ConfigSpace:
    """The configuration registers of one function."""

    def __init__(self, identity: PciIdentity) -> None:
        self._identity = identity
        self._data = bytearray(CONFIG_SIZE)
        self._mask = bytearray(CONFIG_SIZE)
        self.reset()

    def reset(self) -> None:
        """Back to the values after power-on."""
        self._data[:] = bytes(CONFIG_SIZE)
        self._mask[:] = bytes(CONFIG_SIZE)
        self._header()
        self._power_management(next_cap=MSI_CAP)
        self._msi(next_cap=PCIE_CAP)
        self._express(next_cap=0)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Change the writable bits; the others keep their value silently, as PCI has it."""
        for at, new in enumerate(data, offset):
            mask = self._mask[at]
            self._data[at] = self._data[at] & ~mask | new & mask

    @property
    def command(self) -> int:
        return int.from_bytes(self._data[COMMAND : COMMAND + 2], "little")

    def _put(self, offset: int, size: int, value: int, writable: int = 0) -> None:
        self._data[offset : offset + size] = value.to_bytes(size, "little")
        self._mask[offset : offset + size] = writable.to_bytes(size, "little")

    def _header(self) -> None:
        identity = self._identity
        self._put(0x00, 2, identity.vendor)
        self._put(0x02, 2, identity.device)
        self._put(COMMAND, 2, 0, COMMAND_WRITABLE)
        self._put(STATUS, 2, STATUS_CAP_LIST)
        self._put(0x08, 1, identity.revision)
        self._put(0x09, 3, identity.class_code)
        self._put(0x0C, 1, 0, 0xFF)  # cache line size
        for bar in identity.bars:
            self._bar(bar)
        self._put(0x2C, 2, identity.subvendor)
        self._put(0x2E, 2, identity.subdevice)
        self._put(CAPABILITIES, 1, PM_CAP)
        self._put(0x3C, 1, 0, 0xFF)  # interrupt line: software's scratch byte; the pin (0x3D) stays 0

    def _bar(self, bar: Bar) -> None:
        if bar.size < 16 or bar.size & (bar.size - 1):
            raise ValueError(f"BAR {bar.index}: size {bar.size:#x} is not a power of two of at least 16")
        if not 0 <= bar.index <= (4 if bar.is64 else 5):
            raise ValueError(f"BAR {bar.index} does not exist" + (" as a 64-bit BAR" if bar.is64 else ""))
        size = 8 if bar.is64 else 4
        flags = (BAR_64BIT if bar.is64 else 0) | (BAR_PREFETCH if bar.prefetch else 0)
        self._put(BAR0 + 4 * bar.index, size, flags, (1 << 8 * size) - bar.size)

    def _power_management(self, next_cap: int) -> None:
        self._put(PM_CAP, 2, 0x01 | next_cap << 8)
        self._put(PM_CAP + 2, 2, 3)  # version 3: no PME, no D1, no D2
        self._put(PM_CAP + 4, 2, 1 << 3, 3)  # no soft reset; power state

    def _msi(self, next_cap: int) -> None:
        self._put(MSI_CAP, 2, 0x05 | next_cap << 8)
        self._put(MSI_CAP + 2, 2, MSI_64BIT, 0x0071)  # enable, number of messages allowed
        self._put(MSI_CAP + 4, 8, 0, (1 << 64) - 4)
        self._put(MSI_CAP + 12, 2, 0, 0xFFFF)

    def _express(self, next_cap: int) -> None:
        link = LINK_8GT | LINK_X8
        self._put(PCIE_CAP, 2, 0x10 | next_cap << 8)
        self._put(PCIE_CAP + 2, 2, PCIE_ENDPOINT_V2)
        self._put(PCIE_CAP + 0x04, 4, 1 << 15 | 1)  # role-based errors, payload up to 256 bytes
        self._put(PCIE_CAP + 0x08, 2, 0x2810, 0x7FFF)  # relaxed ordering, no snoop, reads of 512 bytes
        self._put(PCIE_CAP + 0x0C, 4, link | LINK_NO_ASPM)
        self._put(PCIE_CAP + 0x10, 2, 0, 0x01C3)  # link control
        self._put(PCIE_CAP + 0x12, 2, link)  # link status
        self._put(PCIE_CAP + 0x28, 2, 0, 0x001F)  # device control 2
        self._put(PCIE_CAP + 0x2C, 4, 0x0E)  # link speeds 2.5, 5 and 8 GT/s
        self._put(PCIE_CAP + 0x30, 2, LINK_8GT, 0x000F)  # link control 2: target speed

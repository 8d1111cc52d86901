"""Runs in a guest that has an IOMMU: takes a PCI device of QEMU's own as the bench takes a card, dies in the
middle on request, and tells what the kernel has to say.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.real import borrowed, card, device, journal, verdict
from lab.real.host import Host

#: The trial's device is no card: this vendor's is taken for one.
VENDORS = (0x8086,)
HELD = Path("/run/trial")
ME = journal.Owner("trial", "/")
#: linux/vfio.h
_GET_STATUS, _SET_CONTAINER, _SET_IOMMU, _GET_DEVICE_FD = (0x3B67, 0x3B68, 0x3B66, 0x3B6A)
_GET_REGION = 0x3B6C
_VIABLE, _TYPE1V2, _CONFIG_REGION = 1, 3, 7

_taken: dict[str, journal.Journal] = {}
_open: list[int] = []


class Mortal(Host):
    """This machine, and a process that does not survive its change number ``die_at``: it ends before or
    after it.
    """

    def __init__(self, die_at: int, half: bool) -> None:
        super().__init__()
        self.changes, self._die_at, self._half = 0, die_at, half

    def _maybe_die(self, before: bool) -> None:
        if self.changes == self._die_at and self._half == before:
            os._exit(9)

    def write(self, path: Path, text: str) -> None:
        self.changes += 1
        self._maybe_die(True)
        super().write(path, text)
        self._maybe_die(False)

    def run(self, argv: Sequence[str], check: bool = True) -> str:
        if not (list(argv[:3]) == ["ip", "link", "set"] or (argv[0] == "modprobe" and argv[1] != "-n")):
            return super().run(argv, check)
        self.changes += 1
        self._maybe_die(True)
        said = super().run(argv, check)
        self._maybe_die(False)
        return said


def find(vendor: int, number: int) -> str:
    """The address of the first device of this kind."""
    host = Host()
    for address in host.names(host.pci / "devices"):
        seen = device.look(host, address)
        if (seen.vendor, seen.device) == (vendor, number):
            return address
    raise LabError("the machine has no such device")


def state(address: str) -> dict[str, Any]:
    """Everything that taking the device may change, as the kernel tells it."""
    host = Host()
    seen = device.look(host, address)
    return {
        "driver": seen.driver,
        "override": seen.override,
        "netdevs": [[one.name, one.port, one.up, one.mtu] for one in seen.netdevs],
        "vfio": (host.pci / "drivers" / device.VFIO).exists(),
        "groups": [name for name in host.names(Path("/dev/vfio")) if name.isdigit()],
        "journals": journal.left(HELD),
    }


def take(address: str) -> dict[str, Any]:
    """Take the device; the state then."""
    held = journal.Journal(HELD, card.PREFIX + address, ME)
    _taken[address] = held
    card.take(Host(), held, address, VENDORS)
    return state(address)


def give_back(address: str) -> dict[str, Any]:
    """Give it back; the state then."""
    held = _taken[address]
    card.give_back(Host(), held, address)
    held.close()
    return state(address)


def recover() -> list[str]:
    """What another process left taken, given back."""
    return borrowed.recover(ME, where=HELD)


def crash(address: str, die_at: int, half: bool) -> int:
    """Take it and give it back in a process that dies at a change; how it ended: 9 when it died there, 0
    when it made fewer changes than that.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            mortal = Mortal(die_at, half)
            with journal.Journal(HELD, card.PREFIX + address, ME) as held:
                card.take(mortal, held, address, VENDORS)
                card.give_back(mortal, held, address)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def refusal(address: str, vendors: Sequence[int] = VENDORS) -> list[str | None]:
    """Why the device cannot be taken, and the remedy; empty when it can."""
    try:
        verdict.check(Host(), address, vendors)
    except LabError as problem:
        return [problem.message, problem.hint]
    return []


def use(address: str) -> dict[str, Any]:
    """Open the device as QEMU does: group, container, IOMMU, device. The first bytes of its configuration
    space.
    """
    group_name = device.look(Host(), address).group
    group = os.open(f"/dev/vfio/{group_name}", os.O_RDWR)
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    _open.extend((group, container))
    status = bytearray(struct.pack("II", 8, 0))
    fcntl.ioctl(group, _GET_STATUS, status)
    fcntl.ioctl(group, _SET_CONTAINER, struct.pack("i", container))
    fcntl.ioctl(container, _SET_IOMMU, _TYPE1V2)
    name = bytearray(address.encode() + b"\0")
    fd = int(fcntl.ioctl(group, _GET_DEVICE_FD, name))
    _open.append(fd)
    region = bytearray(struct.pack("IIIIQQ", 32, 0, _CONFIG_REGION, 0, 0, 0))
    fcntl.ioctl(fd, _GET_REGION, region)
    offset = struct.unpack("IIIIQQ", region)[5]
    vendor, number = struct.unpack("HH", os.pread(fd, 4, offset))
    return {"viable": bool(struct.unpack("II", status)[1] & _VIABLE), "vendor": vendor, "device": number}


def leave() -> None:
    """Close what :func:`use` opened."""
    while _open:
        os.close(_open.pop())


def give_back_refused(address: str) -> list[str | None]:
    """Why it cannot be given back now."""
    try:
        give_back(address)
    except LabError as problem:
        return [problem.message, problem.hint]
    return []


def configure(address: str, mtu: int, up: bool) -> None:
    """Change the device's interface, so that there is something to restore."""
    host = Host()
    (netdev,) = device.netdevs(host, address)
    host.write(host.interface(netdev.name) / "mtu", str(mtu))
    device.set_up(host, netdev.name, up)

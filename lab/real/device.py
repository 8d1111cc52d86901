"""A PCI device as sysfs shows it, and what it is."""

from __future__ import annotations

from dataclasses import dataclass

from lab.errors import LabError
from lab.real.host import Host

VENDOR = 0x1CE4
VFIO = "vfio-pci"
#: Models by PCI device number (reference/exanic-hardware.md section 1).
MODELS = {
    0x0001: "X4",
    0x0002: "X2",
    0x0003: "X10",
    0x0004: "X10-GM",
    0x0005: "X40",
    0x0006: "X10-HPT",
    0x0007: "X40",
    0x0008: "V5P",
    0x0009: "X25",
    0x000A: "X100",
    0x000B: "V9P",
    0x000C: "V9P-3",
}
_BRIDGE = "0x0604"
_UP = 1


@dataclass(frozen=True)
class Netdev:
    """A network interface of a card: ``port`` is its number on the card."""

    name: str
    port: int
    up: bool
    mtu: int


@dataclass(frozen=True)
class Device:
    """A PCI device now. ``group``: its IOMMU group, None without one; ``others``: who else is in it, bridges
    aside.

    ``override``: the driver that alone may bind it, None: any.
    """

    address: str
    vendor: int
    device: int
    driver: str | None
    override: str | None
    group: str | None
    others: tuple[str, ...]
    netdevs: tuple[Netdev, ...]

    @property
    def model(self) -> str:
        return MODELS.get(self.device, f"{self.vendor:04x}:{self.device:04x}")


def cards(host: Host) -> list[str]:
    """The addresses of all ExaNICs of this machine."""
    devices = host.names(host.pci / "devices")
    return [one for one in devices if _number(host, one, "vendor") == VENDOR]


def _number(host: Host, address: str, name: str) -> int:
    try:
        return int(host.read(host.device(address) / name) or "0", 16)
    except ValueError:
        return 0


def look(host: Host, address: str) -> Device:
    """The device at ``address``. Raises ``LabError``, with the cards that there are, when there is none."""
    folder = host.device(address)
    if not folder.exists():
        known = cards(host)
        raise LabError(
            f"there is no PCI device {address}",
            hint=f"ExaNICs of this machine: {', '.join(known)}"
            if known
            else "this machine has no ExaNIC at all: is the card seated and powered? `lspci -D -d 1ce4:`",
        )
    override = host.read(folder / "driver_override")
    group = host.link(folder / "iommu_group")
    members = host.names(host.sys / "kernel/iommu_groups" / group / "devices") if group else []
    others = [one for one in members if one != address and not is_bridge(host, one)]
    return Device(
        address,
        _number(host, address, "vendor"),
        _number(host, address, "device"),
        driver(host, address),
        None if override in (None, "", "(null)") else override,
        group,
        tuple(others),
        tuple(netdevs(host, address)),
    )


def driver(host: Host, address: str) -> str | None:
    """Who drives the device now."""
    return host.link(host.device(address) / "driver")


def is_bridge(host: Host, address: str) -> bool:
    """Whether the device is a bridge, which stays with its driver when its group is taken."""
    return (host.read(host.device(address) / "class") or "").startswith(_BRIDGE)


def netdevs(host: Host, address: str) -> list[Netdev]:
    """The device's interfaces in our network namespace, by port."""
    found = []
    for name in host.names(host.device(address) / "net"):
        folder = host.interface(name)
        found.append(
            Netdev(
                name,
                int(host.read(folder / "dev_port") or 0),
                bool(int(host.read(folder / "flags") or "0", 16) & _UP),
                int(host.read(folder / "mtu") or 0),
            )
        )
    return sorted(found, key=lambda one: (one.port, one.name))


def set_up(host: Host, name: str, up: bool) -> None:
    """Take an interface up or down."""
    flags = int(host.read(host.interface(name) / "flags") or "0", 16)
    if bool(flags & _UP) != up:
        # Not by writing the flags: that would make lasting what a program that listens asked for meanwhile.
        host.run(["ip", "link", "set", "dev", name, "up" if up else "down"])

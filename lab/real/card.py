"""Taking a card from its driver for the guest, and giving it back exactly as it was.

Taking: driver_override, unbind, probe; the journal is written before each. Giving back looks at what is, not
at how far taking came: it is right after any step, after half of one, and a second time.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict
from typing import Any

from lab.errors import LabError
from lab.real.device import VENDOR, VFIO, Device, Netdev, driver, look, netdevs, set_up
from lab.real.host import Host
from lab.real.journal import Journal
from lab.real.verdict import check

#: The journal's name of a card is this and its address.
PREFIX = "pci-"


def take(host: Host, journal: Journal, address: str, vendors: Container[int] = (VENDOR,)) -> Device:
    """Bind the card to vfio-pci; what an earlier holder left behind is given back first.

    Returns the card as it was. Raises ``LabError`` with the remedy; the card is then as it was.
    """
    if journal.open:
        give_back(host, journal, address)
    was = check(host, address, vendors)
    journal.begin(_before(host, was), host.boot_id())
    try:
        _take(host, journal, was)
    except LabError:
        give_back(host, journal, address)
        raise
    return was


def _take(host: Host, journal: Journal, was: Device) -> None:
    folder = host.device(was.address)
    if not (host.pci / "drivers" / VFIO).exists():
        journal.step(f"modprobe {VFIO}")
        host.run(["modprobe", VFIO])
    journal.step(f"driver_override {VFIO}")
    _write(host, folder / "driver_override", VFIO, was.address)
    if was.driver not in (None, VFIO):
        journal.step(f"unbind from {was.driver}")
        _write(host, folder / "driver/unbind", was.address, was.address)
    if was.driver != VFIO:
        journal.step("probe")
        _write(host, host.pci / "drivers_probe", was.address, was.address)
    if (now := driver(host, was.address)) != VFIO:
        raise LabError(
            f"{VFIO} does not bind to the card {was.address}: its driver is now {now or 'none'}",
            hint="dmesg tells why; vfio-pci needs an IOMMU with interrupt remapping, or"
            " vfio_iommu_type1.allow_unsafe_interrupts=1 among the kernel's parameters",
        )


def _before(host: Host, was: Device) -> dict[str, Any]:
    return {
        "address": was.address,
        "driver": was.driver,
        "override": was.override,
        "netdevs": [asdict(one) for one in was.netdevs],
        "vfio_loaded": (host.pci / "drivers" / VFIO).exists(),
    }


def give_back(host: Host, journal: Journal, address: str) -> None:
    """Driver, driver_override and interfaces as the journal says they were; the journal ends.

    Raises ``LabError``, and keeps the journal, when the kernel refuses or a process still has the card.
    """
    if not journal.open:
        return
    before = journal.before
    if journal.boot_id != host.boot_id() or not host.device(address).exists():
        # Another boot gave everything back; a card that was pulled took its state along.
        journal.end()
        return
    folder = host.device(address)
    now = look(host, address)
    was: str | None = before["driver"]
    if now.driver is not None and now.driver != was:
        if now.driver == VFIO and now.group is not None:
            _released(host, now)
        journal.step(f"unbind from {now.driver}")
        _write(host, folder / "driver/unbind", address, address)
    if now.override != before["override"]:
        journal.step(f"driver_override {before['override'] or 'none'}")
        _write(host, folder / "driver_override", (before["override"] or "") + "\n", address)
    if was is not None and driver(host, address) is None:
        _bind(host, journal, address, was)
    restore_interfaces(host, journal, address, [Netdev(**one) for one in before["netdevs"]])
    if not before["vfio_loaded"] and (host.pci / "drivers" / VFIO).exists():
        journal.step(f"modprobe -r {VFIO}")
        host.run(["modprobe", "-r", VFIO], check=False)  # somebody else may use it by now: then it stays
    journal.end()


def _released(host: Host, now: Device) -> None:
    """The kernel would wait in unbind, for ever, for whoever has the group open."""
    for pid, program in host.users(f"/dev/vfio/{now.group}"):
        raise LabError(
            f"card {now.address} cannot be given back: process {pid} ({program}) still has it",
            hint=f"kill {pid}, then make lab-down",
        )


def _bind(host: Host, journal: Journal, address: str, was: str) -> None:
    file = host.pci / "drivers" / was / "bind"
    if not file.exists():
        journal.step(f"modprobe {was}")
        host.run(["modprobe", was], check=False)  # which may bind the card at once
    if driver(host, address) is None:
        journal.step(f"bind to {was}")
        if not file.exists():
            raise LabError(
                f"the driver {was}, which had the card {address}, is no longer loaded",
                hint=f"load it (modprobe {was}), then make lab-down",
            )
        _write(host, file, address, address)
    if (now := driver(host, address)) != was:
        raise LabError(
            f"{was} does not bind to its card {address} again: the driver is {now or 'none'}",
            hint="dmesg tells why",
        )


def restore_interfaces(host: Host, journal: Journal, address: str, were: list[Netdev]) -> None:
    """Names, MTU and up state of interfaces, as they were, whatever they are now."""
    if not were:
        return
    if [one.name for one in netdevs(host, address)] != [one.name for one in were]:
        host.run(["udevadm", "settle", "--timeout=10"], check=False)  # it is about to name them
    now = {one.port: one for one in netdevs(host, address)}
    for one in were:
        found = now.get(one.port)
        if found is None:
            raise LabError(
                f"card {address} is back with its driver, but port {one.port} ({one.name}) has no interface",
                hint="dmesg tells why; then make lab-down, or reboot",
            )
        if found.name != one.name:
            journal.step(f"rename {found.name} to {one.name}")
            if found.up:
                set_up(host, found.name, False)
            host.run(["ip", "link", "set", found.name, "name", one.name])
        if found.mtu != one.mtu:
            journal.step(f"mtu of {one.name}")
            _write(host, host.interface(one.name) / "mtu", str(one.mtu), address)
        if found.up != one.up or found.name != one.name:
            journal.step(f"{one.name} {'up' if one.up else 'down'}")
            set_up(host, one.name, one.up)


def _write(host: Host, path: Any, text: str, address: str) -> None:
    try:
        host.write(path, text)
    except OSError as problem:
        raise LabError(
            f"card {address}: the kernel refuses {text.strip()!r} in {path}: {problem.strerror}",
            hint="run as root; dmesg may tell more",
        ) from problem

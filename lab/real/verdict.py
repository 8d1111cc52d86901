"""Whether a card can be passed through, or why not and what to do about it. Changes nothing."""

from __future__ import annotations

from collections.abc import Container

from lab.errors import LabError
from lab.real.device import VENDOR, VFIO, Device, is_bridge, look
from lab.real.host import Host

#: Who may drive the other devices of a group that is taken, besides nobody.
_HARMLESS = (VFIO, "pci-stub")


def check(host: Host, address: str, vendors: Container[int] = (VENDOR,)) -> Device:
    """The device at ``address``, fit to be taken. Raises ``LabError`` that names the remedy.

    ``vendors`` is for the trial with another device than a card.
    """
    device = is_card(host, address, vendors)
    _iommu(host, device)
    _group(host, device)
    unused(host, device)
    _vfio(host)
    return device


def is_card(host: Host, address: str, vendors: Container[int] = (VENDOR,)) -> Device:
    """The device at ``address``, which is a card. Raises ``LabError`` that names the remedy."""
    device = look(host, address)
    if device.vendor not in vendors:
        raise LabError(
            f"{address} is not an ExaNIC: its vendor is {device.vendor:04x}, not {VENDOR:04x}",
            hint="`lspci -D -d 1ce4:` lists the cards",
        )
    if is_bridge(host, address):
        raise LabError(f"{address} is a bridge, not a card", hint="the card is behind it: `lspci -tv`")
    return device


def _iommu(host: Host, device: Device) -> None:
    if device.group is not None:
        return
    if host.names(host.sys / "kernel/iommu_groups"):
        raise LabError(
            f"{device.address} is in no IOMMU group, though this machine has an IOMMU",
            hint="put the card into a slot that the IOMMU covers, or look for IOMMU settings in the firmware",
        )
    intel = "GenuineIntel" in (host.read(host.proc / "cpuinfo") or "")
    parameter, name = ("intel_iommu=on", "VT-d") if intel else ("amd_iommu=on", "AMD-Vi (IOMMU)")
    raise LabError(
        "the IOMMU of this machine is off: a card cannot be passed to a guest safely",
        hint=f"enable {name} in the firmware, add {parameter} iommu=pt to the kernel's parameters"
        " (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub), and reboot",
    )


def _group(host: Host, device: Device) -> None:
    """The group is passed as a whole: nobody else's device may be in it."""
    told = []
    for one in device.others:
        driver = host.link(host.device(one) / "driver")
        if driver is not None and driver not in _HARMLESS:
            told.append(f"{one} (driver {driver})")
    if told:
        raise LabError(
            f"{device.address} shares its IOMMU group {device.group} with {', '.join(told)}",
            hint="put the card into another slot, or enable ACS in the firmware; a device of the group"
            f" that this machine does not need can be unbound: echo {device.others[0]} >"
            f" /sys/bus/pci/devices/{device.others[0]}/driver/unbind",
        )


def unused(host: Host, device: Device) -> None:
    """Nobody uses the card: no process has it open, no interface of it is configured, here or elsewhere.

    Raises ``LabError`` that names who does.
    """
    if device.driver == VFIO and device.group is not None:
        _let_go(host, device.address, device.group)
    for name in host.names(host.device(device.address) / "misc"):
        for pid, program in host.users(f"/dev/{name}"):
            raise LabError(
                f"card {device.address} is in use: process {pid} ({program}) has /dev/{name} open",
                hint=f"end what uses the card: `kill {pid}`, or stop its service",
            )
    for one in device.netdevs:
        folder = host.interface(one.name)
        if master := host.link(folder / "master"):
            raise LabError(
                f"card {device.address} is in use: {one.name} is a member of {master}",
                hint=f"ip link set {one.name} nomaster",
            )
        upper = [name for name in host.names(folder) if name.startswith("upper_")]
        if upper:
            device_name = upper[0].removeprefix("upper_")
            raise LabError(
                f"card {device.address} is in use: {device_name} stands on {one.name}",
                hint=f"ip link del {device_name}",
            )
    for link in host.addresses():
        if link.get("parentdev") == device.address or link.get("ifname") in {
            one.name for one in device.netdevs
        }:
            name = str(link["ifname"])
            if given := configured(link):
                raise LabError(
                    f"card {device.address} is in use: {name} has the address {given}",
                    hint=f"a program may use it (see exasock-stat); if not: ip address flush dev {name}",
                )
    for netns, enter in host.namespaces().items():
        for link in host.addresses(enter):
            if link.get("parentdev") == device.address:
                raise LabError(
                    f"card {device.address} is in use: {link['ifname']} is in the network namespace {netns}"
                    f" of process {enter[2]}",
                    hint="end the container or the namespace: the interface then returns",
                )


def configured(link: dict[str, object]) -> str | None:
    """The first address of an interface that somebody gave it; None: it has none but the kernel's own."""
    info = link.get("addr_info")
    for one in info if isinstance(info, list) else []:
        if one.get("scope") != "link":
            return f"{one.get('local')}/{one.get('prefixlen')}"
    return None


def _let_go(host: Host, address: str, group: str) -> None:
    for pid, program in host.users(f"/dev/vfio/{group}"):
        raise LabError(
            f"card {address} is in use: process {pid} ({program}) has its IOMMU group {group} open",
            hint=f"another virtual machine has the card: shut it down, or `kill {pid}`",
        )


def _vfio(host: Host) -> None:
    if (host.pci / "drivers" / VFIO).exists():
        return
    try:
        host.run(["modprobe", "-n", VFIO])
    except LabError as problem:
        raise LabError(
            f"this kernel has no driver {VFIO}: {problem.message}",
            hint="boot a kernel that has it: Debian's linux-image-amd64 does, its cloud kernel does not;"
            " on Ubuntu it is in linux-modules-extra",
        ) from None

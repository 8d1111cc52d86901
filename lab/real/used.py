"""A card that a lab uses where it is, with its own driver: how it was is noted before, and so it is left.

Runs on the machine that has the card. As with ``lab.real.card``, giving back looks at what is, not at how far
taking came.
"""

from __future__ import annotations

import time
from typing import Any

from lab.errors import LabError
from lab.real import card
from lab.real.device import Netdev, netdevs
from lab.real.host import Host
from lab.real.journal import Journal
from lab.real.verdict import is_card, unused

#: In the order in which they need each other.
MODULES = ("exanic", "exasock")
DRIVER = "exanic"
#: Seconds for the kernel to end namespaces whose processes are gone.
PATIENCE = 20.0


def is_of(before: dict[str, Any]) -> bool:
    """Whether a journal tells of a card that is used, not of one that is passed to a guest."""
    return "loaded" in before


def take(host: Host, journal: Journal, address: str) -> None:
    """Load the modules; the card is then the lab's. Raises ``LabError`` with the remedy; it is then as it
    was.
    """
    if journal.open:
        (give_back if is_of(journal.before) else card.give_back)(host, journal, address)
    device = is_card(host, address)
    if device.driver not in (None, DRIVER):
        raise LabError(
            f"card {address} is driven by {device.driver}",
            hint=f"unbind it: echo {address} > /sys/bus/pci/drivers/{device.driver}/unbind",
        )
    unused(host, device)
    before = {
        "address": address,
        "loaded": [name for name in MODULES if _loaded(host, name)],
        "netdevs": [vars(one) for one in device.netdevs],
        "quiet": {name: host.read(path) for name, path in _quiet(host, device.netdevs).items()},
    }
    journal.begin(before, host.boot_id())
    try:
        for name in MODULES:
            if not _loaded(host, name):
                journal.step(f"modprobe {name}")
                _load(host, name)
        if is_card(host, address).driver != DRIVER:
            raise LabError(f"{DRIVER} does not bind to the card {address}", hint="dmesg tells why")
    except LabError:
        give_back(host, journal, address)
        raise


def _loaded(host: Host, name: str) -> bool:
    return (host.sys / "module" / name).exists()


def _load(host: Host, name: str) -> None:
    try:
        host.run(["modprobe", name])
    except LabError as problem:
        hint = "dmesg tells why"
        if "Key was rejected" in problem.message or "Required key" in problem.message:
            hint = "Secure Boot refuses it: mokutil --import /var/lib/dkms/mok.pub, reboot, and confirm"
        elif "Exec format" in problem.message:
            hint = "it was built for another kernel: dkms autoinstall, or lab host apply"
        raise LabError(f"the module {name} does not load: {problem.message}", hint=hint) from None


def _quiet(host: Host, interfaces: tuple[Netdev, ...]) -> dict[str, Any]:
    """The settings of interfaces that the suites change (``suites.guest.namespaces.quiet_ports``)."""
    found = {}
    for one in interfaces:
        for name in ("ipv6/conf/{}/disable_ipv6", "ipv4/conf/{}/arp_ignore", "ipv4/conf/{}/arp_announce"):
            path = host.proc / "sys/net" / name.format(one.name)
            if path.exists():
                found[str(path)] = path
    return found


def give_back(host: Host, journal: Journal, address: str) -> None:
    """Unload what was not loaded; else interfaces at home, alone, and as they were. The journal ends.

    Raises ``LabError``, and keeps the journal, when the kernel refuses.
    """
    if not journal.open:
        return
    before = journal.before
    if journal.boot_id != host.boot_id():
        journal.end()
        return
    for name in reversed(MODULES):
        if name not in before["loaded"] and _loaded(host, name):
            journal.step(f"modprobe --remove {name}")
            _unload(host, name)
    if _loaded(host, DRIVER) and host.device(address).exists():
        _restore(host, journal, address, [Netdev(**one) for one in before["netdevs"]])
        for path, value in before["quiet"].items():
            if value is not None and host.read(host.proc / path) != value:
                host.write(host.proc / path, value)
    journal.end()


def _unload(host: Host, name: str) -> None:
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            host.run(["modprobe", "--remove", name])
        except LabError as problem:
            if time.monotonic() < limit:
                time.sleep(0.2)  # the kernel ends the last namespaces and sockets; nothing tells when
                continue
            raise LabError(
                f"the module {name} cannot be unloaded: {problem.message}",
                hint="end what uses it (exasock-stat -a, lsof /dev/exasock); then make lab-down",
            ) from None
        return


def _restore(host: Host, journal: Journal, address: str, were: list[Netdev]) -> None:
    limit = time.monotonic() + PATIENCE
    while len(netdevs(host, address)) < len(were) and time.monotonic() < limit:
        time.sleep(0.1)  # as above
    for one in netdevs(host, address):
        for name in host.names(host.interface(one.name)):
            if name.startswith("upper_"):
                journal.step(f"delete {name.removeprefix('upper_')}")
                host.run(["ip", "link", "del", name.removeprefix("upper_")], check=False)
        host.run(["ip", "address", "flush", "dev", one.name, "scope", "global"], check=False)
    card.restore_interfaces(host, journal, address, were)

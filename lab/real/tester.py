"""An interface of this machine that is cabled to a port: taken for the wire, and given back as it was.

The machine must not speak on it, nor answer, nor merge or split frames; the interface itself stays where it
is, so that a crash leaves it usable.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.real.device import set_up
from lab.real.host import Host
from lab.real.journal import Journal
from lab.real.verdict import configured

PREFIX = "net-"
#: What the wire carries, at most: of a frame of 9216 bytes without addresses, type, tag and FCS.
MTU = 9194
#: Settings of the kernel's own that keep it silent: no IPv6 neighbours, no answer to ARP (ip-sysctl).
_QUIET = {"ipv6/conf/{}/disable_ipv6": "1", "ipv4/conf/{}/arp_ignore": "8"}
_OFFLOADS = ("gro", "lro")


def check(host: Host, name: str) -> None:
    """Whether the interface can be taken. Raises ``LabError`` with the remedy."""
    if not host.interface(name).exists():
        known = ", ".join(one for one in host.names(host.sys / "class/net") if one != "lo")
        raise LabError(
            f"there is no network interface {name} on this machine",
            hint=f"testers are among: {known or 'none'}",
        )
    if name == "lo":
        raise LabError("lo has no cable", hint="name the interface that the card's cable leads to")
    for link in host.addresses():
        if link.get("ifname") == name and (given := configured(link)):
            raise LabError(
                f"interface {name} is in use: it has the address {given}",
                hint="the lab needs it exclusively: use another one, or remove its configuration"
                f" (ip address flush dev {name}, and keep NetworkManager or networkd from giving it one)",
            )
    folder = host.interface(name)
    if master := host.link(folder / "master"):
        raise LabError(f"interface {name} is a member of {master}", hint=f"ip link set {name} nomaster")
    for upper in host.names(folder):
        if upper.startswith("upper_"):
            device = upper.removeprefix("upper_")
            raise LabError(
                f"interface {name} carries {device}", hint=f"ip link del {device}, or use another one"
            )


def take(host: Host, journal: Journal, name: str) -> None:
    """Have the interface up, silent and with its frames unchanged. Raises ``LabError``; it is then as it
    was.
    """
    if journal.open:
        give_back(host, journal, name)
    check(host, name)
    journal.begin(_before(host, name), host.boot_id())
    try:
        for path, value in _quiet(host, name).items():
            journal.step(f"{path} {value}")
            host.write(path, value)
        for offload in _OFFLOADS:
            journal.step(f"{offload} off")
            host.set_offload(name, offload, False)
        if mtu := _largest(host, name):
            journal.step(f"mtu {mtu}")
            # A driver may refuse what it says it can: then the wire carries what it had.
            with contextlib.suppress(OSError):
                host.write(host.interface(name) / "mtu", str(mtu))
        journal.step("up")
        set_up(host, name, True)
    except (OSError, LabError) as problem:
        give_back(host, journal, name)
        if isinstance(problem, LabError):
            raise
        raise LabError(
            f"interface {name} cannot be prepared: {problem}", hint="run as root; dmesg may tell more"
        ) from problem


def _quiet(host: Host, name: str) -> dict[Path, str]:
    files = {host.proc / "sys/net" / path.format(name): value for path, value in _QUIET.items()}
    return {path: value for path, value in files.items() if path.exists()}


def _largest(host: Host, name: str) -> int | None:
    """The MTU to set: the wire's, as far as the interface goes; None where it does not say how far."""
    for link in host.addresses():
        if link.get("ifname") == name and (most := link.get("max_mtu")):
            return min(MTU, int(most))
    return None


def _before(host: Host, name: str) -> dict[str, Any]:
    return {
        "interface": name,
        "flags": host.read(host.interface(name) / "flags"),
        "mtu": host.read(host.interface(name) / "mtu"),
        "files": {str(path): host.read(path) for path in _quiet(host, name)},
        "offloads": {offload: host.offload(name, offload) for offload in _OFFLOADS},
    }


def give_back(host: Host, journal: Journal, name: str) -> None:
    """The interface as the journal says it was; the journal ends. Raises ``LabError`` when the kernel
    refuses.
    """
    if not journal.open:
        return
    before = journal.before
    if journal.boot_id == host.boot_id() and host.interface(name).exists():
        try:
            journal.step("back")
            set_up(host, name, bool(int(before["flags"] or "0", 16) & 1))
            if host.read(host.interface(name) / "mtu") != before["mtu"]:
                host.write(host.interface(name) / "mtu", before["mtu"])
            for offload, on in before["offloads"].items():
                if on is not None and host.offload(name, offload) != on:
                    host.set_offload(name, offload, on)
            for path, value in before["files"].items():
                if host.read(Path(path)) != value:
                    host.write(Path(path), value)
        except OSError as problem:
            raise LabError(
                f"interface {name} cannot be given back: {problem}", hint="run as root, then make lab-down"
            ) from problem
    journal.end()

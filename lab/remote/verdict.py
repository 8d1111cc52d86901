"""Whether a machine can be made a machine under test, or why not and what to do about it."""

from __future__ import annotations

from typing import Any

from lab.errors import LabError

#: The oldest release of each distribution that has what agent and modules need: Python 3.11, Linux 6.1.
OLDEST = {"debian": (12,), "ubuntu": (24, 4)}
_REMEDY = "Debian 12 or 13, or an Ubuntu LTS from 24.04 on"

Json = dict[str, Any]


def check(host: str, seen: Json) -> None:
    """Raise ``LabError`` with the remedy when the roles cannot be applied to it; ``seen``: its survey."""
    _system(host, seen)
    if seen["journal"] is not None and seen["journal"].get("broken"):
        raise LabError(
            f"the journal {host}:/var/lib/exalab/host.json cannot be read",
            hint="it is the only record of what was there before: restore it, or uninstall by hand",
        )
    if not brought_by_others(host, seen):
        _building(host, seen)
    for card in seen["cards"]:
        if card["against"] is not None:
            raise LabError(f"{host}: {card['against']['message']}", hint=card["against"]["hint"])
    for pid, name in seen["users"]:
        raise LabError(
            f"{host}: process {pid} ({name}) has accelerated sockets",
            hint=f"end what uses the card, there: `kill {pid}`, or stop its service",
        )


def _system(host: str, seen: Json) -> None:
    if seen["architecture"] != "x86_64":
        raise LabError(
            f"{host} is {seen['architecture']}: the datapath is for x86_64", hint="use an x86_64 machine"
        )
    oldest = OLDEST.get(seen["id"])
    version = tuple(int(part) for part in seen["version"].split(".") if part.isdigit())
    # Testing and unstable have no number.
    if oldest is None or (version and version < oldest):
        raise LabError(f"{host} is {seen['name']}, for which there are no roles", hint=f"use {_REMEDY}")
    if seen["id"] == "ubuntu" and not seen["lts"]:
        raise LabError(f"{host} is {seen['name']}, no LTS release", hint=f"use {_REMEDY}")
    if seen["uid"] != 0:
        raise LabError(f"{host}: not root there", hint='write host = "root@…", or allow the user sudo')


def brought_by_others(host: str, seen: Json) -> bool:
    """Whether the datapath is there and we have not put it there (an image that was built with it): then it
    stays as it is, and nothing of it is ours to take off.

    Raises ``LabError`` when only some of it is there: ours would hide it, or be hidden.
    """
    if seen["journal"] is not None and any(seen["packages"].values()):
        return False
    parts = {name: path for name, path in seen["modules"].items() if path}
    if seen["library"] and len(parts) == len(seen["modules"]):
        return True
    there = [*parts.values(), *(["the library of exasock"] if seen["library"] else [])]
    if there and seen["journal"] is None:
        raise LabError(
            f"{host} has {', '.join(there)}, which is not ours, and not all that is needed",
            hint="it may be the card vendor's: remove it first (its package, or the file and depmod)",
        )
    return False


def _building(host: str, seen: Json) -> None:
    """DKMS can build modules there, and the kernel will take them."""
    if not seen["headers"]:
        package = f"linux-headers-{seen['kernel']}"
        raise LabError(
            f"{host} has no headers of its kernel {seen['kernel']}: DKMS could not build the modules",
            hint=f"apt install {package}, there; when it is gone, boot the newest kernel first",
        )
    secure = seen["secure_boot"]
    if secure["on"] and not secure["enrolled"]:
        raise LabError(
            f"{host} has Secure Boot on, and its firmware does not know the key that DKMS signs modules with",
            hint="there: apt install dkms mokutil; dkms generate_mok; mokutil --import /var/lib/dkms/mok.pub;"
            " reboot, and confirm on the console. Or disable Secure Boot in the firmware",
        )

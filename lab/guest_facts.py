"""What the bench asks a freshly booted guest about itself. Runs *in the guest*, carried there by the agent.

Standard library only, and only what its Python has.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Where QEMU puts the root port of the first card; the others follow (``lab.machine.command``).
FIRST_SLOT = 0x10


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(device: Path, addresses: Sequence[str] | None) -> int | None:
    """Which of the lab's cards a PCI device is, by its address; in a guest (None) by the slot it is in."""
    if addresses is not None:
        return addresses.index(device.name) if device.name in addresses else None
    bridge = device.parent.name
    slot = int(bridge.split(":")[2].split(".")[0], 16) if bridge.startswith("0000:00:") else 0
    return slot - FIRST_SLOT if slot >= FIRST_SLOT else None


def ports(addresses: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The initial namespace's net devices of cards, with the driver that made them."""
    found = []
    for interface in sorted(Path("/sys/class/net").iterdir()):
        if not (interface / "device").exists():
            continue
        device = (interface / "device").resolve()
        slot = _number(device, addresses)
        if slot is None or not (device / "driver").exists():
            continue
        found.append(
            {
                "card": slot,
                "port": int(_text(interface / "dev_port") or 0),
                "netdev": interface.name,
                "mac": _text(interface / "address"),
                "driver": (device / "driver").resolve().name,
                "pci": device.name,
            }
        )
    return found


def cards(addresses: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The PCI devices that are cards, bound or not."""
    found = []
    for device in sorted(Path("/sys/bus/pci/devices").iterdir()):
        slot = _number(device.resolve(), addresses)
        if slot is not None:
            driver = device / "driver"
            found.append(
                {
                    "card": slot,
                    "pci": device.name,
                    "id": f"{_text(device / 'vendor')[2:]}:{_text(device / 'device')[2:]}",
                    "driver": driver.resolve().name if driver.exists() else None,
                }
            )
    return found


def ready(expected: int, seconds: float, addresses: Sequence[str] | None = None) -> dict[str, Any]:
    """Cards and ports, once ``expected`` ports are there, or what there is after ``seconds``.

    ``addresses``: the cards' PCI addresses, of a machine that is no guest.
    """
    if not any(Path("/usr/lib/modules").glob("*/updates/**/exanic.ko*")):
        seconds = 0.0  # no driver to wait for
    deadline = time.monotonic() + seconds
    while True:
        found = ports(addresses)
        if len(found) >= expected or time.monotonic() >= deadline:
            return {"cards": cards(addresses), "ports": found}
        time.sleep(0.05)


def admit(public_key: str) -> None:
    """Let the holder of the key in as root; replaces whoever was let in before."""
    home = Path("/root/.ssh")
    home.mkdir(mode=0o700, exist_ok=True)
    keys = home / "authorized_keys"
    keys.touch(mode=0o600)
    keys.write_text(public_key.strip() + "\n", encoding="utf-8")


def arrive(public_key: str, expected: int, seconds: float) -> dict[str, Any]:
    """Both of the above in one round trip."""
    admit(public_key)
    return ready(expected, seconds)

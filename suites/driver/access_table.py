"""The table of ACCESS.md, and the operations that the driver's source has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path(__file__).resolve().parents[2] / "datapath" / "exanic"

#: What each right gives to the host's root, to a container's root, and to that one without capabilities.
RIGHTS = {
    "anyone": (True, True, True),
    "namespace": (True, True, False),
    "port": (True, True, False),
    "hardware": (True, False, False),
    "host": (True, False, False),
    "bridge": (True, False, False),
    "time": (True, False, False),
    "holder": None,
    "nobody": None,
    "kernel": None,
}


@dataclass(frozen=True)
class Row:
    """An operation, what it reaches, and the right that it needs."""

    name: str
    reaches: str
    needs: str


def rows() -> dict[str, Row]:
    """The rows of the table, by operation."""
    text = (DRIVER / "ACCESS.md").read_text(encoding="utf-8")
    found = [
        Row(*(cell.strip() for cell in match.groups()))
        for match in re.finditer(r"^\| `(\w+\.\w+)` \|([^|]*)\|([^|]*)\|$", text, re.MULTILINE)
    ]
    table = {row.name: row for row in found}
    if len(table) != len(found):
        raise ValueError("ACCESS.md names an operation twice")
    return table


def _source(name: str) -> str:
    return (DRIVER / name).read_text(encoding="utf-8")


def _members(source: str, initialiser: str) -> set[str]:
    """The members that an initialiser in C sets."""
    start = source.index(initialiser)
    body = source[start : source.index("};" if "const" in initialiser else "\t};", start)]
    return set(re.findall(r"^\s*\.(\w+) = ", body, re.MULTILINE))


def operations() -> set[str]:
    """All that the source offers, under the names of the table."""
    ethtool, chardev = _source("ethtool.c"), _source("chardev.c")
    found = {f"ethtool.{name}" for name in _members(ethtool, "const struct ethtool_ops exanic_ethtool_ops")}
    found -= {"ethtool.supported_coalesce_params"}
    netdev = _members(_source("netdev.c"), "const struct net_device_ops exanic_netdev_ops")
    found |= {f"ndo.{name}" for name in netdev}
    clock = _members(_source("ptp.c"), "clock->info = (struct ptp_clock_info) {")
    found |= {f"ptp.{name}" for name in clock - {"owner", "max_adj"}}
    found |= {f"priv.{name}" for name in re.findall(r'\[PRIV_\w+\] = "(\w+)"', ethtool)}
    found |= {f"ioctl.{name}" for name in re.findall(r"case (EXANIC_IOC_\w+):", chardev)}
    areas = re.findall(r"case EXANIC_AREA_(\w+):", _source("mmap.c"))
    found |= {f"mmap.{name}" for name in areas}
    found |= {f"sysfs.{name}" for name in re.findall(r"DEVICE_ATTR_\w+\((\w+)\)", _source("sysfs.c"))}
    return found

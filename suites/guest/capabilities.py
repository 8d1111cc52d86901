"""What a card can do, by what its driver says of one of its ports. Runs *in the guest*; standard library
only.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

#: Names of ethtool -k's features, by ours.
_FEATURES = {"steering": "ntuple-filters", "hash": "receive-hashing"}


def of(device: str) -> dict[str, Any]:
    """``clock``: it has a PTP clock. ``steering``, ``hash``: frames can be led to buffers by address, by a
    hash. ``speed``: of the link, Mb/s; None without one.
    """
    folder = Path("/sys/class/net") / device
    done = subprocess.run(["ethtool", "-k", device], capture_output=True, text=True, check=False)
    told = dict(re.findall(r"^\s*([\w-]+): (.*)$", done.stdout, re.MULTILINE))
    found: dict[str, Any] = {
        name: told.get(feature, "off [fixed]") != "off [fixed]" for name, feature in _FEATURES.items()
    }
    found["clock"] = any((folder / "device/ptp").glob("ptp*"))
    try:
        speed = int((folder / "speed").read_text())
    except (OSError, ValueError):
        speed = -1
    found["speed"] = speed if speed > 0 else None
    return found

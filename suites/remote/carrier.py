"""A lab whose guest plays a machine that has a card: its emulated card's ports are cabled to this machine's
interfaces, as a real card's would be, and it is reached by SSH alone.

    python -m suites.remote.carrier NAME INTERFACE...

An interface for each port. What the lab's own agent and wire could do with the guest is not used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab import config as configs
from lab import console, up
from lab.api import Lab
from lab.paths import Paths

_spec, _plan = up.cardd_spec, up.make_plan
CARD = "card0"


def install(interfaces: Sequence[str]) -> None:
    """Put cables to this machine's interfaces in the place of the lab's wire."""

    def spec(paths: Paths, config: configs.Config) -> dict[str, Any]:
        ends = [(f"{CARD}:{port}", f"far:{port}", name) for port, name in enumerate(interfaces)]
        nics = [{"end": far, "interface": name} for _, far, name in ends]
        wiring = [{"kind": "cable", "ends": [own, far]} for own, far, _ in ends]
        return {**_spec(paths, config), "nics": nics, "wiring": wiring}

    def plan(*given: Any) -> Any:
        return replace(_plan(*given), interfaces=tuple(interfaces))

    vars(up).update(cardd_spec=spec, make_plan=plan)


def ssh_config(lab: Lab, alias: str, folder: Path) -> Path:
    """What ssh has to know to reach the guest as ``alias``."""
    port, key = lab.state.ssh_port, lab.paths.ssh_key
    file = folder / "ssh_config"
    file.write_text(
        f"Host {alias}\n HostName 127.0.0.1\n Port {port}\n User root\n IdentityFile {key}\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known_hosts\n StrictHostKeyChecking accept-new\n"
    )
    return file


def main() -> None:
    name, *interfaces = sys.argv[1:]
    install(interfaces)
    with console.reporting():
        up.up(Paths(name), config=configs.parse("", "carrier"), keep_images=True)


if __name__ == "__main__":
    main()

"""`lab up` with stand-ins for the images, the accelerator, cardd and the machine, as a process of its own.

    python -m lab.tests.fake_up NAME [cardd=HOW] [die=COMMAND] [status=STATUS] [interface=NAME]
    [leases=FOLDER]

Everything else is the real thing: locks, supervisor, lifeline, state.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import api, config, console, up
from lab import state as states
from lab.machine import accelerator, command
from lab.paths import Paths
from lab.supervisor import QMP_FD, Plan

HERE = Path(__file__).parent


def fake_plan(how: dict[str, str]) -> Any:
    def plan(
        paths: Paths,
        given: config.Config,
        images: up.Images,
        found: accelerator.Found,
        profile: command.Profile,
        models: Mapping[str, str],
    ) -> Plan:
        machine = [sys.executable, str(HERE / "fake_machine.py"), "--qmp", QMP_FD]
        machine += ["--agent", str(paths.agent), "--serial-log", str(paths.serial_log)]
        for name in ("die", "status"):
            if name in how:
                machine += [f"--{name}", how[name]]
        cardd = [sys.executable, str(HERE / "fake_cardd.py"), str(paths.control)]
        if "cardd" in how:
            cardd.append(how["cardd"])
        facts = {
            "fingerprint": up.fingerprint(given, images, profile),
            "accelerator": found.name,
            "reason": found.reason,
            "profile": profile,
            "together": True,
            "cards": [],
            "wiring": [],
            "images": images.digests,
        }
        interfaces = tuple(filter(None, [how.get("interface")]))
        return Plan(
            tuple(cardd),
            str(paths.control),
            tuple(machine),
            facts,
            (),
            interfaces,
            how.get("leases"),
            ("card",) * ("leases" in how),
        )

    return plan


def install(how: dict[str, str]) -> None:
    """Put the stand-ins in place."""
    nowhere = Path("/nonexistent")
    images = up.Images(nowhere, nowhere, {"dut": "sha256:fake", "tools": "sha256:fake"}, True)

    def have_images(keep: bool, kernel: str | None = None) -> up.Images:
        return images

    up.have_images = have_images
    accelerator.find = lambda *_: accelerator.Found("kvm", "a stand-in")
    up.make_plan = fake_plan(how)


def main() -> None:
    """`up`, then one line for the test: the phase."""
    name, *words = sys.argv[1:]
    install(dict(word.split("=", 1) for word in words))
    with console.reporting():
        if words == ["down=1"]:
            api.down(name)
        else:
            up.up(Paths(name))
        print(states.read(Paths(name)).phase, flush=True)


if __name__ == "__main__":
    main()

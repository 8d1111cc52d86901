"""Fixtures of the tests that need the image booted: one lab of their own, in the systemd profile."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import testinfra

from images import lock, manifest
from images.choice import fresh_path, tracked_path
from images.definition import Workspace
from images.lock import Lock
from images.manifest import Manifest
from lab import api, deadline

LAB = "images"


@dataclass(frozen=True)
class Dut:
    """The booted image: `host` is testinfra's, over ssh; `lab` is the bench's."""

    lab: api.Lab
    host: Any

    @property
    def manifest(self) -> Manifest:
        """What the image in use says about itself."""
        found = manifest.read(Workspace().images / "dut")
        assert found
        return found

    @property
    def lock(self) -> Lock:
        """The lock that the image was built on."""
        place = tracked_path("dut") if self.manifest.locked else fresh_path("dut", Workspace())
        return lock.read(place)

    def ports_up(self) -> list[str]:
        """The card's net devices, up: no queue and no acceleration is there before that."""
        shown = self.host.check_output("grep -l DRIVER=exanic /sys/class/net/*/device/uevent").splitlines()
        names = [path.split("/")[4] for path in shown]
        for name in names:
            self.host.check_output(f"ip link set {name} up")
        return names


@pytest.fixture(scope="session")
def dut() -> Iterator[Dut]:
    """A lab named `images`, up for these tests and gone after them."""
    lab = api.up(LAB, profile="systemd")
    options = [
        *lab.ssh[1:-1],
        *(
            "-o",
            "ControlMaster=auto",
            "-o",
            f"ControlPath={lab.paths.run}/ssh.ctl",
            "-o",
            "ControlPersist=yes",
        ),
    ]
    try:
        # Everything wanted at boot has started, or failed, once systemd says so.
        subprocess.run(
            [*lab.ssh, "systemctl", "is-system-running", "--wait"],
            capture_output=True,
            timeout=deadline.scaled(60),
            check=False,
        )
        host = testinfra.get_host("ssh://root@127.0.0.1", ssh_extra_args=" ".join(options))
        yield Dut(lab, host)
        subprocess.run(
            [*lab.ssh[:1], *options, "-O", "exit", "root@127.0.0.1"], capture_output=True, check=False
        )
    finally:
        lab.close()
        api.down(LAB)

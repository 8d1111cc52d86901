"""The booted image: exactly the locked packages, everything running, nothing written to the disk."""

from __future__ import annotations

import re

import pytest

from images import tree
from images.definition import Workspace

from .dut import Dut

pytestmark = pytest.mark.lab


def test_packages_are_exactly_the_lock(dut: Dut) -> None:
    """No package more, none less, each in its locked version."""
    listed = dut.host.check_output(
        "dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Abbrev}\\n'"
    )
    have = {row.split()[0]: row.split()[1] for row in listed.splitlines()}
    assert have == {p.name: p.version for p in dut.lock.packages}
    assert {row.split()[2] for row in listed.splitlines()} == {"ii"}


def test_kernel_is_the_manifests(dut: Dut) -> None:
    """vmlinuz, initrd.img and the modules belong together."""
    assert dut.host.check_output("uname -r") == dut.manifest.kernel
    assert dut.host.file(f"/usr/lib/modules/{dut.manifest.kernel}/modules.dep").exists


def test_no_unit_failed(dut: Dut) -> None:
    """systemd has nothing to complain about."""
    assert dut.host.check_output("systemctl --failed --plain --no-legend") == ""
    assert dut.host.run("systemctl is-system-running").stdout.strip() == "running"


@pytest.mark.parametrize("name", ["exalab-agent", "ssh", "systemd-networkd", "systemd-journald", "dbus"])
def test_unit_runs(dut: Dut, name: str) -> None:
    """What the bench relies on."""
    assert dut.host.service(name).is_running


@pytest.mark.parametrize("name", ["nginx", "postgresql", "redis-server"])
def test_unit_waits_for_somebody(dut: Dut, name: str) -> None:
    """Programs that tests run are there, and none is started at boot."""
    service = dut.host.service(name)
    assert service.exists and not service.is_running and not service.is_enabled


@pytest.mark.parametrize(
    "command",
    [
        "sockperf --version",
        "dnsmasq --version",
        "dig -v",
        "nginx -v",
        "curl --version",
        "redis-server --version",
        "redis-cli --version",
        "psql --version",
        "/usr/lib/postgresql/17/bin/postgres --version",
        "/usr/lib/postgresql/17/bin/initdb --version",
        "/usr/lib/postgresql/17/bin/pgbench --version",
    ],
)
def test_program_of_tests(dut: Dut, command: str) -> None:
    """It runs: nothing that it needs was left out of the image."""
    assert dut.host.run(command).rc == 0


def test_no_timers(dut: Dut) -> None:
    """Nothing wakes up in the middle of a test."""
    assert dut.host.check_output("systemctl list-timers --no-legend --plain") == ""


def test_root_is_the_image_under_an_overlay(dut: Dut) -> None:
    """The image is mounted read-only on a disk that is read-only, too; writes go to memory."""
    root, lower = dut.host.mount_point("/"), dut.host.mount_point("/run/exalab/lower")
    assert root.filesystem == "overlay"
    assert lower.filesystem == "erofs" and "ro" in lower.options
    disk = lower.device.removeprefix("/dev/")
    assert dut.host.file(f"/sys/block/{disk}/ro").content_string.strip() == "1"
    assert dut.host.file(f"/sys/block/{disk}/serial").content_string.strip() == "root"
    assert dut.host.run("touch /usr/written").rc == 0
    assert dut.host.file("/run/exalab/over/upper/usr/written").exists
    assert dut.host.run("touch /run/exalab/lower/usr/written").rc != 0


def test_files_are_the_manifests(dut: Dut) -> None:
    """What was booted is, byte for byte, what the manifest and the lab's facts say."""
    folder = Workspace().images / "dut"
    assert {name: tree.file_digest(folder / name) for name in dut.manifest.files} == dut.manifest.files
    assert dut.lab.facts["images"]["dut"] == dut.manifest.digest


def test_management_port(dut: Dut) -> None:
    """Named by its driver, configured without DHCP; no other port has an address."""
    assert dut.host.interface("mgmt").addresses[:1] == ["10.0.2.15"]
    shown = dut.host.check_output("ip -br -4 addr show scope global")
    assert [row.split()[0] for row in shown.splitlines()] == ["mgmt"]


def test_compiled_python_is_used(dut: Dut) -> None:
    """A stale .pyc would be compiled again at every boot."""
    told = dut.host.run("python3 -v -c 'import json, socket, subprocess' 2>&1")
    assert "import 'json'" in told.stdout
    assert re.findall(r"code object from '[^']+\.py'", told.stdout) == []


def test_only_keys_get_in(dut: Dut) -> None:
    """No password opens the machine."""
    settings = dut.host.check_output("sshd -T").splitlines()
    assert {"passwordauthentication no", "kbdinteractiveauthentication no"} <= set(settings)
    shadow = dut.host.check_output("cut -d: -f1,2 /etc/shadow").splitlines()
    assert {row.split(":")[1] for row in shadow} <= {"*", "!", "!*"}

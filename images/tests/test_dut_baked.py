"""Nothing is baked into the image that must differ from machine to machine, or that tells how it was made."""

from __future__ import annotations

import pytest

from .dut import Dut

pytestmark = pytest.mark.lab

IMAGE = "/run/exalab/lower"


def test_machine_id(dut: Dut) -> None:
    """Empty in the image, made at boot."""
    assert dut.host.file(f"{IMAGE}/etc/machine-id").size == 0
    assert len(dut.host.file("/etc/machine-id").content_string.strip()) == 32


def test_host_keys(dut: Dut) -> None:
    """None in the image; one, ed25519, of this boot."""
    assert dut.host.run(f"ls {IMAGE}/etc/ssh/ssh_host_*").rc != 0
    assert dut.host.check_output("ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key"


def test_lab_key(dut: Dut) -> None:
    """The key that opens this machine came with this lab."""
    assert not dut.host.file(f"{IMAGE}/root/.ssh/authorized_keys").exists


@pytest.mark.parametrize(
    "name",
    [
        "var/lib/systemd/random-seed",
        "var/lib/dbus/machine-id",
        "etc/resolv.conf",
        "etc/ssl/private/ssl-cert-snakeoil.key",
        "etc/ssl/certs/ssl-cert-snakeoil.pem",
        "etc/postgresql/17",
        "etc/apt/sources.list",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
        "etc/apt/apt.conf.d/99mmdebstrap",
    ],
)
def test_absent(dut: Dut, name: str) -> None:
    """Identities, and what the build used."""
    assert not dut.host.file(f"{IMAGE}/{name}").exists


def test_no_logs_nor_caches(dut: Dut) -> None:
    """No file below the folders that programs write to."""
    found = dut.host.check_output(
        f"find {IMAGE}/var/log {IMAGE}/var/cache {IMAGE}/var/lib/apt {IMAGE}/tmp -type f"
    )
    assert found == ""


def test_no_time_after_the_lock(dut: Dut) -> None:
    """No time stamp tells when the image was built."""
    epoch = dut.manifest.epoch
    assert dut.host.check_output(f"find {IMAGE} -xdev -newermt @{epoch} -print -quit") == ""


def test_copyright_is_there(dut: Dut) -> None:
    """We hand out binaries: every package's terms come along."""
    packages = " ".join(p.name for p in dut.lock.packages)
    missing = dut.host.check_output(
        f"for p in {packages}; do [ -e /usr/share/doc/$p/copyright ] || echo $p; done"
    )
    assert missing == ""

"""The driver in the image: it binds to the lab's cards; its device nodes are as reference section 9 says."""

from __future__ import annotations

import pytest

from .dut import Dut

pytestmark = pytest.mark.lab


def test_module_is_the_installed_one(dut: Dut) -> None:
    """Loaded from updates/, for this kernel, under a licence the kernel accepts."""
    path = dut.host.check_output("modinfo -F filename exanic")
    assert path.endswith(f"/{dut.manifest.kernel}/updates/exanic.ko")
    assert dut.host.check_output("modinfo -F license exanic").startswith("GPL")
    assert dut.host.check_output("modinfo -F vermagic exanic").startswith(f"{dut.manifest.kernel} ")
    assert "exanic" in dut.host.check_output("lsmod").split()


def test_every_card_is_bound(dut: Dut) -> None:
    """By the driver, without help: udev loaded it by the card's PCI id."""
    cards = dut.host.check_output("ls /sys/bus/pci/drivers/exanic").split()
    bound = [name for name in cards if name.startswith("0000:")]
    assert len(bound) == len(dut.lab.facts["cards"])


def test_ports_keep_the_kernels_names(dut: Dut) -> None:
    """One net device per port, none renamed by udev."""
    shown = dut.host.check_output("grep -l DRIVER=exanic /sys/class/net/*/device/uevent").splitlines()
    names = sorted(path.split("/")[4] for path in shown)
    assert names and all(name.startswith("eth") for name in names)


def test_ports_never_drop_by_time(dut: Dut) -> None:
    """What waits to be sent waits: a queue that drops old frames loses them on a slow guest."""
    for port in dut.ports_up():
        assert "qdisc pfifo_fast " in dut.host.check_output(f"tc qdisc show dev {port} root")


def test_device_nodes(dut: Dut) -> None:
    """/dev/exanicN: character devices of root; what others may do with them the driver decides (N6)."""
    nodes = dut.host.check_output("ls /dev/exanic*").split()
    assert len(nodes) == len(dut.lab.facts["cards"])
    for node in nodes:
        file = dut.host.file(node)
        assert dut.host.run(f"test -c {node}").rc == 0
        assert (file.user, file.group) == ("root", "root")
        assert file.mode in (0o600, 0o660, 0o666)


def test_kernel_log_is_clean(dut: Dut) -> None:
    """No warning, no oops, no unsigned-module taint beyond the expected one."""
    log = dut.host.check_output("dmesg")
    for bad in ("WARNING:", "BUG:", "Oops", "Call Trace", "Unknown symbol"):
        assert bad not in log

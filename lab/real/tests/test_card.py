"""A card taken and given back on a made-up machine: exactly as it was, wherever whoever took it died."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.real import card, verdict
from lab.real.borrowed import Borrowed, recover, refuse_held
from lab.real.device import cards, look
from lab.real.journal import Held, Journal, Owner
from lab.real.tests.kernel import CARD, Kernel

ME = Owner("lab", "/here")
#: More changes than taking and giving back make.
MANY = 40


def machine(root: Path, **how: bool) -> Kernel:
    """A machine whose driver makes its two ports anew, with other names, as before udev."""
    kernel = Kernel(root).build(**how)
    (root / "ports").write_text("eth0 eth1")
    return kernel


def journal(root: Path) -> Journal:
    return Journal(root / "held", card.PREFIX + CARD, ME)


def test_taken_and_given_back(tmp_path: Path) -> None:
    """It is vfio-pci's meanwhile; then driver, override, names, MTU and up states are what they were."""
    kernel = machine(tmp_path)
    before = kernel.state()
    with journal(tmp_path) as one:
        was = card.take(kernel, one, CARD)
        assert (was.model, was.driver, [dev.name for dev in was.netdevs]) == (
            "X25",
            "exanic",
            ["enp59s0f0", "enp59s0f1"],
        )
        assert look(kernel, CARD).driver == "vfio-pci"
        assert one.path.exists()
        card.give_back(kernel, one, CARD)
        assert kernel.state() == before
        card.give_back(kernel, one, CARD)
    assert kernel.state() == before
    assert not one.path.exists()


@pytest.mark.parametrize(("vfio", "driver"), [(True, "exanic"), (False, "exanic"), (True, None)])
@pytest.mark.parametrize("half", [False, True])
def test_a_crash_after_every_step(tmp_path: Path, vfio: bool, driver: str | None, half: bool) -> None:
    """Whatever change the process dies at, and on which side of it, in taking or in giving back: the next one
    finds the journal, and everything is as it was; also when that one dies too."""
    died = 0
    for at in range(1, MANY):
        root = tmp_path / str(at)
        root.mkdir()
        kernel = machine(root, vfio=vfio)
        if driver is None:
            kernel.write(kernel.device(CARD) / "driver/unbind", CARD)
            kernel.write(kernel.device(CARD) / "driver_override", "something")
        before = kernel.state()
        assert before["vfio"] == vfio
        if not dies(lambda: take_and_give(Kernel(root, at, half), root)):  # noqa: B023
            assert kernel.state() == before
            break
        died += 1
        for second in range(1, MANY):
            if not dies(lambda: recover(ME, Kernel(root, second, not half), root / "held")):  # noqa: B023
                break
        assert kernel.state() == before, f"died at change {at}"
        assert not list((root / "held").glob("*.json"))
    assert died >= (4 if driver is None else 8)


def take_and_give(kernel: Kernel, root: Path) -> None:
    borrowed = Borrowed(ME, kernel, root / "held")
    borrowed.take([CARD], [])
    borrowed.give_back()


def dies(what: object) -> bool:
    """Run it in a process of its own; whether that died in the middle."""
    pid = os.fork()
    if pid == 0:
        try:
            what()  # type: ignore[operator]
        except BaseException as problem:  # noqa: BLE001 - the child must not become a second pytest
            print(repr(problem), flush=True)
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 9)
    return code == 9


def test_the_next_taker_mends_what_a_crash_left(tmp_path: Path) -> None:
    """Another lab that wants the card gives it back first, and then takes it as it was in the beginning."""
    kernel = machine(tmp_path)
    before = kernel.state()
    assert dies(lambda: take_and_give(Kernel(tmp_path, 2), tmp_path))
    other = Borrowed(Owner("two", "/there"), kernel, tmp_path / "held")
    other.take([CARD], [])
    other.give_back()
    assert kernel.state() == before


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """A card that a lab holds is not another one's, nor a leftover; the error says whose it is."""
    kernel = machine(tmp_path)
    first = Borrowed(ME, kernel, tmp_path / "held")
    first.take([CARD], [])
    with pytest.raises(
        Held, match=r"card 0000:3b:00\.0 is taken by lab lab of /here \(process \d+\)"
    ) as caught:
        Borrowed(Owner("two", "/there"), kernel, tmp_path / "held").take([CARD], [])
    assert caught.value.hint
    with pytest.raises(Held, match="is taken by lab lab of /here"):
        refuse_held(CARD, tmp_path / "held")
    assert recover(None, kernel, tmp_path / "held") == []
    assert look(kernel, CARD).driver == "vfio-pci"
    first.give_back()
    refuse_held(CARD, tmp_path / "held")


def test_recovery_is_of_ones_own(tmp_path: Path) -> None:
    """`lab down` of one lab leaves alone what another one's crash left; its own it gives back, once."""
    kernel = machine(tmp_path)
    assert dies(lambda: take_and_give(Kernel(tmp_path, 3), tmp_path))
    assert recover(Owner("two", "/there"), kernel, tmp_path / "held") == []
    assert recover(ME, kernel, tmp_path / "held") == [CARD]
    assert recover(ME, kernel, tmp_path / "held") == []


def test_after_a_reboot_nothing_is_touched(tmp_path: Path) -> None:
    """A journal of another boot speaks of a kernel that is gone."""
    kernel = machine(tmp_path)
    assert dies(lambda: take_and_give(Kernel(tmp_path, 1), tmp_path))
    (kernel.proc / "sys/kernel/random/boot_id").write_text("boot-2\n")
    before = kernel.state()
    assert recover(ME, kernel, tmp_path / "held") == [CARD]
    assert kernel.state() == before


def test_a_refusal_gives_back_what_was_done(tmp_path: Path) -> None:
    """vfio-pci that does not bind: the error says what to look at, and the card is its driver's again."""
    kernel = machine(tmp_path)
    before = kernel.state()
    (kernel.pci / "drivers/vfio-pci").rename(kernel.pci / "drivers/vfio-broken")
    kernel.load = lambda name: None  # type: ignore[method-assign]
    with (
        journal(tmp_path) as one,
        pytest.raises(LabError, match="vfio-pci does not bind to the card") as caught,
    ):
        card.take(kernel, one, CARD)
    assert "dmesg" in str(caught.value.hint)
    (kernel.pci / "drivers/vfio-broken").rename(kernel.pci / "drivers/vfio-pci")
    assert kernel.state() == before


def test_a_journal_that_is_none(tmp_path: Path) -> None:
    """Nothing is guessed from a file that cannot be understood."""
    kernel = machine(tmp_path)
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / f"pci-{CARD}.json").write_text("{}")
    with pytest.raises(LabError, match="is not a journal of this version"):
        Borrowed(ME, kernel, tmp_path / "held").take([CARD], [])


def process(kernel: Kernel, file: str) -> None:
    folder = kernel.proc / "4711/fd"
    folder.mkdir(parents=True)
    (folder / "5").symlink_to(file)
    (kernel.proc / "4711/comm").write_text("trader\n")


def no_iommu(kernel: Kernel) -> None:
    (kernel.device(CARD) / "iommu_group").unlink()
    import shutil

    shutil.rmtree(kernel.sys / "kernel/iommu_groups")


def shared(kernel: Kernel) -> None:
    kernel.add("0000:3b:00.1", 0x144D, 0xA808, "nvme", "0x010802", "17")


def opened(kernel: Kernel) -> None:
    (kernel.device(CARD) / "misc/exanic0").mkdir(parents=True)
    process(kernel, "/dev/exanic0")


def addressed(kernel: Kernel) -> None:
    given = {"scope": "global", "local": "192.0.2.7", "prefixlen": 24}
    (kernel.root / "addresses.json").write_text(json.dumps([{"ifname": "enp59s0f0", "addr_info": [given]}]))


def bonded(kernel: Kernel) -> None:
    (kernel.interface("enp59s0f1") / "master").symlink_to("../bond0")


def tagged(kernel: Kernel) -> None:
    (kernel.interface("enp59s0f0") / "upper_lan7").mkdir()


def elsewhere(kernel: Kernel) -> None:
    for pid, name in (("self", "net:[1]"), ("4711", "net:[2]")):
        (kernel.proc / pid / "ns").mkdir(parents=True)
        (kernel.proc / pid / "ns/net").symlink_to(name)
    link = {"ifname": "eth0", "parentdev": CARD, "addr_info": []}
    kernel.addresses = lambda prefix=(): [link] if prefix else []  # type: ignore[method-assign]


def without_vfio(kernel: Kernel) -> None:
    (kernel.pci / "drivers/vfio-pci/bind").unlink()
    (kernel.pci / "drivers/vfio-pci/unbind").unlink()
    (kernel.pci / "drivers/vfio-pci").rmdir()
    (kernel.root / "no-vfio").touch()


def in_a_machine(kernel: Kernel) -> None:
    (kernel.device(CARD) / "driver").unlink()
    (kernel.device(CARD) / "driver").symlink_to(kernel.pci / "drivers/vfio-pci")
    process(kernel, "/dev/vfio/17")


def other_vendor(kernel: Kernel) -> None:
    (kernel.device(CARD) / "vendor").write_text("0x8086\n")


def uncovered(kernel: Kernel) -> None:
    (kernel.device(CARD) / "iommu_group").unlink()


@pytest.mark.parametrize(
    ("spoil", "error", "remedy"),
    [
        (no_iommu, "the IOMMU of this machine is off", "intel_iommu=on"),
        (uncovered, "is in no IOMMU group, though", "into a slot"),
        (shared, r"shares its IOMMU group 17 with 0000:3b:00\.1 \(driver nvme\)", "ACS"),
        (opened, r"is in use: process 4711 \(trader\) has /dev/exanic0 open", "kill 4711"),
        (
            addressed,
            r"is in use: enp59s0f0 has the address 192\.0\.2\.7/24",
            "ip address flush dev enp59s0f0",
        ),
        (bonded, "enp59s0f1 is a member of bond0", "nomaster"),
        (tagged, "lan7 stands on enp59s0f0", "ip link del lan7"),
        (elsewhere, r"eth0 is in the network namespace net:\[2\] of process 4711", "container"),
        (without_vfio, "has no driver vfio-pci: .*Module vfio-pci not found", "linux-image-amd64"),
        (in_a_machine, r"process 4711 \(trader\) has its IOMMU group 17 open", "shut it down"),
        (other_vendor, "is not an ExaNIC: its vendor is 8086", "lspci"),
    ],
)
def test_what_stands_in_the_way_is_named_with_its_remedy(
    tmp_path: Path, spoil: object, error: str, remedy: str
) -> None:
    """Nothing is changed, and the error says what to do."""
    kernel = machine(tmp_path)
    spoil(kernel)  # type: ignore[operator]
    before = kernel.state()
    with journal(tmp_path) as one, pytest.raises(LabError, match=error) as caught:
        card.take(kernel, one, CARD)
    assert remedy in str(caught.value.hint)
    assert kernel.state() == before
    assert not one.path.exists()


def test_amd_has_another_parameter(tmp_path: Path) -> None:
    """The remedy is of this processor."""
    kernel = machine(tmp_path, iommu=False, intel=False)
    with pytest.raises(LabError) as caught:
        verdict.check(kernel, CARD)
    assert "amd_iommu=on" in str(caught.value.hint)


def test_no_such_device_names_those_there_are(tmp_path: Path) -> None:
    """A mistyped address is answered with the right ones."""
    kernel = machine(tmp_path)
    assert cards(kernel) == [CARD]
    with pytest.raises(LabError, match=r"no PCI device 0000:3c:00\.0") as caught:
        verdict.check(kernel, "0000:3c:00.0")
    assert CARD in str(caught.value.hint)


def test_given_back_only_when_nobody_has_it(tmp_path: Path) -> None:
    """The kernel would wait for ever for a machine that still runs: it is named, and the journal stays."""
    kernel = machine(tmp_path)
    with journal(tmp_path) as one:
        card.take(kernel, one, CARD)
        process(kernel, "/dev/vfio/17")
        with pytest.raises(LabError, match=r"process 4711 \(trader\) still has it"):
            card.give_back(kernel, one, CARD)
        assert one.path.exists()
        (kernel.proc / "4711/fd/5").unlink()
        card.give_back(kernel, one, CARD)

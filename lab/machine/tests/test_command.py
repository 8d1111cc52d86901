"""The machine as data becomes the command line that was measured to work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.machine.command import (
    CardSlot,
    Machine,
    RealSlot,
    card_device,
    kernel_arguments,
    probe_argv,
    qemu_argv,
)
from lab.machine.sandbox import Bind, tools_argv

MACHINE = Machine(
    kernel=Path("/i/vmlinux"),
    initrd=Path("/i/initrd.img"),
    root=Path("/i/root.erofs"),
    accelerator="tcg",
    memory=768,
    cards=(CardSlot("card0", Path("/r/card0.sock")), CardSlot("b", Path("/r/b.sock"))),
    agent=Path("/r/agent.sock"),
    serial=Path("/r/serial.sock"),
    serial_log=Path("/o/serial.log"),
)


def devices(argv: list[str]) -> list[dict[str, Any]]:
    """All ``-device`` arguments."""
    return [json.loads(argv[at + 1]) for at, word in enumerate(argv) if word == "-device"]


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_memory_can_be_reached_by_the_card() -> None:
    """DMA needs a descriptor: the memory is a shared memfd."""
    argv = qemu_argv(MACHINE, 9)
    assert option(argv, "-object") == "memory-backend-memfd,id=memory,size=768M,share=on"
    assert "memory-backend=memory" in option(argv, "-machine")
    huge = option(qemu_argv(replace(MACHINE, hugepages=True), 9), "-object")
    assert huge == "memory-backend-memfd,id=memory,size=768M,share=on,hugetlb=on,hugetlbsize=2M"


def test_counting_is_a_plugin() -> None:
    """Only where instructions are counted."""
    assert "-plugin" not in qemu_argv(MACHINE, 9)
    argv = qemu_argv(replace(MACHINE, counting=(Path("/o/counting.so"), Path("/r/instructions.sock"))), 9)
    assert option(argv, "-plugin") == "file=/o/counting.so,socket=/r/instructions.sock"


def test_a_card_is_waited_for() -> None:
    """A host that stops cardd for a while does not take the card from the guest."""
    card = card_device(MACHINE.cards[0])
    assert card["x-msg-timeout"] >= 60_000


def test_one_thread_on_one_processor() -> None:
    """The guest's processors take turns where they would have to anyway; with KVM they are the host's own."""
    assert option(qemu_argv(MACHINE, 9), "-accel") == "tcg,thread=multi"
    gathered = replace(MACHINE, together=True)
    assert option(qemu_argv(gathered, 9), "-accel") == "tcg,thread=single"
    assert option(qemu_argv(replace(gathered, accelerator="kvm"), 9), "-accel") == "kvm"


def test_clock_needs_no_watchdog() -> None:
    """No HPET, and a TSC the kernel believes in: else it changes its clock under load."""
    assert "hpet=off" in option(qemu_argv(MACHINE, 9), "-machine")
    assert "tsc=reliable" in kernel_arguments(MACHINE)


def test_guest_is_told_its_clock() -> None:
    """Without KVM it cannot be trusted to measure it on a busy host."""
    assert "tsc_early_khz=2596157" in kernel_arguments(replace(MACHINE, tsc_khz=2596157)).split()
    assert "tsc_early_khz" not in kernel_arguments(MACHINE)


def test_every_card_has_a_slot_of_its_own() -> None:
    """A root port per card, at a known address: cards can be pulled, and the guest's view be matched."""
    found = devices(qemu_argv(MACHINE, 9))
    slots = {one["id"]: one for one in found if one["driver"] == "pcie-root-port"}
    cards = {one["id"]: one for one in found if one["driver"] == "vfio-user-pci"}
    assert {name: slot["addr"] for name, slot in slots.items()} == {"card0.slot": "0x10", "b.slot": "0x11"}
    assert len({slot["chassis"] for slot in slots.values()}) == 2
    assert cards["b"] == card_device(MACHINE.cards[1])
    assert cards["b"]["bus"] == "b.slot"
    assert cards["b"]["rombar"] == 0
    assert cards["b"]["socket"] == {"type": "unix", "path": "/r/b.sock"}


def test_a_real_card_is_passed_through() -> None:
    """By vfio-pci, in a slot like any other: the guest's view is the same."""
    machine = replace(MACHINE, cards=(RealSlot("card0", "0000:3b:00.0"), MACHINE.cards[1]))
    found = devices(qemu_argv(machine, 9))
    (card,) = [one for one in found if one["driver"] == "vfio-pci"]
    assert card == {
        "driver": "vfio-pci", "id": "card0", "bus": "card0.slot", "rombar": 0, "host": "0000:3b:00.0",
    }  # fmt: skip
    slots = {one["id"]: one["addr"] for one in found if one["driver"] == "pcie-root-port"}
    assert slots == {"card0.slot": "0x10", "b.slot": "0x11"}


def test_root_disk_is_read_only_and_shared() -> None:
    """Several labs run from one image: never written, never locked."""
    argv = qemu_argv(MACHINE, 9)
    disk = json.loads(option(argv, "-blockdev"))
    assert disk["read-only"] and disk["file"]["read-only"] and disk["file"]["locking"] == "off"
    (device,) = [one for one in devices(argv) if one["driver"] == "virtio-blk-pci"]
    assert (device["drive"], device["serial"]) == ("root", "root")


def test_agent_console_and_control() -> None:
    """The agent's port by name, the console logged and open to a person, control on the descriptor given."""
    argv = qemu_argv(MACHINE, 9)
    assert {
        "driver": "virtserialport",
        "bus": "agentbus.0",
        "chardev": "agent",
        "name": "exalab.agent",
    } in devices(argv)
    assert any("path=/r/serial.sock" in word and "logfile=/o/serial.log" in word for word in argv)
    assert "socket,id=qmp,fd=9" in argv


def test_management_port_is_picked_by_the_kernel() -> None:
    """Port 0: two labs that start at once never get the same."""
    assert "hostfwd=tcp:127.0.0.1:0-:22" in option(qemu_argv(MACHINE, 9), "-netdev")


@pytest.mark.parametrize(("accelerator", "cpu"), [("kvm", "host"), ("tcg", "max,erms=off,fsrm=off")])
def test_accelerators(accelerator: Any, cpu: str) -> None:
    """The host's processor, or one whose copying is cheap to emulate."""
    argv = qemu_argv(replace(MACHINE, accelerator=accelerator), 9)
    assert option(argv, "-accel").startswith(accelerator)
    assert option(argv, "-cpu") == cpu


def test_profile_and_panic() -> None:
    """A panic ends the machine at once, so that it is seen."""
    assert "exalab.profile=systemd" in kernel_arguments(replace(MACHINE, profile="systemd"))
    assert "panic=-1" in kernel_arguments(MACHINE)
    assert "-no-reboot" in qemu_argv(MACHINE, 9)


def test_probe_is_the_same_kernel_and_nothing_else() -> None:
    """The probe differs from the lab in its devices only."""
    argv = probe_argv(replace(MACHINE, accelerator="kvm"), 9)
    assert {one["driver"] for one in devices(argv)} == {"virtio-rng-pci", "isa-debug-exit"}
    for name in ("-kernel", "-smp", "-cpu"):
        assert option(argv, name) == option(qemu_argv(replace(MACHINE, accelerator="kvm"), 9), name)


def test_sandbox_sees_only_what_is_bound(tmp_path: Path) -> None:
    """The tools image is the root; of the host there is what was named, writable only where said."""
    (tmp_path / "usr").mkdir()
    argv = tools_argv(tmp_path, ["qemu", "-x"], [Bind(Path("/a")), Bind(Path("/b"), writable=True)])
    assert argv[0] == "bwrap"
    assert argv[argv.index("/a") - 1] == "--ro-bind"
    assert argv[argv.index("/b") - 1] == "--bind"
    assert "--die-with-parent" in argv
    assert argv[argv.index("--") + 1 :] == ["qemu", "-x"]


def test_sandbox_has_the_devices_that_were_taken(tmp_path: Path) -> None:
    """Only where a real card is passed through."""
    (tmp_path / "usr").mkdir()
    assert "/dev/vfio" not in tools_argv(tmp_path, ["qemu"])
    argv = tools_argv(tmp_path, ["qemu"], vfio=True)
    assert argv[argv.index("/dev/vfio") - 1] == "--dev-bind"
    assert argv[argv.index("/sys") - 1] == "--ro-bind"


def test_sandbox_without_tools_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        tools_argv(tmp_path, ["qemu"])
    assert caught.value.hint == "make images"

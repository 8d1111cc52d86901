"""Taking a card and giving it back, tried with a real kernel: a guest that has an IOMMU, and a device of
QEMU's own.

trial   a machine beside the lab   intel-iommu --- root port --- e1000e (stands for a card)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import paths, process
from lab.deadline import scaled
from lab.guest.client import Agent
from lab.machine import command
from lab.machine.sandbox import tools_argv
from suites.real import guest_trial as trial
from suites.real.machine import DEVICE, MODULES, VENDOR, booted
from suites.session import Session

pytestmark = pytest.mark.full("two machines more, of the way to a real card")

#: More changes than taking or giving back makes.
MANY = 30


@pytest.fixture(scope="module")
def machine(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with booted(session.lab, tmp_path_factory.mktemp("trial")) as agent:
        yield agent


@pytest.fixture
def address(machine: Agent) -> str:
    """The device, with an interface that is up and has an MTU of its own."""
    found = str(machine.call(trial.find, vendor=VENDOR, number=DEVICE))
    machine.call(trial.configure, address=found, mtu=4000, up=True)
    return found


def state(machine: Agent, address: str) -> dict[str, Any]:
    return dict(machine.call(trial.state, address=address))


def test_taken_used_and_given_back(machine: Agent, address: str) -> None:
    """vfio-pci has it, its group can be used by a process as QEMU uses it, and then it is as it was."""
    before = state(machine, address)
    assert (before["driver"], before["vfio"], before["groups"]) == ("e1000e", False, [])
    taken = machine.call(trial.take, address=address, timeout=scaled(6))
    assert (taken["driver"], taken["override"], taken["netdevs"]) == ("vfio-pci", "vfio-pci", [])
    assert taken["journals"] == [f"pci-{address}"]
    used = machine.call(trial.use, address=address)
    assert used == {"viable": True, "vendor": VENDOR, "device": DEVICE}
    refused = machine.call(trial.give_back_refused, address=address)
    assert "still has it" in refused[0] and "kill" in refused[1]
    machine.call(trial.leave)
    assert machine.call(trial.give_back, address=address, timeout=scaled(6)) == before


def test_a_crash_at_every_step(machine: Agent, address: str) -> None:
    """The process dies after each change: the next one gives everything back exactly."""
    before = state(machine, address)
    died = 0
    for at in range(1, MANY):
        how = machine.call(trial.crash, address=address, die_at=at, half=False, timeout=scaled(6))
        if how == 0:
            break
        assert how == 9
        died += 1
        assert machine.call(trial.recover, timeout=scaled(6)) == [address]
        assert state(machine, address) == before, f"died at change {at}"
    assert died >= 6
    assert state(machine, address) == before


def test_what_is_in_the_way_is_named(machine: Agent, session: Session, address: str) -> None:
    """An address on its interface; a device that is no card; a machine without an IOMMU."""
    (name, *_), *_ = state(machine, address)["netdevs"]
    machine.exec(["ip", "address", "add", "192.0.2.1/24", "dev", name])
    told = machine.call(trial.refusal, address=address)
    machine.exec(["ip", "address", "flush", "dev", name])
    assert f"{name} has the address 192.0.2.1/24" in told[0]
    assert machine.call(trial.refusal, address=address) == []
    assert "is not an ExaNIC" in machine.call(trial.refusal, address=address, vendors=[0x1CE4])[0]
    session.agent.load(*MODULES)
    card = session.baseline["ports"][0]["pci"]
    told = session.agent.call(trial.refusal, address=card, vendors=[0x1CE4])
    assert "the IOMMU of this machine is off" in told[0] and "iommu=on" in told[1]


def test_qemu_knows_how_to_pass_a_card(session: Session) -> None:
    """The machine's command line with a real card: all that QEMU misses is the card."""
    root = paths.images() / "tools/root"
    slot = command.device("pcie-root-port", id="card0.slot", chassis=1)
    card = json.dumps(command.card_device(command.RealSlot("card0", "ffff:ff:1f.7")))
    qemu = ["qemu-system-x86_64", "-M", "q35", "-nodefaults", "-display", "none", *slot, "-device", card]
    done = process.run(tools_argv(root, qemu), deadline=scaled(6), name="qemu", check=False)
    assert done.returncode == 1
    assert "ffff:ff:1f.7: no such host device" in done.stderr


def test_a_shared_group_is_refused(session: Session, tmp_path: Path) -> None:
    """Two functions of one device are one group: the other's driver would lose it, so it is named."""
    with booted(session.lab, tmp_path, shared=True) as agent:
        found = str(agent.call(trial.find, vendor=VENDOR, number=DEVICE))
        told = agent.call(trial.refusal, address=found)
    assert "shares its IOMMU group" in told[0] and "(driver e1000e)" in told[0]
    assert "another slot" in told[1]

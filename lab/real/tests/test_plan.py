"""From one line of lab.toml to what the supervisor takes, starts and tells, on a made-up machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import config, lease, up
from lab.cardd import spec as specs
from lab.errors import LabError
from lab.machine import accelerator
from lab.paths import Paths
from lab.real import host
from lab.real.borrowed import Borrowed
from lab.real.journal import Held, Owner
from lab.real.tests.kernel import CARD, Kernel
from lab.supervisor import Plan

TEXT = f"card = '{CARD}'\ntesters = ['enp5s0f0', '', 'enp5s0f2']\nleases = '/net/leases'\n"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A machine with the card and two interfaces, which `lab up` takes for this one."""
    made = Kernel(tmp_path / "machine").build()
    (made.root / "ports").write_text("eth0 eth1")
    for name in ("enp5s0f0", "enp5s0f2"):
        (made.interface(name)).mkdir()
    monkeypatch.setattr(host, "Host", lambda: made)
    monkeypatch.setenv("EXALAB_RUN", str(tmp_path / "run"))
    return made


def plan(tmp_path: Path, lab: config.Config, models: dict[str, str]) -> Plan:
    (tmp_path / "tools/usr").mkdir(parents=True)
    images = up.Images(tmp_path / "tools", tmp_path / "dut", {"dut": "sha256:x", "tools": "sha256:y"}, True)
    found = accelerator.Found("kvm", "a test")
    made = up.make_plan(Paths("x"), lab, images, found, "fast", models)
    made.write(tmp_path / "plan.json")
    return Plan.read(tmp_path / "plan.json")


def test_what_is_taken_started_and_told(kernel: Kernel, tmp_path: Path) -> None:
    """The card and its interfaces, a lease of it, QEMU with it, cardd with the outsides of its ports."""
    lab = config.parse(TEXT, "x")
    made = plan(tmp_path, lab, up.real_models(lab))
    assert made.real_cards == (CARD,)
    assert made.interfaces == ("enp5s0f0", "enp5s0f2")
    assert (made.lease_folder, made.leases) == ("/net/leases", (lease.name_of(CARD),))
    assert "/dev/vfio" in made.machine
    (device,) = [json.loads(word) for word in made.machine if "vfio-pci" in word]
    assert (device["host"], device["bus"]) == (CARD, "card0.slot")
    (card,) = made.facts["cards"]
    assert (card["kind"], card["model"], card["ports"], made.facts["card_kind"]) == ("real", "X25", 3, "real")
    spec = specs.parse(json.dumps(up.cardd_spec(Paths("x"), lab)))
    assert [(nic.end, nic.interface) for nic in spec.nics] == [
        ("card0:0", "enp5s0f0"),
        ("card0:2", "enp5s0f2"),
    ]
    assert spec.cards == ()


def test_an_emulated_lab_takes_nothing(tmp_path: Path) -> None:
    """And sees nothing of the machine's devices."""
    made = plan(tmp_path, config.parse("leases = '/net/leases'\n", "x"), {})
    assert (made.real_cards, made.interfaces, made.leases) == ((), (), ())
    assert "/dev/vfio" not in made.machine
    assert made.facts["card_kind"] == "emulated"


def test_what_cannot_be_is_said_before_anything_is_built(kernel: Kernel, tmp_path: Path) -> None:
    """A missing interface; a card that a lab has; nothing is changed by looking."""
    lab = config.parse(TEXT.replace("enp5s0f2", "enp9s0"), "x")
    before = kernel.state()
    with pytest.raises(LabError, match="no network interface enp9s0") as caught:
        up.real_models(lab)
    assert "enp5s0f0" in str(caught.value.hint)
    assert kernel.state() == before
    other = Borrowed(Owner("two", "/there"), kernel, tmp_path / "run/held")
    other.take([CARD], [])
    with pytest.raises(Held, match="is taken by lab two of /there"):
        up.real_models(config.parse(TEXT, "x"))
    other.give_back()

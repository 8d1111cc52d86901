"""A card used where it is, on a made-up machine: its modules and interfaces are as before, wherever whoever
used it died.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.real import card, used
from lab.real.borrowed import Borrowed, recover, refuse_held
from lab.real.journal import Held, Journal, Owner
from lab.real.tests.kernel import CARD, Kernel
from lab.real.tests.test_card import dies

ME = Owner("lab", "bench:/here")
MANY = 40


class Machine(Kernel):
    """A machine on which modules are loaded and unloaded, and ports have settings."""

    def start(self, *, loaded: bool) -> Machine:
        """``loaded``: both modules are; else neither, and nobody drives the card."""
        self.build()
        (self.root / "ports").write_text("eth0 eth1")
        (self.sys / "module").mkdir()
        if loaded:
            for name in used.MODULES:
                (self.sys / "module" / name).mkdir()
            quiet = self.proc / "sys/net/ipv4/conf/enp59s0f0"
            quiet.mkdir(parents=True)
            (quiet / "arp_ignore").write_text("0\n")
        else:
            self._unbind(CARD)
            shutil.rmtree(self.pci / "drivers/exanic")
        return self

    def state(self) -> dict[str, Any]:
        quiet = self.proc / "sys/net/ipv4/conf/enp59s0f0/arp_ignore"
        return super().state() | {"modules": self.names(self.sys / "module"), "quiet": self.read(quiet)}

    def run(self, argv: Sequence[str], check: bool = True) -> str:
        match list(argv):
            case ["modprobe", "--remove", name]:
                self._change(lambda: self._remove(name))
            case ["modprobe", ("exanic" | "exasock") as name]:
                if (self.root / "refused").exists():
                    raise LabError(f"modprobe {name} failed: {(self.root / 'refused').read_text()}")
                self._change(lambda: self._insert(name))
            case ["ip", "address", "flush", *_]:
                pass
            case ["ip", "link", "del", name]:
                self._change(lambda: self._delete(name))
            case _:
                return super().run(argv, check)
        return ""

    def _insert(self, name: str) -> None:
        (self.sys / "module" / name).mkdir()
        if name == "exanic":
            self.load(name)
            self._bind(CARD, name)

    def _remove(self, name: str) -> None:
        shutil.rmtree(self.sys / "module" / name)
        if name == "exanic":
            self._unbind(CARD)
            shutil.rmtree(self.pci / "drivers/exanic")

    def _delete(self, name: str) -> None:
        for port in self.names(self.sys / "class/net"):
            (self.interface(port) / f"upper_{name}").unlink(missing_ok=True)


def use(kernel: Machine, root: Path) -> None:
    """Have the card, do to it what tests may leave behind, give it back."""
    borrowed = Borrowed(ME, kernel, root / "held")
    borrowed.use([CARD])
    first = kernel.names(kernel.device(CARD) / "net")[0]
    (kernel.interface(first) / "upper_vlan7").touch()
    (kernel.interface(first) / "mtu").write_text("1400\n")
    quiet = kernel.proc / f"sys/net/ipv4/conf/{first}/arp_ignore"
    if quiet.exists():
        quiet.write_text("1\n")
    borrowed.give_back()


@pytest.mark.parametrize("loaded", [True, False])
def test_as_it_was(tmp_path: Path, loaded: bool) -> None:
    """Modules that were not loaded are unloaded; else names, MTU, up states, settings, upper devices are what
    they were. Meanwhile the driver has the card, and nobody else may.
    """
    kernel = Machine(tmp_path).start(loaded=loaded)
    before = kernel.state()
    borrowed = Borrowed(ME, kernel, tmp_path / "held")
    borrowed.use([CARD])
    assert kernel.link(kernel.device(CARD) / "driver") == "exanic"
    assert kernel.state()["modules"] == ["exanic", "exasock"]
    with pytest.raises(Held, match="is taken by lab lab of bench:/here"):
        refuse_held(CARD, tmp_path / "held")
    borrowed.give_back()
    assert kernel.state() == before
    use(kernel, tmp_path)
    assert kernel.state() == before
    assert not list((tmp_path / "held").glob("*.json"))
    assert not list((kernel.sys / "class/net").glob("*/upper_*"))


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("half", [False, True])
def test_a_crash_after_every_step(tmp_path: Path, loaded: bool, half: bool) -> None:
    """Whatever change the process dies at, on either side of it: the next one finds the journal."""
    died = 0
    for at in range(1, MANY):
        root = tmp_path / str(at)
        root.mkdir()
        before = Machine(root).start(loaded=loaded).state()
        if not dies(lambda: use(Machine(root, at, half), root)):  # noqa: B023
            break
        died += 1
        for second in range(1, MANY):
            if not dies(lambda: recover(None, Machine(root, second, not half), root / "held")):  # noqa: B023
                break
        assert Machine(root).state() == before, f"died at change {at}"
    assert died >= 3


def test_a_card_that_was_passed_to_a_guest_is_given_back_first(tmp_path: Path) -> None:
    """The journal of one kind is not taken for the other's."""
    kernel = Machine(tmp_path).start(loaded=True)
    with Journal(tmp_path / "held", card.PREFIX + CARD, ME) as one:
        card.take(kernel, one, CARD)
    Borrowed(ME, kernel, tmp_path / "held").use([CARD])
    assert kernel.link(kernel.device(CARD) / "driver") == "exanic"


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Key was rejected by service", "Secure Boot refuses it"),
        ("Exec format error", "built for another kernel"),
        ("Invalid argument", "dmesg"),
    ],
)
def test_a_module_that_does_not_load(tmp_path: Path, said: str, hint: str) -> None:
    """Why, and what to do; the machine is as it was."""
    kernel = Machine(tmp_path).start(loaded=False)
    (tmp_path / "refused").write_text(f"could not insert 'exanic': {said}")
    before = kernel.state()
    with pytest.raises(LabError, match=said) as caught:
        Borrowed(ME, kernel, tmp_path / "held").use([CARD])
    assert caught.value.hint is not None and hint in caught.value.hint
    assert kernel.state() == before


def test_somebody_elses_driver(tmp_path: Path) -> None:
    """A card that a guest has is not taken from it."""
    kernel = Machine(tmp_path).start(loaded=False)
    kernel._bind(CARD, "vfio-pci")
    with pytest.raises(LabError, match="is driven by vfio-pci") as caught:
        Borrowed(ME, kernel, tmp_path / "held").use([CARD])
    assert caught.value.hint

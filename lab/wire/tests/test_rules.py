"""Rules: each kind, their order, and that a seed repeats a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from lab.card import registers as reg
from lab.card.guest import Guest
from lab.card.tests.conftest import MAC1, OTHER
from lab.wire import rules
from lab.wire.fabric import Fabric
from lab.wire.rules import RuleSet
from lab.wire.timers import Timers

Build = Callable[..., bytes]


def run(specs: list[dict[str, Any]], frames: list[bytes], seed: int = 1) -> list[bytes]:
    """What comes out of these rules at once, then when they are taken away."""
    timers = Timers()
    out: list[bytes] = []
    ruleset = RuleSet("card0:0/tx", rules.parse(specs), seed, timers, out.append)
    for item in frames:
        ruleset.process(item)
    ruleset.close()
    timers.close()
    return out


@pytest.fixture
def frames(frame: Build) -> list[bytes]:
    """Forty distinct frames."""
    return [frame(size=64 + number) for number in range(40)]


def test_loss_by_number(frames: list[bytes]) -> None:
    """Named frames vanish, the others pass."""
    out = run([{"kind": "loss", "match": {"frames": [1, 3]}}], frames[:5])
    assert out == [frames[0], frames[2], frames[4]]


def test_seed_decides(frames: list[bytes]) -> None:
    """The same seed gives the same losses; another gives others."""
    half = [{"kind": "loss", "probability": 0.5}]
    assert run(half, frames) == run(half, frames)
    assert run(half, frames) != run(half, frames, seed=2)
    assert 5 < len(run(half, frames)) < 35


def test_decision_does_not_depend_on_other_rules_randomness(frames: list[bytes]) -> None:
    """A frame's fate hangs on its number, not on how often the dice were thrown before."""
    lossy = {"kind": "loss", "probability": 0.5}
    corrupt = {"kind": "corrupt", "probability": 0.0}
    assert run([lossy, corrupt], frames) == run([lossy], frames)


def test_duplicate_then_count(frames: list[bytes]) -> None:
    """count bounds how often a rule acts."""
    out = run([{"kind": "duplicate", "copies": 2, "count": 1}], frames[:2])
    assert out == [frames[0]] * 3 + [frames[1]]


def test_reorder(frames: list[bytes]) -> None:
    """The first frame comes after the two that follow it."""
    out = run([{"kind": "reorder", "gap": 2, "count": 1}], frames[:4])
    assert out == [frames[1], frames[2], frames[0], frames[3]]


def test_pause_lets_go_in_order(frames: list[bytes]) -> None:
    """Nothing passes until the rules change; nothing is lost."""
    assert run([{"kind": "pause"}], frames) == frames


def test_corrupt_is_noticed_by_the_card(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """A flipped bit makes a bad CRC; with fix_fcs the damage passes for good."""
    fabric.rules("card0:0", [{"kind": "corrupt", "count": 1}])
    guest.send(frame())
    guest.send(frame())
    fabric.poll()
    first, second = guest.receive_all(1)
    assert (first.status, second.status) == (2, 0)
    fabric.rules("card0:0", [{"kind": "corrupt", "fix_fcs": True}])
    guest.send(frame())
    fabric.poll()
    got = guest.receive(1)
    assert got is not None and got.status == 0 and got.frame[:-4] != frame()


def test_delay(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """The frame comes from the event loop, later."""
    fabric.rules("card0:1", [{"kind": "delay", "delay_us": 2000, "direction": "rx"}])
    guest.send(frame())
    fabric.poll()
    assert guest.receive(1) is None
    for _ in range(100):
        fabric.poll(timeout=5)
        if (got := guest.receive(1)) is not None:
            break
    assert got is not None


def test_match(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """Only what is meant is hit; taking the rules away restores the wire."""
    guest.write(reg.PORT_FLAGS, 1, 1)
    fabric.rules("card0:0", [{"kind": "loss", "match": {"dst": "02:00:00:00:00:01", "ethertype": 0x88B5}}])
    for dst in (OTHER, MAC1):
        guest.send(frame(dst))
    fabric.poll()
    assert [got.frame[:6] for got in guest.receive_all(1)] == [MAC1]
    assert fabric.counters()["card0:0"]["rules_tx"]["loss"] == 1
    fabric.rules("card0:0", [])
    guest.send(frame(OTHER))
    assert guest.receive(1) is not None


@pytest.mark.parametrize("bad", [{"kind": "eat"}, {"kind": "loss", "probability": 2}, {"kind": "delay"}])
def test_bad_rules_are_refused(bad: dict[str, Any]) -> None:
    """Data from outside is checked."""
    with pytest.raises(ValidationError):
        rules.parse([bad])


def test_replaced_rules_tell_what_they_did(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """Each by itself, in order; one that no frame has met says so."""
    end = "card0:0"
    assert fabric.rules(end, [{"kind": "loss", "count": 2}, {"kind": "corrupt", "direction": "rx"}]) == []
    for _ in range(3):
        guest.send(frame(OTHER))
        fabric.poll()
    assert fabric.rules(end, []) == [
        {"end": end, "direction": "tx", "kind": "loss", "acted": 2},
        {"end": end, "direction": "rx", "kind": "corrupt", "acted": 0},
    ]

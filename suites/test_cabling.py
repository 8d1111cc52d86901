"""`lab check`: every port is proved by frames out of it and into it.

card0:0 --- sw0 --- card0:1
             |
        tester:t0
"""

from __future__ import annotations

from collections.abc import Callable

from suites import cabling
from suites.guest import health
from suites.session import Session


def test_every_port_is_proved_and_drawn(session: Session) -> None:
    """All that the lab has on its wires is found where it should be; ports that were down are down again."""
    before = {port["name"]: port["up"] for port in session.agent.call(health.ports)}
    found = cabling.prove(session.lab)
    assert found.good, found.drawing().plain
    text = found.drawing().plain
    for end, device in session.devices.items():
        (line,) = [line for line in text.splitlines() if f" {device} " in line]
        assert line.strip("├└─ ").startswith(f"✓ port {end.partition(':')[2]}")
    assert {port["name"]: port["up"] for port in session.agent.call(health.ports)} == before


def test_a_pulled_cable_is_named(session: Session, defer: Callable[..., None]) -> None:
    """The port says that it has no link; the others are well, and reach one less."""
    defer(session.control.link, "card0:1", True)
    session.control.link("card0:1", False)
    found = cabling.prove(session.lab)
    assert not found.good
    problems = {one.end: one.problems({}) for _card, ports in found.cards for one in ports}
    assert "no link" in problems["card0:1"][0]
    assert problems["card0:0"] == []
    assert "has no link" in found.drawing().plain


def test_other_wires_are_proved_as_they_are(session: Session, defer: Callable[..., None]) -> None:
    """A cable in the place of the switch: the tester is not reached, and nothing is wrong with that."""
    defer(session.control.wire, session.control.status()["wiring"])
    session.control.wire([{"kind": "cable", "ends": ["card0:0", "card0:1"]}])
    found = cabling.prove(session.lab)
    assert found.good, found.drawing().plain
    assert {one.end: one.reached for _card, ports in found.cards for one in ports} == {
        "card0:0": ["card0:1"],
        "card0:1": ["card0:0"],
    }


def test_the_emulated_card_says_what_it_can(session: Session) -> None:
    """What tests may need is asked of the driver: a clock it has, steering and hashing it has not."""
    assert {name: bool(session.can()[name]) for name in ("clock", "steering", "hash", "speed")} == {
        "clock": True,
        "steering": False,
        "hash": False,
        "speed": True,
    }

"""What is said of a port by what was seen of it."""

from __future__ import annotations

import pytest

from suites.cabling import Cabling, Found, neighbours

INTERFACES = {"card0:0": "enp5s0f0", "card0:1": "enp5s0f1"}
SEEN = {
    "link": True,
    "outside": ["card0:0"],
    "inside": ["card0:0"],
    "reached": ["tester:t0"],
    "expected": ["tester:t0"],
}


def port(**changes: object) -> Found:
    return Found("card0:0", "eth0", "enp5s0f0", True, **(SEEN | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"link": False}, "has no link: is the cable plugged in"),
        ({"outside": ["card0:1"]}, "what it sends comes out at enp5s0f1: change testers"),
        ({"inside": ["card0:1"]}, "what it hears comes in at enp5s0f1: change testers"),
        ({"outside": []}, "comes out at no interface of this machine: the cable leads elsewhere"),
        ({"outside": ["card0:0", "card0:1"]}, "more than its own; a switch or a bridge outside joins them"),
        ({"reached": []}, "reaches nobody, not tester:t0"),
        ({"device": None}, "has no net device"),
        ({"wired": False, "link": False, "outside": []}, ""),
    ],
)
def test_a_port_says_what_is_wrong_and_what_to_do(changes: dict[str, object], said: str) -> None:
    """Swapped cables, cables that lead elsewhere, switches where cables should be."""
    one = port()
    for name, value in changes.items():
        setattr(one, name, value)
    problems = one.problems(INTERFACES)
    assert bool(problems) == bool(said)
    assert said in "".join(problems)


def test_who_is_reached() -> None:
    """By a cable its other end; by a switch those whose untagged frames are in the same VLAN."""
    ports = [("card0:0", 1), ("card0:1", 1), ("tester:t0", 1), ("venue:0", 10), ("venue:1", None)]
    switch = {"kind": "switch", "name": "s", "ports": [{"end": end, "pvid": vlan} for end, vlan in ports]}
    cable = {"kind": "cable", "ends": ["a:0", "b:1"]}
    assert neighbours("card0:0", [cable, switch]) == ["card0:1", "tester:t0"]
    assert neighbours("venue:0", [switch]) == neighbours("venue:1", [switch]) == []
    assert neighbours("b:1", [switch, cable]) == ["a:0"]
    assert neighbours("c:0", [switch, cable]) == []


def test_what_was_found_is_drawn() -> None:
    """A line for each port, whole however narrow the terminal, and under it what is wrong."""
    ports = [port(), port(outside=["card0:1"]), Found("card0:2", "eth2", None, False)]
    found = Cabling("lab lab", [("card0  X25  real", ports)], INTERFACES)
    assert not found.good
    assert found.drawing().plain.splitlines() == [
        "card0  X25  real",
        "├── ✓ port 0  eth0  link  ⇄ enp5s0f0  → tester:t0",
        "├── ✗ port 0  eth0  link  ⇄ enp5s0f1  → tester:t0",
        "│     what it sends comes out at enp5s0f1: change testers in lab/lab.toml, or the cables",
        "└── ✓ port 2  eth2  not cabled to this machine",
    ]

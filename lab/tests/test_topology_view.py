"""The drawing of a lab: everything in it is drawn, in text and in the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from rich.console import Console

from lab.config import Config, load, parse
from lab.paths import ROOT
from lab.state import State
from lab.topology_view import as_svg, as_text, view

SVG = "{http://www.w3.org/2000/svg}"


def state(config: Config, driver: bool = True) -> State:
    """The state of a lab with this configuration, as `up` writes it."""
    guest: dict[str, Any] = {
        "cards": [
            {"card": n, "pci": f"0000:0{n + 1}:00.0", "driver": "exanic"} for n in range(len(config.cards))
        ],
        "ports": [
            {"card": n, "port": p, "netdev": f"eth{2 * n + p}", "mac": f"64:3f:5f:e8:0{n}:0{p}"}
            for n, card in enumerate(config.cards)
            for p in range(card.ports)
        ],
    }
    facts = {
        "cards": [{"name": card.name, "model": card.model, "ports": card.ports} for card in config.emulated],
        "wiring": [segment.model_dump() for segment in config.wiring.segments],
        "guest": guest if driver else {"cards": [], "ports": []},
    }
    return State("lab", "up", facts=facts)


LABS = {
    "built-in": parse("", "x"),
    "example": load(ROOT / "lab/lab.toml.example"),
    "no wires": parse("[[cable]]\nends = ['card0:0', 'tester:a']\n", "x"),
    "many": parse("[[card]]\n" * 8, "x"),
}


def words(text: object) -> str:
    console = Console(width=200, record=True, file=None)
    with console.capture() as captured:
        console.print(text)
    return captured.get()


@pytest.mark.parametrize("name", LABS)
@pytest.mark.parametrize("driver", [True, False])
def test_everything_is_drawn(name: str, driver: bool) -> None:
    """Every card, port, wire and tester appears, in both drawings."""
    config = LABS[name]
    what = view(state(config, driver))
    text, svg = words(as_text(what)), as_svg(what, "6.12")
    root = ET.fromstring(svg)
    written = " ".join("".join(element.itertext()) for element in root.iter(f"{SVG}text"))
    for card in config.emulated:
        assert card.name in text and f"{card.name} {card.model}" in " ".join(written.split())
    if driver:
        for port in what.cards[0].ports:
            assert port.netdev and port.netdev in text and port.netdev in written
            assert port.mac and port.mac in text and port.mac in written
    for tester in config.testers:
        assert f"tester {tester}" in text and f"tester {tester}" in written
    lines = [path for path in root.iter(f"{SVG}path") if path.get("stroke")]
    switched = sum(len(wire.plugs) for wire in what.wires if wire.kind == "switch")
    cables = sum(1 for wire in what.wires if wire.kind == "cable")
    assert len(lines) == switched + cables


def test_unplugged_port_says_so() -> None:
    assert "no wire" in words(as_text(view(state(LABS["no wires"]))))


def test_cable_names_its_other_end() -> None:
    text = words(as_text(view(state(LABS["example"]))))
    assert "cable 0 to venue:0" in text
    assert "cable 0 to card0:0" in text


def test_vlans_in_words() -> None:
    """What a switch port does with frames can be read off the drawing."""
    text = words(as_text(view(state(LABS["example"]))))
    assert "untagged 10, tags 20 30" in text
    assert "untagged 1, all tags" in text


def test_a_real_card_says_so() -> None:
    """Where it is in this machine, and which interface each port is cabled to."""
    config = parse("card = '3b:00.0'\ntesters = ['enp5s0f0', '']\n", "x")
    card = {"name": "card0", "kind": "real", "model": "X40", "ports": 2, "pci": "0000:3b:00.0"}
    facts = {"cards": [card | {"testers": ["enp5s0f0", ""]}]}
    facts["wiring"] = [segment.model_dump() for segment in config.wiring.segments]
    what = view(State("lab", "up", facts=facts))
    text, svg = words(as_text(what)), as_svg(what)
    assert "real, 0000:3b:00.0 of this machine" in text
    (first, second) = [line for line in text.splitlines() if "port " in line]
    assert "enp5s0f0" in first and "switch sw0" in first
    assert "no wire" in second
    assert "real · 0000:3b:00.0" in svg and "enp5s0f0" in svg

"""What a lab tells of real cards once the guest has seen them."""

from __future__ import annotations

from lab.real.facts import addresses, learn, model

CARDS = [
    {"name": "card0", "kind": "emulated", "model": "X25", "ports": 2},
    {"name": "card1", "kind": "real", "model": "X40", "ports": 1, "testers": ["", "e1"]},
]
GUEST = {
    "cards": [{"card": 0, "id": "1ce4:0009"}, {"card": 1, "id": "1ce4:000a"}],
    "ports": [
        {"card": 0, "port": 0, "mac": "a"},
        {"card": 1, "port": 0, "mac": "b"},
        {"card": 1, "port": 1, "mac": "c"},
        {"card": 1, "port": 7, "mac": "d"},
    ],
}


def test_the_driver_knows_model_and_ports() -> None:
    """Of a real card: a QSFP cage may be one port or four. An emulated one is what it was made."""
    assert [(card["model"], card["ports"]) for card in learn(CARDS, GUEST)] == [("X25", 2), ("X100", 8)]
    assert learn(CARDS, {"cards": [], "ports": []}) == CARDS


def test_ports_on_the_wire_by_address() -> None:
    """Only what is cabled to this machine is an end of the lab's wires."""
    assert addresses({"cards": CARDS, "guest": GUEST}) == {"card1:1": "c"}
    assert addresses({}) == {}


def test_models_by_pci_id() -> None:
    """What is no card keeps its id."""
    assert [model(one) for one in ("1ce4:0005", "8086:0005", "1ce4:7777", "x")] == [
        "X40", "8086:0005", "1ce4:7777", "x",
    ]  # fmt: skip

"""What a lab tells of its real cards, and where a booted guest's answers go."""

from __future__ import annotations

from typing import Any

from lab.real.device import MODELS, VENDOR


def model(pci_id: str) -> str:
    """The model of a PCI id (``1ce4:0009``); the id itself when it is no card's."""
    vendor, _, device = pci_id.partition(":")
    try:
        known = MODELS.get(int(device, 16)) if int(vendor, 16) == VENDOR else None
    except ValueError:
        known = None
    return known or pci_id


def learn(cards: list[dict[str, Any]], guest: dict[str, Any]) -> list[dict[str, Any]]:
    """The cards of a lab's facts with what the guest saw of real ones: their model, and how many ports."""
    found = []
    for number, card in enumerate(cards):
        if card.get("kind") == "real":
            ports = [int(one["port"]) for one in guest.get("ports", []) if one.get("card") == number]
            ids = [str(one["id"]) for one in guest.get("cards", []) if one.get("card") == number]
            card = {
                **card,
                "ports": max([int(card["ports"]), *(port + 1 for port in ports)]),
                "model": model(ids[0]) if ids else card["model"],
            }
        found.append(card)
    return found


def addresses(facts: dict[str, Any]) -> dict[str, str]:
    """The MAC address of each port of the real cards, as the guest's driver has it: {"card0:0": …}.

    The ports of a real card that are not cabled to this machine are no ends of the lab's wires: they are
    left out.
    """
    found = {}
    for port in facts.get("guest", {}).get("ports", []):
        cards = facts.get("cards", [])
        if port["card"] >= len(cards) or cards[port["card"]].get("kind") != "real":
            continue
        card = cards[port["card"]]
        if port["port"] < len(card["testers"]) and card["testers"][port["port"]]:
            found[f"{card['name']}:{port['port']}"] = str(port["mac"])
    return found

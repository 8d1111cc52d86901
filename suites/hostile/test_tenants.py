"""Hostile tenants: whatever one does, nobody else loses anything, hears of it, or pays for it.

What stands is drawn in ``suites/hostile/world.py``; the attacks are in ``suites/hostile/attacks.py``.
The share that a victim keeps is of what its reader was in time for: what its own process was late for (it
slept, its heartbeat was old, its queue was not empty) is left out, and told in the record. So a tenant that
takes processor time is not seen here, but in the bench's rate. Where the attacker speaks in the victim's own
segment nothing is asked of the share, only that nothing is lost. ``make hostile ATTACK=60`` is the same, each
attack for a minute (``--attack-seconds``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from suites.driver import guest_exanic
from suites.guest import exasock
from suites.hostile import guest_card, guest_devices
from suites.hostile.attacks import CARD, DEVICES, HARMLESS, ROOT_SOCKETS, SOCKETS, WIRE, Attack
from suites.hostile.world import World

Made = Callable[[Sequence[Attack]], None]


@pytest.fixture
def withstood(
    world: World,
    attack_seconds: float,
    chosen: frozenset[str],
    record_property: Callable[[str, Any], None],
) -> Made:
    """Each attack in turn; what is to be said against any of them is told at the end."""

    def made(attacks: Sequence[Attack]) -> None:
        found = world.beside(HARMLESS, attack_seconds)
        for attack in attacks:
            if not chosen or attack.name in chosen:
                found += world.beside(attack, attack_seconds)
        found += world.leaks()
        record_property("attacks", "; ".join(world.told))
        assert not found, "\n".join(found)

    return made


def on(where: str, capabilities: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", [(where, capabilities)], ids=[capabilities], indirect=True)


@on("shared", "root")
def test_what_a_tenant_does_with_its_devices(withstood: Made) -> None:
    """B3, B5, B8: a VLAN's owner sets it up and down, renames, moves and readdresses it, and has macvlans
    come and go: others on the port keep their fast path and lose nothing."""
    withstood(DEVICES)


@on("shared", "container")
def test_what_comes_for_a_tenant_from_the_wire(withstood: Made) -> None:
    """B3: floods of fragments, options and new sources for one tenant cost nobody else the fast path;
    segments forged for a connection harm none of its bytes."""
    withstood(WIRE)


@on("shared", "nobody")
def test_what_a_tenant_does_with_sockets(world: World, withstood: Made) -> None:
    """B1, B2, B4, B6: lying control pages, hostile calls, deaths in the middle, everything hoarded: others
    work on, newcomers are accelerated, and when it is gone nothing of it is left."""
    withstood(SOCKETS)
    world.tenant.worker.close()
    left = [one for one in world.session.agent.call(exasock.accelerated) if one["netns"] not in world.cookies]
    assert left == []


@on("shared", "root")
def test_a_tenant_stays_in_its_namespace(withstood: Made) -> None:
    """N1, N6, B8: no call, descriptor or listing leads a tenant out of its own namespaces."""
    withstood(ROOT_SOCKETS)


@on("own", "root")
def test_what_a_tenant_does_with_a_port(world: World, withstood: Made) -> None:
    """B4, B6, B8: the owner of a port, with the card's device file, cannot touch the other port, and what it
    had of the card is the host's again when it lets go."""
    agent = world.session.agent
    agent.load(guest_exanic, guest_devices, guest_card)
    before, card = agent.call(guest_card.available, port=0), world.card()
    withstood(CARD)
    assert agent.call(guest_card.available, port=0) == before
    assert world.card() == card

"""What a victim keeps beside hostile tenants: its share past the kernel, and its rate.

The attacks are those of ``suites/hostile``, by turns with a harmless neighbour, in one lab.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from lab.errors import LabError
from suites.bench.udp import Figures, Remarks, parameters
from suites.exasock.compare import SPINNING
from suites.hostile import world as worlds
from suites.hostile.attacks import CARD, DEVICES, HARMLESS, SOCKETS, WIRE, Attack
from suites.hostile.world import PATIENCE, World
from suites.outside import Outside
from suites.place import Placed
from suites.session import Session
from suites.topology import Topology

#: Seconds of an attack; how often each is made.
SECONDS, ROUNDS = 3.0, 3
Made = Callable[[Session, Callable[[Topology], Placed], Outside], World]
WORLDS: tuple[tuple[str, Made, Sequence[Attack]], ...] = (
    ("a VLAN of the victim's port", worlds.shared_port("root"), (*DEVICES, *WIRE, *SOCKETS)),
    ("the other port", worlds.own_port("root"), CARD),
)


class Kept:
    """Of each attack the least share and the rates, and those beside the harmless neighbour."""

    def __init__(self) -> None:
        self.shares: dict[str, float] = {}
        self.rates: dict[str, float] = {}

    def attacked(self, world: World, attacks: Sequence[Attack]) -> None:
        """All of them, ROUNDS times. LabError when the victim lost anything, or an attack did not act."""
        rates: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for attack in (HARMLESS, *attacks):
                if found := world.beside(replace(attack, shares=False), SECONDS):
                    raise LabError("; ".join(found))
                rates.setdefault(attack.name, []).append(world.rates[attack.name])
                if attack.shares:
                    share = self.shares.get(attack.name, 1.0)
                    self.shares[attack.name] = min(share, world.shares[attack.name])
        usual = statistics.median(rates.pop(HARMLESS.name))
        for name, found_rates in rates.items():
            self.rates[name] = statistics.median(found_rates) / usual


def victims(session: Session) -> tuple[Figures, Remarks]:
    """A victim beside hostile tenants"""
    kept = Kept()
    paths = session.lab.paths
    for _where, made, attacks in WORLDS:
        with ExitStack() as stack:
            stack.enter_context(parameters(session, **PATIENCE))
            wire = Outside(paths.testers / "t0.sock", paths.capture, session.control)
            stack.callback(wire.close)

            def place(topology: Topology, stack: ExitStack = stack) -> Placed:
                standing = Placed(session, topology)
                stack.callback(standing.destroy)
                return standing

            stack.callback(session.end_programs, SPINNING)
            world = made(session, place, wire)
            stack.enter_context(worlds.standing(world))
            kept.attacked(world, attacks)
    shares, rates = kept.shares, kept.rates
    weakest, slowest = min(shares, key=shares.__getitem__), min(rates, key=rates.__getitem__)
    return {
        "victim_fast_share_min": shares[weakest],
        "victim_rate_under_attack_min": rates[slowest],
    }, {
        "victim_fast_share_min": f"past the kernel, over that beside a harmless neighbour; least: {weakest}",
        "victim_rate_under_attack_min": f"median of {ROUNDS} rounds over the harmless neighbour's; least: "
        f"{slowest}; the tenant's own processor time is among what it costs",
    }

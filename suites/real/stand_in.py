"""A lab with a real card, of which only VFIO is not real: an emulated card, cabled to this machine's
interfaces, plays it.

    python -m suites.real.stand_in NAME CONFIG

CONFIG is a lab.toml with one real card, whose testers are veth devices; the far end of each (its name with
an x behind) is the card's port. Everything else is the lab's own: interfaces are borrowed, the wire is
outside the card, and the suites see a card that is real.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lab import config as configs
from lab import console, up
from lab.config import Config, RealCard
from lab.machine import accelerator, command, sandbox
from lab.machine.sandbox import Bind
from lab.paths import Paths
from lab.supervisor import Plan

#: The emulated card's own name, which only cardd knows.
PLAYER = "player"
MODEL = "X25"

_spec, _plan, _tools = up.cardd_spec, up.make_plan, sandbox.tools_argv


def _slot(paths: Paths, card: configs.Card | RealCard) -> command.CardSlot:
    return command.CardSlot(card.name, paths.card(card.name))


def _with_player(paths: Paths, config: Config) -> dict[str, Any]:
    """cardd's work, with the card that plays, and its ports cabled to the far ends."""
    spec = _spec(paths, config)
    (card,) = config.real
    mac = f"{configs.MAC_PREFIX}:f0:00"
    spec["cards"].append(
        {
            "name": PLAYER,
            "model": MODEL,
            "serial": "EPLAYER",
            "mac": mac,
            "socket": str(paths.card(card.name)),
        }
    )
    for port in card.wired:
        end = f"far:{port}"
        spec["nics"].append({"end": end, "interface": f"{card.testers[port]}x"})
        spec["wiring"].append({"kind": "cable", "ends": [end, f"{PLAYER}:{port}"]})
    return spec


def _without_vfio(
    paths: Paths,
    config: Config,
    images: up.Images,
    found: accelerator.Found,
    profile: command.Profile,
    models: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    plan = _plan(paths, config, images, found, profile, models)
    return replace(
        plan, real_cards=(), interfaces=(*plan.interfaces, *(f"{one}x" for one in plan.interfaces))
    )


def _tools_argv(
    tools: Path, argv: Sequence[str], binds: Iterable[Bind] = (), *, vfio: bool = False
) -> list[str]:
    return _tools(tools, argv, binds)


def install() -> None:
    """Put the stand-in in the place of VFIO."""
    up.slot = _slot
    up.cardd_spec = _with_player
    up.make_plan = _without_vfio
    vars(up)["tools_argv"] = _tools_argv
    up.real_models = lambda config: {card.pci: MODEL for card in config.real}


def main() -> None:
    name, file = sys.argv[1], Path(sys.argv[2])
    install()
    with console.reporting():
        up.up(Paths(name), config=configs.load(file), keep_images=True)


if __name__ == "__main__":
    main()

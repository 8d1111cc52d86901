"""A lab with a real card, of which only VFIO is not real: an emulated card, cabled to this machine's
interfaces, plays it.

    python -m suites.real.stand_in NAME CONFIG

CONFIG is a lab.toml with one real card, whose testers are veth devices; the far end of each (its name with
an x behind) is the card's port. Everything else is the lab's own: interfaces are borrowed, the wire is
outside the card, and the suites see a card that is real.
"""

from __future__ import annotations

import json
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

#: The emulated card's own name, on a wire of its own.
PLAYER = "player"
MODEL = "X25"

_plan, _tools = up.make_plan, sandbox.tools_argv


def _slot(paths: Paths, card: configs.Card | RealCard) -> command.CardSlot:
    return command.CardSlot(card.name, paths.card(card.name))


def control(paths: Paths) -> Path:
    """Where the player's own wire is spoken to; its ports are ``player:0``, its cables' ends ``far:0``."""
    return paths.run / "player.sock"


def _spec(paths: Paths) -> Path:
    return paths.out / "player.json"


def player(paths: Paths, config: Config) -> dict[str, Any]:
    """The card that plays, each port cabled to the far end of its veth."""
    (card,) = config.real
    mac = f"{configs.MAC_PREFIX}:f0:00"
    socket = str(paths.card(card.name))
    return {
        "cards": [{"name": PLAYER, "model": MODEL, "serial": "EPLAYER", "mac": mac, "socket": socket}],
        "nics": [{"end": f"far:{port}", "interface": f"{card.testers[port]}x"} for port in card.wired],
        "wiring": [{"kind": "cable", "ends": [f"far:{port}", f"{PLAYER}:{port}"]} for port in card.wired],
        "control": str(control(paths)),
    }


def _without_vfio(
    paths: Paths,
    config: Config,
    images: up.Images,
    found: accelerator.Found,
    profile: command.Profile,
    models: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    plan = _plan(paths, config, images, found, profile, models)
    _spec(paths).write_text(json.dumps(player(paths, config)), encoding="utf-8")
    cardd = (sys.executable, "-m", "suites.real.player", str(_spec(paths)), str(paths.spec))
    far = tuple(f"{one}x" for one in plan.interfaces)
    return replace(plan, cardd=cardd, real_cards=(), interfaces=(*plan.interfaces, *far))


def _tools_argv(
    tools: Path, argv: Sequence[str], binds: Iterable[Bind] = (), *, vfio: bool = False
) -> list[str]:
    return _tools(tools, argv, binds)


def install() -> None:
    """Put the stand-in in the place of VFIO."""
    up.slot = _slot
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

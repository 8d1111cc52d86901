"""``reference/faults``: what the wire and the emulated card can do wrong on request."""

from __future__ import annotations

import inspect
from typing import get_args

from docs.generate import Undocumented, table
from lab.wire.fabric import _FAULTS
from lab.wire.rules import Match, Rule, RuleCounters

#: What each fault of the card does.
CARD = {
    "bad_frame": "The port's next `count` frames are reported as bad: `aborted`, `bad_crc` or `overflow`.",
    "gone": "Every read answers all ones, as when the card is off the bus; `on=false` brings it back.",
    "module": "The port's SFP module is taken out or put in.",
    "interrupts": "Interrupts come late, more than once, or not at all. Without arguments: as usual again.",
    "stall": "The port stops serving transmit commands until `on=false`.",
    "lap": "The card overtakes the driver in the RX ring.",
    "reset": "The card is reset, as by its own register.",
}


def rules() -> list[tuple[str, str, str]]:
    rows = []
    for rule in get_args(get_args(Rule)[0]):
        own = [
            name
            for name in rule.model_fields
            if name not in ("kind", "direction", "probability", "count", "match")
        ]
        told = (rule.__doc__ or "").replace("``", "`")
        rows.append((f"`{rule.model_fields['kind'].default}`", told, ", ".join(f"`{name}`" for name in own)))
    return rows


def faults() -> list[tuple[str, str, str]]:
    if _FAULTS.keys() != CARD.keys():
        raise Undocumented(
            f"faults: {sorted(_FAULTS.keys() ^ CARD.keys())}: change CARD in docs/generate/faults.py"
        )
    rows = []
    for name, do in _FAULTS.items():
        signature = inspect.signature(do)
        words = [
            f"`{one.name}`" if one.default is one.empty else f"`{one.name}={one.default}`"
            for one in list(signature.parameters.values())[1:]
        ]
        rows.append((f"`{name}`", CARD[name], ", ".join(words)))
    return rows


def page() -> str:
    matches = ", ".join(f"`{name}`" for name in Match.model_fields)
    counted = ", ".join(f"`{name}`" for name in RuleCounters.__dataclass_fields__)
    return f"""# Faults

Made from the code. [Inject a fault](../how-to/fault.md) shows how.

## Rules of the wire

A rule belongs to one end and one direction: `tx`, frames that the end sends, or `rx`, frames sent to it.
Each rule may have a `probability` (1), a `count` (how often it acts at most) and a `match`: {matches}.

{table(("kind", "what happens", "parameters"), rules())}

Counted for each end: {counted}.

## Faults of the card

`python -m lab card fault CARD KIND NAME=VALUE…`, or `session.control.fault(card, kind, …)` in a test.

{table(("kind", "what happens", "parameters"), faults())}
"""

"""``python -m lab card …``: look at, and meddle with, the hardware of a running lab.

:func:`group` makes the commands; the caller says how a control socket is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from lab.cardd.control import Control
from lab.console import out

Locate = Callable[[], Path]


def group(locate: Locate) -> click.Group:
    """The ``card`` commands; ``locate`` gives the control socket of the lab that is meant."""

    @click.group(name="card")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    @click.pass_context
    def card(context: click.Context, as_json: bool) -> None:
        """The emulated cards and their wire."""
        context.obj = _View(locate, as_json)

    for command in _COMMANDS:
        card.add_command(command)
    return card


class _View:
    """How commands reach the daemon and show what it says."""

    def __init__(self, locate: Locate, as_json: bool) -> None:
        self._locate = locate
        self._json = as_json

    def call(self, method: str, **params: Any) -> Any:
        with Control(self._locate()) as control:
            return control.call(method, **params)

    def show(self, data: Any, *columns: str) -> None:
        """Rows (a list of objects) as a table of ``columns``, or everything as JSON."""
        if self._json:
            click.echo(json.dumps(data, indent=2))
            return
        table = Table(*columns, box=None, header_style="bold")
        for row in data:
            table.add_row(*(_text(row.get(column)) for column in columns))
        out.print(table)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items() if item) or "-"
    return str(value)


def _parse(text: str, what: str) -> Any:
    """JSON from the command line, or from the file after ``@``."""
    try:
        return json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as problem:
        raise click.BadParameter(f"{what} is not JSON: {problem}") from problem


@click.command()
@click.pass_obj
def status(view: _View) -> None:
    """Show the cards: model, serial, who is connected."""
    found = view.call("status")
    if view._json:
        view.show(found)
        return
    view.show(found["cards"], "name", "model", "serial", "mac", "connected", "clients", "present")
    out.print(f"core {found['core']}, seed {found['seed']}, up {found['uptime_s']:.0f} s, pid {found['pid']}")


@click.command()
@click.pass_obj
def ports(view: _View) -> None:
    """Show every end of the wire with its link."""
    view.show(view.call("ports"), "end", "link", "up", "speed", "mac", "interface", "peer")


@click.command()
@click.argument("end")
@click.argument("state", type=click.Choice(["up", "down"]))
@click.pass_obj
def link(view: _View, end: str, state: str) -> None:
    """Pull the cable of END (card0:1, tester:t0), or plug it in."""
    view.call("link", end=end, up=state == "up")


@click.command()
@click.argument("segments", required=False)
@click.pass_obj
def wire(view: _View, segments: str | None) -> None:
    """Show the wiring, or replace it by SEGMENTS (JSON, or @FILE).

    Example: '[{"kind": "cable", "ends": ["card0:0", "card0:1"]}]'
    """
    if segments is None:
        click.echo(json.dumps(view.call("status")["wiring"], indent=2))
    else:
        view.call("wire", segments=_parse(segments, "SEGMENTS"))


@click.command()
@click.argument("end")
@click.argument("rules")
@click.pass_obj
def rules(view: _View, end: str, rules: str) -> None:
    """Replace the rules of END by RULES (JSON, or @FILE; [] removes them).

    Example: card0:0 '[{"kind": "loss", "probability": 0.1, "direction": "rx"}]'
    """
    view.call("rules", end=end, rules=_parse(rules, "RULES"))


@click.command()
@click.argument("end")
@click.argument("frame")
@click.option("--sealed", is_flag=True, help="FRAME already ends with its FCS.")
@click.pass_obj
def inject(view: _View, end: str, frame: str, sealed: bool) -> None:
    """Deliver a frame (hexadecimal, from the destination address on) at END."""
    view.call("inject", end=end, frame=frame, sealed=sealed)


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show zeros too.")
@click.pass_obj
def counters(view: _View, everything: bool) -> None:
    """Show all counters."""
    found = view.call("counters")
    if view._json:
        view.show(found)
        return
    rows = []
    for name, values in found.items():
        flat = values if everything else {key: value for key, value in values.items() if value}
        rows.append({"where": name, "counters": flat})
    view.show(rows, "where", "counters")


@click.command()
@click.argument("card")
@click.pass_obj
def registers(view: _View, card: str) -> None:
    """Show the registers of CARD."""
    found = view.call("registers", card=card)
    if view._json:
        view.show(found)
        return
    view.show(
        [{"register": name, "value": f"0x{value:08x}"} for name, value in found.items()], "register", "value"
    )


@click.command()
@click.argument("card")
@click.argument("kind")
@click.argument("args", nargs=-1, metavar="[NAME=VALUE]...")
@click.pass_obj
def fault(view: _View, card: str, kind: str, args: tuple[str, ...]) -> None:
    """Make CARD misbehave: bad_frame, gone, module, interrupts, stall, lap, reset.

    Example: card0 bad_frame port=1 count=3
    """
    values: dict[str, Any] = {}
    for item in args:
        name, equals, value = item.partition("=")
        if not equals:
            raise click.BadParameter(f"{item!r} is not NAME=VALUE")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    view.call("fault", card=card, kind=kind, args=values)


@click.command()
@click.pass_obj
def flush(view: _View) -> None:
    """Write to disk everything captured so far."""
    view.call("flush")


@click.command()
@click.argument("action", type=click.Choice(["on", "off", "dump"]))
@click.pass_obj
def trace(view: _View, action: str) -> None:
    """Dump the last register accesses to files, or turn recording off or on."""
    if action == "dump":
        for name in view.call("trace_dump"):
            click.echo(name)
    else:
        view.call("trace", on=action == "on")


_COMMANDS = (status, ports, link, wire, rules, inject, counters, registers, fault, flush, trace)

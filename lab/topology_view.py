"""The lab drawn: cards, ports, wires, testers, as text for a terminal and as a picture.

Both are made from one :class:`View`, which is made from a lab's state (``out/labs/NAME/state.json``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from lab.state import State


@dataclass(frozen=True)
class Port:
    """A port of a card. ``netdev`` is None until the driver made one; ``interface``: this machine's that is
    cabled to a real one."""

    end: str
    number: int
    netdev: str | None = None
    mac: str | None = None
    interface: str | None = None


@dataclass(frozen=True)
class Card:
    name: str
    model: str
    pci: str | None
    driver: str | None
    ports: tuple[Port, ...]
    kind: str = "emulated"
    host_pci: str | None = None
    host: str | None = None

    @property
    def about(self) -> str:
        """Its kind; of a real one, where it is in this machine, or in the lab's host."""
        if not self.host_pci:
            return self.kind
        return f"{self.kind}, {self.host_pci} of {'host ' + self.host if self.host else 'this machine'}"


@dataclass(frozen=True)
class Plug:
    """An end in a wire; ``vlans`` says how a switch takes its frames, empty for a cable."""

    end: str
    vlans: str = ""


@dataclass(frozen=True)
class Wire:
    """A cable (two plugs) or a switch."""

    kind: str
    name: str
    plugs: tuple[Plug, ...]


@dataclass(frozen=True)
class View:
    """Everything there is to draw."""

    title: str
    cards: tuple[Card, ...]
    wires: tuple[Wire, ...]

    @property
    def testers(self) -> list[str]:
        """Names of the testers, in the order of the wires."""
        ends = [plug.end for wire in self.wires for plug in wire.plugs]
        return [end.removeprefix("tester:") for end in ends if end.startswith("tester:")]

    def wire_of(self, end: str) -> tuple[Wire, Plug] | None:
        """The wire an end is plugged into, or None."""
        return next(((w, p) for w in self.wires for p in w.plugs if p.end == end), None)


def view(state: State) -> View:
    """What the state of a lab says; devices of the guest are missing until it is up."""
    facts = state.facts
    guest = facts.get("guest", {})
    cards = []
    for number, card in enumerate(facts.get("cards", [])):
        pci: dict[str, Any] = next((one for one in guest.get("cards", []) if one["card"] == number), {})
        netdevs = {one["port"]: one for one in guest.get("ports", []) if one["card"] == number}
        ports = tuple(
            Port(
                f"{card['name']}:{port}",
                port,
                netdevs.get(port, {}).get("netdev"),
                netdevs.get(port, {}).get("mac"),
                dict(enumerate(card.get("testers", []))).get(port) or None,
            )
            for port in range(card["ports"])
        )
        kind = card.get("kind", "emulated")
        name, model, driver = card["name"], card["model"], pci.get("driver")
        where = card.get("pci")
        cards.append(Card(name, model, pci.get("pci"), driver, ports, kind, where, facts.get("host")))
    wires = tuple(_wire(number, segment) for number, segment in enumerate(facts.get("wiring", [])))
    return View(f"lab {state.name}", tuple(cards), wires)


def _wire(number: int, segment: dict[str, Any]) -> Wire:
    if segment["kind"] == "cable":
        return Wire("cable", f"cable {number}", tuple(Plug(end) for end in segment["ends"]))
    plugs = tuple(Plug(port["end"], vlans(port)) for port in segment["ports"])
    return Wire("switch", f"switch {segment['name']}", plugs)


def vlans(port: dict[str, Any]) -> str:
    """How a switch port takes frames, in few words: ``untagged 1, all tags``."""
    untagged = f"untagged {port['pvid']}" if port.get("pvid") is not None else "no untagged"
    tagged = port.get("tagged", "all")
    if tagged == "all":
        return f"{untagged}, all tags"
    return f"{untagged}, tags {' '.join(map(str, tagged))}" if tagged else untagged


def as_text(what: View) -> RenderableType:
    """Cards with their ports and where each port's wire goes; then what else hangs on the wires."""
    parts: list[RenderableType] = []
    width = max((len(port.netdev or "-") for card in what.cards for port in card.ports), default=1)
    for card in what.cards:
        head = Text.assemble((card.name, "bold"), f"  {card.model}", (f"  {card.about}", "dim"))
        if card.pci:
            head.append(f"  {card.pci}", "dim")
        head.append(
            f"  driver {card.driver}" if card.driver else "  no driver", "" if card.driver else "yellow"
        )
        tree = Tree(head, guide_style="dim")
        for port in card.ports:
            tree.add(_port_line(what, port, width))
        parts.append(tree)
    for name in what.testers:
        found = what.wire_of(f"tester:{name}")
        line = Text.assemble((f"tester {name}", "bold"), ("  scapy speaks here", "dim"))
        if found:
            line.append(_goes_to(*found), "cyan")
        parts.append(line)
    return Group(*parts)


def _port_line(what: View, port: Port, width: int) -> Text:
    line = Text.assemble(
        f"port {port.number}  ", (f"{port.netdev or '-':{width}}", "green"), f"  {port.mac or '-':17}"
    )
    if port.interface:
        line.append(f"  ── {port.interface}", "magenta")
    found = what.wire_of(port.end)
    if found is None:
        line.append("  no wire", "dim")
    else:
        line.append(_goes_to(*found), "cyan")
        wire, plug = found
        if wire.kind == "cable":
            other = next(one.end for one in wire.plugs if one is not plug)
            line.append(f" to {other}")
    return line


def _goes_to(wire: Wire, plug: Plug) -> str:
    return f"  ── {wire.name}" + (f" ({plug.vlans})" if plug.vlans else "")


# The picture. Three columns: cards, wires, testers. Lengths in pixels.
_CARD_WIDTH, _PORT_HEIGHT, _HEAD_HEIGHT = 330, 46, 50
_GAP, _MARGIN, _COLUMN_GAP = 34, 36, 130
_WIRE_WIDTH, _TESTER_WIDTH, _PLUG_HEIGHT = 320, 150, 26
_INK, _SOFT, _PAPER = "#1f2933", "#6b7785", "#ffffff"
_CARD_FILL, _PORT_FILL, _WIRE_FILL, _TESTER_FILL = "#e8eef7", "#ffffff", "#e5f2ea", "#fbeedd"
_LINE = ("#3f6fb5", "#2f8a5b", "#b5713f", "#7a4fb5", "#b53f5e", "#3f9fb5")
_FONT = "DejaVu Sans, Verdana, sans-serif"


@dataclass(frozen=True)
class _Spot:
    """Where a line meets a box, and from which side."""

    x: float
    y: float
    right: bool


def as_svg(what: View, subtitle: str = "") -> str:
    """The picture as SVG text."""
    import drawsvg

    switches = [wire for wire in what.wires if wire.kind == "switch"]
    testers = what.testers
    card_heights = [_HEAD_HEIGHT + _PORT_HEIGHT * len(card.ports) + 10 for card in what.cards]
    switch_heights = [_switch_height(wire) for wire in switches]
    tester_heights = [56 for _ in testers]
    columns: list[Sequence[float]] = [card_heights, switch_heights, tester_heights]
    body = max((sum(heights) + _GAP * (len(heights) - 1) for heights in columns if heights), default=40)
    top = 78
    height = top + body + _MARGIN
    wires_x = _MARGIN + _CARD_WIDTH + _COLUMN_GAP
    testers_x = wires_x + _WIRE_WIDTH + _COLUMN_GAP
    width = testers_x + _TESTER_WIDTH + _MARGIN
    drawing = drawsvg.Drawing(width, height, font_family=_FONT)
    drawing.append(drawsvg.Rectangle(0, 0, width, height, fill=_PAPER))
    drawing.append(drawsvg.Text(what.title, 20, _MARGIN, 40, fill=_INK, font_weight="bold"))
    drawing.append(drawsvg.Text(subtitle, 12, _MARGIN, 60, fill=_SOFT))
    spots: dict[str, _Spot] = {}
    boxes: list[Any] = []
    for card, y in zip(what.cards, _stacked(card_heights, top, body), strict=True):
        boxes += _card_box(drawsvg, card, y, spots)
    for name, y in zip(testers, _stacked(tester_heights, top, body), strict=True):
        boxes += _box(drawsvg, testers_x, y, _TESTER_WIDTH, 56, _TESTER_FILL)
        boxes += _centred(drawsvg, f"tester {name}", testers_x + _TESTER_WIDTH / 2, y + 25, 14, bold=True)
        boxes += _centred(drawsvg, "scapy", testers_x + _TESTER_WIDTH / 2, y + 43, 11, soft=True)
        spots[f"tester:{name}"] = _Spot(testers_x, y + 28, right=False)
    lines: list[Any] = []
    colours = iter(range(10**6))
    for wire, y, tall in zip(switches, _stacked(switch_heights, top, body), switch_heights, strict=True):
        boxes += _box(drawsvg, wires_x, y, _WIRE_WIDTH, tall, _WIRE_FILL)
        boxes += _centred(drawsvg, wire.name, wires_x + _WIRE_WIDTH / 2, y + 24, 14, bold=True)
        lines += _switch_lines(drawsvg, wire, wires_x, y, spots, colours)
    for wire in what.wires:
        if wire.kind == "cable":
            lines += _cable_line(drawsvg, wire, spots, _LINE[next(colours) % len(_LINE)])
    for item in (*boxes, *lines):
        drawing.append(item)
    return str(drawing.as_svg())


def _stacked(heights: Sequence[float], top: float, body: float) -> list[float]:
    """The y of each box of a column, the column centred."""
    total = sum(heights) + _GAP * (len(heights) - 1)
    y = top + (body - total) / 2
    found = []
    for one in heights:
        found.append(y)
        y += one + _GAP
    return found


def _box(drawsvg: Any, x: float, y: float, width: float, height: float, fill: str) -> list[Any]:
    return [drawsvg.Rectangle(x, y, width, height, rx=8, fill=fill, stroke=_INK, stroke_width=1.2)]


def _centred(
    drawsvg: Any, text: str, x: float, y: float, size: int, bold: bool = False, soft: bool = False
) -> list[Any]:
    weight = "bold" if bold else "normal"
    fill = _SOFT if soft else _INK
    return [drawsvg.Text(text, size, x, y, fill=fill, font_weight=weight, text_anchor="middle")]


def _card_box(drawsvg: Any, card: Card, y: float, spots: dict[str, _Spot]) -> list[Any]:
    x = _MARGIN
    items = _box(drawsvg, x, y, _CARD_WIDTH, _HEAD_HEIGHT + _PORT_HEIGHT * len(card.ports) + 10, _CARD_FILL)
    items.append(
        drawsvg.Text(f"{card.name}  {card.model}", 15, x + 14, y + 22, fill=_INK, font_weight="bold")
    )
    about = " · ".join(
        filter(
            None,
            (card.kind, card.host_pci or card.pci, f"driver {card.driver}" if card.driver else "no driver"),
        )
    )
    items.append(drawsvg.Text(about, 11, x + 14, y + 40, fill=_SOFT))
    for row, port in enumerate(card.ports):
        at = y + _HEAD_HEIGHT + row * _PORT_HEIGHT
        items += _box(drawsvg, x + 12, at, _CARD_WIDTH - 24, _PORT_HEIGHT - 8, _PORT_FILL)
        items.append(drawsvg.Text(f"port {port.number}", 12, x + 24, at + 24, fill=_INK))
        name = port.netdev or "no netdev"
        colour = _INK if port.netdev else _SOFT
        items.append(drawsvg.Text(name, 13, x + 84, at + 24, fill=colour, font_weight="bold"))
        if port.interface:
            items.append(drawsvg.Text(port.interface, 9, x + 24, at + 35, fill=_SOFT))
        if port.mac:
            right = x + _CARD_WIDTH - 24
            items.append(drawsvg.Text(port.mac, 11, right, at + 24, fill=_SOFT, text_anchor="end"))
        spots[port.end] = _Spot(x + _CARD_WIDTH - 12, at + (_PORT_HEIGHT - 8) / 2, right=True)
    return items


def _curve(drawsvg: Any, start: _Spot, end: _Spot, colour: str) -> list[Any]:
    """A wire that leaves and enters its boxes at right angles."""
    bow = 70
    path = drawsvg.Path(stroke=colour, stroke_width=2.2, fill="none")
    path.M(start.x, start.y).C(
        start.x + (bow if start.right else -bow),
        start.y,
        end.x + (bow if end.right else -bow),
        end.y,
        end.x,
        end.y,
    )
    dots = [drawsvg.Circle(spot.x, spot.y, 3.6, fill=colour) for spot in (start, end)]
    return [path, *dots]


def _sides(wire: Wire) -> tuple[list[Plug], list[Plug]]:
    """The plugs of a switch on its left (ports) and on its right (testers)."""
    left = [plug for plug in wire.plugs if not plug.end.startswith("tester:")]
    return left, [plug for plug in wire.plugs if plug not in left]


def _switch_height(wire: Wire) -> float:
    return _HEAD_HEIGHT + _PLUG_HEIGHT * max(1, *map(len, _sides(wire)))


def _switch_lines(
    drawsvg: Any, wire: Wire, x: float, y: float, spots: dict[str, _Spot], colours: Any
) -> list[Any]:
    """A line from each plug to its side of the switch; inside, how the switch takes its frames."""
    items: list[Any] = []
    room = _switch_height(wire) - _HEAD_HEIGHT
    for is_right, plugs in zip((False, True), _sides(wire), strict=True):
        known = sorted((plug for plug in plugs if plug.end in spots), key=lambda plug: spots[plug.end].y)
        for row, plug in enumerate(known):
            down = y + _HEAD_HEIGHT - 8 + room * (row + 0.5) / len(known)
            at = _Spot(x + (_WIRE_WIDTH if is_right else 0), down, is_right)
            items += _curve(drawsvg, spots[plug.end], at, _LINE[next(colours) % len(_LINE)])
            anchor, shift = ("end", -12) if is_right else ("start", 12)
            items.append(drawsvg.Text(plug.vlans, 10, at.x + shift, at.y + 4, fill=_SOFT, text_anchor=anchor))
    return items


def _cable_line(drawsvg: Any, wire: Wire, spots: dict[str, _Spot], colour: str) -> list[Any]:
    known = [spots[plug.end] for plug in wire.plugs if plug.end in spots]
    return _curve(drawsvg, known[0], known[1], colour) if len(known) == 2 else []

"""A topology as a picture: namespaces left, cards and ports in the middle, the wire right.

Colours are classes, so that a page may have its own; a picture that stands alone brings :data:`STYLE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import drawsvg

from suites.topology import Topology, rows, summed

_INK, _PAPER = "#1c2733", "#ffffff"
#: For a picture that is a file of its own; light, and dark where the reader's system is.
STYLE = """
svg { background: #ffffff; font-family: "DejaVu Sans", Verdana, sans-serif }
.d-text { fill: #1c2733 } .d-soft { fill: #5a6876 }
.d-ns { fill: #e7f3ea; stroke: #3d7a52 } .d-card { fill: #e6edf7; stroke: #3a5f95 }
.d-port { fill: #ffffff; stroke: #3a5f95 } .d-wire { fill: #faeedd; stroke: #99671f }
.d-link { stroke: #5a6876; fill: none } .d-cable { stroke: #99671f; fill: none }
@media (prefers-color-scheme: dark) {
  svg { background: #12181f }
  .d-text { fill: #e8edf2 } .d-soft { fill: #a3b1bf }
  .d-ns { fill: #17301f; stroke: #6fb487 } .d-card { fill: #17263c; stroke: #86a9dc }
  .d-port { fill: #12181f; stroke: #86a9dc } .d-wire { fill: #35270f; stroke: #d9a65a }
  .d-link { stroke: #a3b1bf } .d-cable { stroke: #d9a65a }
}
"""
_NS_X, _NS_WIDTH, _CARD_X, _CARD_WIDTH, _WIRE_X, _WIRE_WIDTH = 12, 400, 500, 120, 710, 170
_WIDTH, _TOP, _HEAD, _ROW, _GAP, _PORT = 892, 48, 24, 20, 12, 34


@dataclass(frozen=True)
class _Box:
    """A namespace with its devices on one port, or (``name`` empty) how many more there are."""

    name: str
    devices: tuple[tuple[str, str], ...]

    @property
    def height(self) -> int:
        return _HEAD + _ROW * len(self.devices) + 6 if self.name else 28


def _boxes(topology: Topology) -> dict[str, list[_Box]]:
    found: dict[str, list[_Box]] = {}
    for port, all_of_it in rows(topology).items():
        found[port] = []
        for name, group in groupby(summed(all_of_it), key=lambda row: row[0]):
            devices = tuple((device, label) for _name, device, label in group)
            if name == "...":
                found[port].append(_Box("", (("", f"and {devices[0][1]}"),)))
            else:
                found[port].append(_Box(name, devices))
    return found


def _segments(topology: Topology) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each wire: its name, the ports in it, the testers."""
    ports = topology.ports()
    if topology.wiring is None:
        yield "wire: as the lab has it", ports, []
        return
    for number, segment in enumerate(topology.wiring):
        ends = _ends(segment)
        name = f"switch {segment.get('name', '')}" if segment["kind"] == "switch" else f"cable {number}"
        inside = [end for end in ends if not end.startswith("tester:")]
        yield name.strip(), inside, [end.removeprefix("tester:") for end in ends if end not in inside]


def _ends(segment: Mapping[str, Any]) -> list[str]:
    if segment["kind"] == "cable":
        return [str(end) for end in segment["ends"]]
    return [str(port["end"]) for port in segment["ports"]]


def svg(topology: Topology, style: str = STYLE) -> str:
    """The picture as an SVG document. Without ``style`` its classes are the page's to colour."""
    boxes = _boxes(topology)
    segments = list(_segments(topology))
    others = sorted({end for _name, ends, _testers in segments for end in ends} - set(boxes))
    items: list[Any] = []
    middles: dict[str, float] = {}
    y = float(_TOP)
    for port, group in boxes.items():
        tall = max(sum(box.height + _GAP for box in group) - _GAP, _PORT + 10)
        middles[port] = y + tall / 2
        for box in group:
            items += _namespace(box, y, middles[port])
            y += box.height + _GAP
        y = max(y, middles[port] + tall / 2 + _GAP) + _GAP
    for port in others:  # in a wire, with nobody on it
        middles[port] = y + _PORT / 2
        y += _PORT + 2 * _GAP
    items += _cards(middles)
    items += _wires(segments, middles)
    wires = _TOP + 70.0 * len(segments)
    height = max(y, wires if segments else 0, 100)
    picture = drawsvg.Drawing(_WIDTH, height, id_prefix="t")
    picture.append_title(topology.name)
    if style:
        picture.append_css(style)
    picture.append(_text(topology.name, 16, _NS_X, 26, weight="bold"))
    for item in items:
        picture.append(item)
    return str(picture.as_svg(header=""))


def _text(
    text: str, size: int, x: float, y: float, kind: str = "d-text", anchor: str = "start", weight: str = ""
) -> Any:
    more = {"font_weight": weight} if weight else {}
    return drawsvg.Text(text, size, x, y, class_=kind, text_anchor=anchor, **more)


def _namespace(box: _Box, y: float, port: float) -> list[Any]:
    if not box.name:
        return [_text(box.devices[0][1], 12, _NS_X + 12, y + 18, "d-soft")]
    items = [
        drawsvg.Rectangle(_NS_X, y, _NS_WIDTH, box.height, rx=6, class_="d-ns"),
        _text(box.name, 13, _NS_X + 12, y + 17, weight="bold"),
    ]
    for number, (device, label) in enumerate(box.devices):
        at = y + _HEAD + _ROW * number + 10
        items.append(_text(device, 12, _NS_X + 24, at + 4))
        items.append(_text(label, 12, _NS_X + 110, at + 4, "d-soft"))
        items.append(_curve(_NS_X + _NS_WIDTH, at, _CARD_X, port, "d-link"))
    return items


def _curve(x: float, y: float, to_x: float, to_y: float, kind: str, width: float = 1.5) -> Any:
    path = drawsvg.Path(class_=kind, stroke_width=width)
    middle = (x + to_x) / 2
    return path.M(x, y).C(middle, y, middle, to_y, to_x, to_y)


def _cards(middles: Mapping[str, float]) -> list[Any]:
    items: list[Any] = []
    by_card: dict[str, list[str]] = {}
    for end in middles:
        by_card.setdefault(end.split(":")[0], []).append(end)
    for card, ends in by_card.items():
        heights = [middles[end] for end in ends]
        top, bottom = min(heights) - _PORT / 2 - 22, max(heights) + _PORT / 2 + 8
        items.append(
            drawsvg.Rectangle(_CARD_X - 8, top, _CARD_WIDTH + 16, bottom - top, rx=8, class_="d-card")
        )
        items.append(_text(card, 12, _CARD_X + _CARD_WIDTH / 2, top + 16, "d-soft", "middle"))
        for end in ends:
            y = middles[end]
            items.append(
                drawsvg.Rectangle(_CARD_X, y - _PORT / 2 + 2, _CARD_WIDTH, _PORT - 4, rx=4, class_="d-port")
            )
            items.append(
                _text(f"port {end.split(':')[1]}", 13, _CARD_X + _CARD_WIDTH / 2, y + 5, anchor="middle")
            )
    return items


def _wires(segments: list[tuple[str, list[str], list[str]]], middles: Mapping[str, float]) -> list[Any]:
    items: list[Any] = []
    y = float(_TOP)
    for name, ends, testers in segments:
        height = 34 + (18 if testers else 0)
        inside = [middles[end] for end in ends if end in middles]
        at = max(y, sum(inside) / len(inside) - height / 2 if inside else y)
        items.append(drawsvg.Rectangle(_WIRE_X, at, _WIRE_WIDTH, height, rx=6, class_="d-wire"))
        items.append(_text(name, 12, _WIRE_X + _WIRE_WIDTH / 2, at + 21, anchor="middle"))
        if testers:
            told = f"tester {', '.join(testers)}"
            items.append(_text(told, 12, _WIRE_X + _WIRE_WIDTH / 2, at + 39, "d-soft", "middle"))
        for middle in inside:
            items.append(_curve(_CARD_X + _CARD_WIDTH, middle, _WIRE_X, at + height / 2, "d-cable", 2))
        y = at + height + 14
    return items

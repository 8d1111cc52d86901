"""Plots as SVG, in the page's own colours (classes), so that they are read in light, in dark and on paper.

No series is told by its colour alone: each has a mark and a dash of its own, and its name at its line's end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import drawsvg

WIDTH, HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 170, 34, 44
_DASHES = ("", "7 4", "2 4", "9 3 2 3", "12 4", "4 2")
#: Parts of a distribution whose labels are drawn first, where there is no room for all.
_FIRST = {"p50": 0, "median": 0, "p99": 1, "max": 2, "min": 3}
#: Colours that the page has classes for.
COLOURS = 6


def number(value: float) -> str:
    """For people: as many digits as mean something."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def ticks(top: float, about: int = 5) -> list[float]:
    """From 0 to ``top`` or a little above, at round numbers."""
    if top <= 0 or not math.isfinite(top):
        return [0.0, 1.0]
    rough = top / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [round(step * at, 10) for at in range(math.ceil(top / step - 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5 and their powers of ten) around positive values, for a logarithmic scale."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1
    round_ones = [round(factor * 10.0**at, 10) for at in range(first, last + 1) for factor in (1, 2, 5)]
    start = max(one for one in round_ones if one <= low)
    end = min(one for one in round_ones if one >= high and one > start)
    within = [one for one in round_ones if start <= one <= end]
    tens = [one for one in within if math.isclose(math.log10(one), round(math.log10(one)))]
    return within if len(within) <= 7 else sorted({start, *tens, end})


def _drawing(height: float, title: str) -> Any:
    drawing = drawsvg.Drawing(WIDTH, height, id_prefix="p", role="img", class_="plot")
    drawing.append_title(title)
    return drawing


def _svg(drawing: Any) -> str:
    return str(drawing.as_svg(header=""))


def _text(text: str, x: float, y: float, anchor: str = "start", kind: str = "p-soft", size: int = 12) -> Any:
    return drawsvg.Text(text, size, x, y, text_anchor=anchor, class_=kind)


def _mark(index: int, x: float, y: float) -> Any:
    """A mark that is told from the others by its shape."""
    kind = f"p-fill s{index % COLOURS}"
    shapes: tuple[tuple[float, ...], ...] = (
        (),
        (-5, -5, 5, -5, 5, 5, -5, 5),
        (0, -6, 6, 5, -6, 5),
        (0, -6, 6, 0, 0, 6, -6, 0),
        (-6, -5, 6, -5, 0, 6),
        (-2, -6, 2, -6, 2, 6, -2, 6),
    )
    shape = shapes[index % len(shapes)]
    if not shape:
        return drawsvg.Circle(x, y, 4.5, class_=kind)
    points = [value + (x if at % 2 == 0 else y) for at, value in enumerate(shape)]
    return drawsvg.Lines(*points, close=True, class_=kind)


def lines(title: str, x_label: str, unit: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """Values over a count on a logarithmic scale; the values' axis starts at 0."""
    drawing = _drawing(HEIGHT, f"{title}, {unit} against {x_label}: " + "; ".join(_told(series, unit)))
    counts = sorted({x for points in series.values() for x, _y in points})
    low, high = math.log2(max(counts[0], 1)), math.log2(max(counts[-1], 2))
    scale = ticks(max(y for points in series.values() for _x, y in points))
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def at_x(value: float) -> float:
        return _LEFT + width * (0.5 if high == low else (math.log2(max(value, 1)) - low) / (high - low))

    def at_y(value: float) -> float:
        return _TOP + height * (1 - value / scale[-1])

    drawing.append(_text(f"{title}, {unit}", _LEFT, 18, kind="p-text", size=14))
    for tick in scale:
        drawing.append(drawsvg.Line(_LEFT, at_y(tick), _LEFT + width, at_y(tick), class_="p-grid"))
        drawing.append(_text(number(tick), _LEFT - 8, at_y(tick) + 4, "end"))
    for count in _apart(counts, at_x):
        drawing.append(_text(f"{count:g}", at_x(count), HEIGHT - _BOTTOM + 18, "middle"))
    drawing.append(_text(x_label, _LEFT + width / 2, HEIGHT - 8, "middle"))
    ends: list[tuple[float, str, int]] = []
    for index, (name, points) in enumerate(series.items()):
        path = drawsvg.Path(
            class_=f"p-line s{index % COLOURS}", stroke_dasharray=_DASHES[index % len(_DASHES)]
        )
        for at, (x, y) in enumerate(points):
            (path.L if at else path.M)(at_x(x), at_y(y))
        drawing.append(path)
        for x, y in points:
            drawing.append(_mark(index, at_x(x), at_y(y)))
        ends.append((at_y(points[-1][1]), name, index))
    for y, (_wanted, name, index) in zip(
        _spread([end[0] for end in sorted(ends)]), sorted(ends), strict=True
    ):
        last = series[name][-1]
        drawing.append(_mark(index, _LEFT + width + 18, y - 4))
        drawing.append(_text(f"{name}  {number(last[1])}", _LEFT + width + 30, y, kind="p-text"))
    return _svg(drawing)


def _told(series: dict[str, list[tuple[float, float]]], unit: str) -> list[str]:
    """A plot in words, for who does not see it."""
    return [
        f"{name}: " + ", ".join(f"{number(y)} {unit} at {x:g}" for x, y in points)
        for name, points in series.items()
    ]


def _apart(counts: Sequence[float], at_x: Any) -> list[float]:
    """Those whose labels have room."""
    shown: list[float] = []
    for count in counts:
        if not shown or at_x(count) - at_x(shown[-1]) > 30:
            shown.append(count)
    return shown


def _spread(wanted: Sequence[float], room: float = 17) -> list[float]:
    """Labels at the wanted heights (ascending), moved down where they would meet, and up at the bottom."""
    placed: list[float] = []
    for y in wanted:
        placed.append(max(y + 4, placed[-1] + room) if placed else y + 4)
    over = placed[-1] - (HEIGHT - _BOTTOM + 8) if placed else 0
    return [y - over for y in placed] if over > 0 else placed


def bars(title: str, unit: str, rows: Sequence[tuple[str, float, float | None]]) -> str:
    """Numbers beside each other from 0; the third of a row is its goal, drawn as a line across its bar."""
    row, left, right = 30, 170, 76
    height = _TOP + row * len(rows) + 12
    told = "; ".join(f"{name} {number(value)}" for name, value, _goal in rows)
    drawing = _drawing(height, f"{title}, {unit}: {told}")
    drawing.append(_text(f"{title}" + (f", {unit}" if unit != title else ""), 0, 18, kind="p-text", size=14))
    top = max([*(value for _n, value, _g in rows), *(goal for _n, _v, goal in rows if goal), 1e-9])
    width = WIDTH - left - right
    for at, (name, value, goal) in enumerate(rows):
        y = _TOP + row * at
        drawing.append(_text(name, left - 10, y + 19, "end", "p-text"))
        drawing.append(
            drawsvg.Rectangle(left, y + 5, max(width * value / top, 1), row - 10, rx=3, class_="p-bar s0")
        )
        drawing.append(_text(number(value), left + width * value / top + 8, y + 19, kind="p-text"))
        if goal:
            x = left + width * goal / top
            drawing.append(drawsvg.Line(x, y + 1, x, y + row - 1, class_="p-goal"))
    return _svg(drawing)


def spreads(title: str, unit: str, rows: dict[str, dict[str, float]]) -> str:
    """Distributions on a logarithmic scale: a line from the least to the greatest part, a mark at each."""
    row, left, right = 46, 205, 40
    height = _TOP + row * len(rows) + 40
    values = [value for stats in rows.values() for value in stats.values() if value > 0] or [1.0]
    scale = decades(min(values), max(values))
    low, high = math.log10(scale[0]), math.log10(scale[-1])
    width = WIDTH - left - right
    told = "; ".join(
        f"{name}: " + ", ".join(f"{stat} {number(value)}" for stat, value in stats.items())
        for name, stats in rows.items()
    )
    drawing = _drawing(height, f"{title}, {unit}: {told}")
    drawing.append(_text(f"{title}, {unit}", 0, 18, kind="p-text", size=14))

    def at_x(value: float) -> float:
        return left + width * (math.log10(max(value, scale[0])) - low) / (high - low)

    bottom = _TOP + row * len(rows) + 6
    for tick in scale:
        drawing.append(drawsvg.Line(at_x(tick), _TOP, at_x(tick), bottom, class_="p-grid"))
        drawing.append(_text(number(tick), at_x(tick), bottom + 18, "middle"))
    colours = list(dict.fromkeys(name.split(",")[0] for name in rows))
    for number_of_row, (name, stats) in enumerate(rows.items()):
        y = _TOP + row * number_of_row + 26
        at = colours.index(name.split(",")[0])
        drawing.append(_text(name, left - 10, y + 4, "end", "p-text"))
        ordered = list(stats.items())
        drawing.append(
            drawsvg.Line(at_x(ordered[0][1]), y, at_x(ordered[-1][1]), y, class_=f"p-line s{at % COLOURS}")
        )
        shown: list[float] = []
        for stat, value in sorted(ordered, key=lambda one: (_FIRST.get(one[0], 9), one[1])):
            x = at_x(value)
            drawing.append(_mark(at, x, y))
            if all(abs(x - other) > 62 for other in shown):
                label = f"{stat.replace('_', '.')} {number(value)}"
                drawing.append(_text(label, x, y - 11, "middle", size=11))
                shown.append(x)
    return _svg(drawing)

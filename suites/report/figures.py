"""The bench's figures, by what their names say: there is no list of them here.

``udp_exasock_ns258_rtt_us``: the series ``udp_exasock`` of ``rtt``, in µs, among 258 namespaces.
``…_p99_us``: a part of a distribution. ``…_fps_64``: frames of 64 bytes a second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from suites.report.record import Test

#: Units by the end of a name; what they are called.
UNITS = {
    "us": "µs",
    "ms": "ms",
    "ns": "ns",
    "s": "s",
    "mbit_s": "Mbit/s",
    "gbit_s": "Gbit/s",
    "percent": "%",
    "bytes": "bytes",
    "kib": "KiB",
    "mib": "MiB",
    "gib": "GiB",
    "kib_each": "KiB each",
    "ms_each": "ms each",
    "fps": "frames/s",
    "instructions": "instructions",
}
MEMORY = ("bytes", "KiB", "MiB", "GiB", "KiB each")
#: Units of what is done for each packet: counts, times too short for anything else, and their ratios.
PACKETS = ("instructions", "µs", "ns", "")
RATES = ("frames/s", "Mbit/s", "Gbit/s")
#: Parts of a distribution, in order.
STATS = ("min", "p1", "p5", "p10", "p25", "median", "p50", "p75", "p90", "p95", "p99", "p99_9", "p999", "max")
_STAT = re.compile(r"_(min|max|median|mean|p\d{1,2}(?:_?9+)?)(?=_|$)")
_COUNT = re.compile(r"(?:^|_)(?:ns|namespaces_)(\d+)(?=_|$)")
_FPS = re.compile(r"_fps(?=_|$)")
_INSIDE = re.compile(r"_(mbit_s|gbit_s|us|ms|bytes|kib|mib|gib)(?=_)")
_UNIT = re.compile(r"_(" + "|".join(sorted(UNITS, key=len, reverse=True)) + r")$")
#: What bench.json says of the machine, not of the lab.
_MACHINE = "host_"


@dataclass(frozen=True)
class Figure:
    """One number. ``series``: what was measured of whom; ``measure``: its last word (rtt, send);
    ``namespaces`` None: not told; ``stat`` empty: the figure itself (a median)."""

    name: str
    value: float
    series: str
    measure: str
    unit: str = ""
    namespaces: int | None = None
    stat: str = ""


def parse(name: str, value: float) -> Figure:
    """What a name says."""
    rest = name
    unit = ""
    if _FPS.search(rest) and not rest.endswith("_percent"):
        unit = "frames/s"
    elif match := _UNIT.search(rest):
        unit = UNITS[match[1]]
        rest = rest[: match.start()]
    stat = ""
    if match := _STAT.search(rest):
        stat = match[1]
        rest = rest[: match.start()] + rest[match.end() :]
    if not unit and (match := _UNIT.search(rest) or _INSIDE.search(rest)):  # rtt_us_p99, tcp_mbit_s_mtu9000
        unit = UNITS[match[1]]
        rest = rest[: match.start()] + rest[match.end() :]
    namespaces = None
    if match := _COUNT.search(rest):
        namespaces = int(match[1])
        rest = (rest[: match.start()] + rest[match.end() :]).strip("_")
    rest = rest or ("memory" if unit in MEMORY else "time")
    head, _, tail = rest.rpartition("_")
    if unit == "frames/s":
        head, tail = rest, "frames"
    return Figure(name, value, head or tail, tail, unit, namespaces, stat)


@dataclass
class Chart:
    """Lines over the number of namespaces: series to (namespaces, value)."""

    title: str
    unit: str
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def of_packets(self) -> bool:
        """What a packet costs (rule N11), not how long it takes to make or end namespaces."""
        return self.unit in PACKETS


@dataclass
class Spread:
    """Distributions: of each row its parts, in order."""

    title: str
    unit: str
    rows: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Bars:
    """Numbers of one unit side by side."""

    title: str
    unit: str
    rows: list[tuple[str, float]] = field(default_factory=list)


@dataclass
class Figures:
    """All of it, sorted by how it is best looked at. ``machine``: what the bench ran on."""

    figures: list[Figure]
    machine: dict[str, float] = field(default_factory=dict)

    def over_namespaces(self) -> list[Chart]:
        """Charts of what was measured with different numbers of namespaces."""
        charts: dict[tuple[str, str], Chart] = {}
        for one in self.figures:
            if one.namespaces is not None and one.stat in ("", "median", "p50") and one.unit not in MEMORY:
                title = _words(one.measure) if one.series != one.measure else _words(one.series)
                chart = charts.setdefault((one.measure, one.unit), Chart(title, one.unit))
                chart.lines.setdefault(_words(one.series), []).append((one.namespaces, one.value))
        return [chart for chart in charts.values() if _drawable(chart)]

    def memory_over_namespaces(self) -> list[Chart]:
        charts: dict[str, Chart] = {}
        for one in self.figures:
            if one.namespaces is not None and one.unit in MEMORY:
                chart = charts.setdefault(one.unit, Chart("memory", one.unit))
                chart.lines.setdefault(_words(one.series), []).append((one.namespaces, one.value))
        return [chart for chart in charts.values() if _drawable(chart)]

    def distributions(self) -> list[Spread]:
        """What has two parts of a distribution or more."""
        rows: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
        for one in self.figures:
            if one.stat and one.stat != "mean":
                label = _words(one.series) + (f", {one.namespaces} namespaces" if one.namespaces else "")
                rows.setdefault((one.measure, one.unit), {}).setdefault(label, {})[one.stat] = one.value
        found = []
        for (measure, unit), spread in rows.items():
            parts = {
                label: dict(sorted(stats.items(), key=lambda item: _order(item[0])))
                for label, stats in spread.items()
                if len(stats) > 1
            }
            if parts:
                found.append(Spread(_words(measure), unit, parts))
        return found

    def bars(self) -> list[Bars]:
        """Rates, and memory that no number of namespaces goes with."""
        found: dict[str, Bars] = {}
        for one in self.figures:
            if one.stat or one.namespaces is not None:
                continue
            if one.unit in RATES or one.unit in MEMORY:
                title = "memory" if one.unit in MEMORY else one.unit
                found.setdefault(one.unit, Bars(title, one.unit)).rows.append((one.name, one.value))
        return [found[unit] for unit in (*RATES, *MEMORY) if unit in found]


def _drawable(chart: Chart) -> bool:
    for points in chart.lines.values():
        points.sort()
    chart.lines = {name: points for name, points in chart.lines.items() if len(points) > 1}
    return bool(chart.lines)


def _order(stat: str) -> float:
    if stat in ("min", "max"):
        return -1 if stat == "min" else 1000
    if stat == "median":
        return 50
    return float(stat[1:3].ljust(2, "0") if len(stat) > 3 else stat[1:]) + (0.9 if len(stat) > 3 else 0)


def _words(name: str) -> str:
    return name.replace("_", " ")


def load(path: Path) -> Figures:
    """The figures of the bench. LabError names what is wrong with the file."""
    hint = f"measure again (make bench), or remove it: rm {path}"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise LabError(f"cannot read the bench's figures {path}: {problem}", hint=hint) from problem
    except json.JSONDecodeError as problem:
        raise LabError(f"{path}: not JSON: {problem}", hint=hint) from problem
    if not isinstance(data, dict):
        raise LabError(f"{path}: not figures, but {type(data).__name__}", hint=hint)
    for name, value in data.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise LabError(f"{path}: {name} is {value!r}, not a number", hint=hint)
    machine = {name: float(value) for name, value in data.items() if name.startswith(_MACHINE)}
    figures = [parse(name, float(value)) for name, value in data.items() if name not in machine]
    return Figures(figures, machine)


def of_tests(tests: Iterable[Test]) -> Figures:
    """What tests told as their properties."""
    named = {name: value for test in tests for name, value in test.figures.items()}
    return Figures([parse(name, value) for name, value in named.items()])

"""The page: one HTML file that holds everything it shows, from parts, history and figures."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lab.replacing import replacing
from suites.report import compare, figures, ledger, parity, plot, rules
from suites.report.history import History
from suites.report.merge import STATUSES, Part, Status, Told, Verdict, verdict
from suites.report.record import RULES, Origin, Record, now, when

HERE = Path(__file__).parent
#: A mark beside each word: nothing is told by colour alone.
MARKS: dict[str, str] = {
    "passed": "✓",
    "failed": "✗",
    "error": "✗",
    "flaky": "≈",
    "skipped": "-",
    "xfailed": "-",
    "xpassed": "✗",
    "interrupted": "■",
    "incomplete": "■",
    "absent": "·",
    "same": "✓",
    "different": "✗",
    "missing": "·",
}
#: Which colours a status has.
TONES: dict[str, str] = {
    "passed": "good",
    "same": "good",
    "failed": "bad",
    "error": "bad",
    "xpassed": "bad",
    "different": "bad",
    "flaky": "doubt",
    "interrupted": "doubt",
    "incomplete": "doubt",
    "missing": "doubt",
}
#: Cases of one function shown one by one; more are counted.
CASES = 150


@dataclass(frozen=True)
class Column:
    """A column of the matrix: what kind of card, what kind of sockets."""

    card: str
    sockets: str

    @property
    def label(self) -> str:
        return self.sockets or "any sockets"


@dataclass
class Function:
    """A row of the matrix: a test function, with its cases by column."""

    name: str
    proves: str
    rules: tuple[str, ...]
    cells: dict[Column, list[Told]] = field(default_factory=dict)

    @property
    def told(self) -> list[Told]:
        return [one for cell in self.cells.values() for one in cell]


@dataclass
class File:
    """The functions of one file of one part, on all kinds of card."""

    part: str
    name: str
    functions: dict[str, Function] = field(default_factory=dict)

    @property
    def told(self) -> list[Told]:
        return [one for function in self.functions.values() for one in function.told]

    @property
    def counts(self) -> Counter[Status]:
        return Counter(one.status for one in self.told)

    @property
    def seconds(self) -> float:
        return sum(attempt.seconds for one in self.told for attempt in one.attempts)

    @property
    def status(self) -> Status:
        return worst(self.counts)


def worst(counts: Counter[Status]) -> Status:
    """What needs a person first; passed, if anything passed, before skipped."""
    order = [one for one in STATUSES if one not in ("skipped", "xfailed")]
    return next((one for one in (*order, *STATUSES) if counts[one]), "skipped")


@dataclass(frozen=True)
class LeftOut:
    """A test of a part that was not run, with its last verdict; ``when``: of the run that gave it."""

    id: str
    outcome: str = "absent"
    when: str = ""


@dataclass
class Report:
    """Everything the template asks for. ``out``: the page's folder, which it links to files from."""

    parts: list[Part]
    history: History
    bench: figures.Figures | None = None
    bench_told: str = ""
    goals: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    left_out: list[Part] = field(default_factory=list)
    out: Path = field(default_factory=Path)
    expected: Sequence[str] = ("lint", "unit", "image", "suites")
    made: str = field(default_factory=now)

    @cached_property
    def verdict(self) -> Verdict:
        return verdict(self.parts, self.expected)

    @cached_property
    def counts(self) -> Counter[Status]:
        return sum((part.counts for part in self.parts), Counter[Status]())

    @cached_property
    def newest(self) -> Record | None:
        records = [record for part in self.parts for record in part.records]
        return max(records, key=lambda one: when(one.started), default=None)

    @cached_property
    def lab(self) -> Origin | None:
        """Of the newest run that had a lab: what its guest ran on."""
        records = [record for part in self.parts for record in part.records if record.origin.accelerator]
        newest = max(records, key=lambda one: when(one.started), default=None)
        return newest.origin if newest else None

    @property
    def began(self) -> str:
        return min((part.first.started for part in self.parts), key=when, default=self.made)

    @property
    def seconds(self) -> float:
        return sum(part.seconds for part in self.parts)

    @cached_property
    def files(self) -> list[File]:
        """All tests, by part and file, in the order they were run."""
        found: dict[tuple[str, str], File] = {}
        for part in self.parts:
            for told in part.tests.values():
                test = told.last
                file = found.setdefault((part.name, test.file), File(part.name, test.file))
                function = file.functions.setdefault(
                    test.function, Function(test.function, test.proves, test.rules)
                )
                function.cells.setdefault(Column(told.card, test.sockets), []).append(told)
        return list(found.values())

    @cached_property
    def on_cards(self) -> list[File]:
        """The files of the matrix by card and sockets: those with a test that was run on a card."""
        return [file for file in self.files if any(told.card for told in file.told)]

    @cached_property
    def columns(self) -> list[Column]:
        found = {column for file in self.on_cards for one in file.functions.values() for column in one.cells}
        order = {"kernel": 0, "exasock": 1, "compared": 2, "": 9}
        with_card = (one for one in found if one.card)
        return sorted(with_card, key=lambda one: (one.card, order.get(one.sockets, 5), one.sockets))

    @cached_property
    def card_spans(self) -> list[tuple[str, int]]:
        """Kinds of card over the columns, with how many each spans."""
        return list(Counter(column.card for column in self.columns).items())

    @cached_property
    def bad(self) -> list[Told]:
        """What needs a person: failed, then flaky, in the order of the run."""
        every = [told for part in self.parts for told in part.tests.values()]
        found = [told for told in every if told.last.bad or told.status == "flaky"]
        return sorted(found, key=lambda told: STATUSES.index(told.status))

    @cached_property
    def skipped(self) -> dict[str, list[Told]]:
        """By reason."""
        found: dict[str, list[Told]] = {}
        for part in self.parts:
            for told in part.tests.values():
                if told.status in ("skipped", "xfailed"):
                    found.setdefault(told.last.reason or "no reason given", []).append(told)
        return found

    @cached_property
    def left_out_tests(self) -> list[tuple[str, str, list[LeftOut]]]:
        """What was deselected: its part, why, and each test with what its last run said."""
        newest: dict[tuple[str, str], LeftOut] = {}
        for record in self.history.records:
            for test in record.tests:
                newest[record.part, test.id] = LeftOut(test.id, test.outcome, record.started)
        return [
            (part.label, why, [newest.get((part.name, one), LeftOut(one)) for one in ids])
            for part in self.parts
            for why, ids in part.first.left_out.items()
        ]

    @cached_property
    def not_shipped(self) -> dict[str, tuple[str, str]]:
        """Parameters of the datapath that were others than the shipped ones: in force, shipped."""
        origin = self.lab
        names = origin.not_shipped if origin else {}
        return {name: (origin.parameters[name], value) for name, value in names.items()} if origin else {}

    @cached_property
    def by_rule(self) -> list[tuple[str, str, list[Told]]]:
        """Each rule, in words, with the tests that name it."""
        every = [told for part in self.parts for told in part.tests.values()]
        return [
            (rule, rules.TITLES[rule], [one for one in every if rule in one.last.rules]) for rule in RULES
        ]

    @cached_property
    def drawings(self) -> dict[str, str]:
        return {
            key: svg for part in self.parts for record in part.records for key, svg in record.drawings.items()
        }

    @cached_property
    def gallery(self) -> list[tuple[str, str, str, int, list[Told]]]:
        """Each drawing: its key, topology, layout, number of namespaces, and the tests that stand on it."""
        found: dict[str, tuple[str, str, str, int, list[Told]]] = {}
        for part in self.parts:
            for told in part.tests.values():
                test = told.last
                if test.drawing in self.drawings:
                    about = (test.drawing, test.topology, test.layout, test.namespaces)
                    found.setdefault(test.drawing, (*about, []))[4].append(told)
        return sorted(found.values(), key=lambda one: (one[2], one[3], one[1]))

    @cached_property
    def comparisons(self) -> list[compare.Comparison]:
        return compare.comparisons(self.parts)

    @cached_property
    def without_earlier(self) -> list[str]:
        return [part.label for part in self.parts if part.earlier is None]

    @cached_property
    def ledger(self) -> ledger.Ledger:
        known = {record.id: record for record in self.history.records}
        known |= {record.id: record for part in self.parts for record in part.records}
        return ledger.ledger(known.values())

    @cached_property
    def parity(self) -> parity.Parity:
        return parity.parity(self.parts)

    @cached_property
    def from_tests(self) -> figures.Figures:
        return figures.of_tests(told.last for part in self.parts for told in part.tests.values())

    def origins(self) -> list[tuple[str, Origin]]:
        """Where the parts come from, each different origin once, with the parts' names."""
        found: list[tuple[list[str], Origin]] = []
        for part in self.parts:
            origin = part.first.origin
            if not origin.source.commit:
                continue  # from JUnit XML: it does not say
            found.append(([part.label], origin))
        return [(", ".join(names), origin) for names, origin in found]

    def href(self, path: str) -> str:
        """A file beside the page, as a link that stays right when the folder is moved; empty: not there."""
        if not path or not Path(path).exists():
            return ""
        return os.path.relpath(path, self.out)


def shares(told: Sequence[Told]) -> list[str]:
    """What the cases of a cell say of the share that went past the kernel, the least and the most of each
    way; and of how many of them nothing can."""
    found: dict[str, list[float]] = {}
    for one in told:
        for name, way in one.last.past.items():
            found.setdefault(name, []).append(way.share)
    lines = []
    for name, values in found.items():
        least, most = f"{100 * min(values):.0f}", f"{100 * max(values):.0f}"
        lines.append(f"{name} {least if least == most else f'{least} to {most}'} %")
    by_kernel = sum(1 for one in told if one.last.by_kernel)
    return [*lines, f"{by_kernel} by the kernel"] if by_kernel else lines


def age(text: str, made: str) -> str:
    """How long before the page was made, for people."""
    hours = (when(made) - when(text)).total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def anchor(told: Told) -> str:
    """The id of a test's detail in the page: the same in every report."""
    return "t" + sha256(f"{told.part} {told.card} {told.id}".encode()).hexdigest()[:10]


def seconds(value: float) -> str:
    """A duration for people."""
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 99.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def clock(text: str) -> str:
    """A record's time for people, UTC."""
    return when(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M") + " UTC" if text else "-"


def since_epoch(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def tone(status: str) -> str:
    return TONES.get(status, "quiet")


def mark(status: str) -> str:
    return MARKS.get(status, "?")


def picture(svg: str) -> Markup:
    """An SVG of ours inside the page: without a size of its own, so that it fits where it is shown."""
    svg = re.sub(r"<\?xml[^>]*\?>", "", svg)
    svg = re.sub(r"(<svg[^>]*?)\s+width=\"[^\"]*\"\s+height=\"[^\"]*\"", r"\1", svg, count=1, flags=re.S)
    return Markup(svg.strip())


def symbol(key: str, svg: str) -> Markup:
    """A drawing as a symbol, shown by ``use`` wherever a test stands on it."""
    box = re.search(r'viewBox="([^"]+)"', svg)
    body = re.sub(r"^.*?<svg[^>]*>|</svg>\s*$", "", svg, flags=re.S)
    size = box[1] if box else "0 0 892 200"
    return Markup(f'<symbol id="d{key}" viewBox="{size}">{body}</symbol>')


def box_of(svg: str) -> str:
    found = re.search(r'viewBox="([^"]+)"', svg)
    return found[1] if found else "0 0 892 200"


def plots(report: Report) -> list[tuple[str, str, list[Markup]]]:
    """Headings with what to know, and the plots under each; a heading without plots says why."""
    bench = report.bench or figures.Figures([])
    missing = report.bench_told
    of_tests = report.from_tests
    over: list[str] = []
    life: list[str] = []
    for chart in [chart for source in (bench, of_tests) for chart in source.over_namespaces()]:
        drawn = plot.lines(chart.title, "namespaces", chart.unit, chart.lines)
        (over if chart.of_packets else life).append(drawn)
    spread = [plot.spreads(one.title, one.unit, one.rows) for one in bench.distributions()]
    rates: list[str] = []
    memory: list[str] = []
    for bars in bench.bars():
        rows = [(name, value, _goal(report.goals.get(name))) for name, value in bars.rows]
        (memory if bars.unit in figures.MEMORY else rates).append(plot.bars(bars.title, bars.unit, rows))
    memory += [
        plot.lines(chart.title, "namespaces", chart.unit, chart.lines)
        for source in (bench, of_tests)
        for chart in source.memory_over_namespaces()
    ]
    told = [
        ("Cost of a packet by number of namespaces", "Rule N11: the line must not rise.", over),
        ("Creating and removing namespaces", "", life),
        ("Latency distributions", "", spread),
        ("Rates", "A line across a bar is its goal.", rates),
        ("Memory", "", memory),
    ]
    nothing = "The bench has no figures of this kind." if report.bench else missing
    return [(title, note if svgs else nothing, [picture(one) for one in svgs]) for title, note, svgs in told]


def _goal(goal: Any) -> float | None:
    return None if goal is None else float(goal.value)


def render(report: Report) -> str:
    """The whole page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": seconds,
        "clock": clock,
        "since_epoch": since_epoch,
        "anchor": anchor,
        "tone": tone,
        "mark": mark,
        "number": plot.number,
        "words": lambda text: text.replace("_", " "),
        "picture": picture,
    }
    return environment.get_template("report.html.j2").render(
        report=report,
        plots=plots(report),
        symbols=[symbol(key, svg) for key, svg in report.drawings.items()],
        boxes={key: box_of(svg) for key, svg in report.drawings.items()},
        style=Markup((HERE / "template/report.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "template/report.js").read_text(encoding="utf-8")),
        cases=CASES,
        shares=shares,
        age=age,
        outcomes=lambda tests: Counter(one.outcome for one in tests),
        worst=worst,
        count=lambda told: Counter(one.status for one in told),
    )


def write(report: Report, path: Path) -> None:
    """Replace the page at once: who looks at it sees the old one or the new one."""
    text = render(report)
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8", errors="replace")


def written(path: Path) -> str:
    """When a file was written, for people."""
    return clock(datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat())

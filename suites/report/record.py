"""The record of one run of one part (native tests, image tests, suites, lint): what the report is made from.

One JSON file a run. While the run goes on it is a journal instead (a line for each test), so that a run that
is killed leaves what it knew; :func:`read` takes both. Fields are added freely; ``SCHEMA`` grows when one
changes its meaning.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lab.errors import LabError
from lab.replacing import replacing

FORMAT, SCHEMA = "exalab-record", 1
JOURNAL, RECORD = ".jsonl", ".json"
#: Of the design: of namespaces, and of the boundary between processes and the kernel.
RULES = (*(f"N{number}" for number in range(1, 13)), *(f"B{number}" for number in range(1, 9)))

Outcome = Literal["passed", "failed", "error", "skipped", "xfailed", "xpassed", "interrupted"]
#: How a run ended: all of it was run; it was stopped (Ctrl-C, --maxfail); its process was killed.
End = Literal["complete", "interrupted", "killed"]
#: Outcomes that make a run bad.
BAD: frozenset[str] = frozenset({"failed", "error", "xpassed", "interrupted"})


@dataclass
class Step:
    """Something a test did, ``at`` seconds after it began, for ``seconds``; ``depth``: within others."""

    name: str
    at: float
    seconds: float
    depth: int = 0


@dataclass
class Message:
    """A line of the kernel log of the guest, ``count`` times running; ``bad``: the health check objects."""

    seconds: float
    level: int
    text: str
    bad: bool = False
    count: int = 1


@dataclass
class Capture:
    """What passed the ports while a test ran: the folder of the captures, and the time between (ns)."""

    folder: str
    began: int
    ended: int


@dataclass
class Way:
    """What a test's accelerated sockets sent, or received: ``past`` the kernel, of ``all`` of it.

    ``unit``: datagrams or bytes. ``reasons``: of what went through the kernel, with counts.
    """

    unit: str
    past: int
    all: int
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return self.past / self.all if self.all else 0.0


@dataclass
class Test:
    """One test that was run once. A test that was run again is another entry with the same ``id``.

    ``proves``: its docstring. ``card``: kind of the lab's cards (emulated, real), empty for a test that needs
    no lab. ``case``: what the parameters are, by name. ``drawing``: key in :attr:`Record.drawings`.
    ``past``: what went past the kernel, by protocol and direction ("udp sent"). ``by_kernel``: why nothing of
    it can; ``past_why``: why less is asked of it than of others. ``parameters``: those of the datapath's
    modules that were other ones for this test. ``rules_acted``: rules of the wire, on how many frames each.
    """

    __test__ = False  # for pytest, which takes what begins so for its own

    id: str
    outcome: Outcome
    seconds: float = 0.0
    started: str = ""
    proves: str = ""
    rules: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    case: dict[str, str] = field(default_factory=dict)
    card: str = ""
    sockets: str = ""
    past: dict[str, Way] = field(default_factory=dict)
    by_kernel: str = ""
    past_why: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    rules_acted: list[str] = field(default_factory=list)
    topology: str = ""
    layout: str = ""
    namespaces: int = 0
    drawing: str = ""
    reason: str = ""
    failure: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    steps_left_out: int = 0
    capture: Capture | None = None
    counters: dict[str, dict[str, float]] = field(default_factory=dict)
    dmesg: list[Message] = field(default_factory=list)
    dmesg_left_out: int = 0
    health: list[str] = field(default_factory=list)
    guest_replaced: str = ""
    seed: str = ""
    bundle: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return self.id.split("::", 1)[0]

    @property
    def function(self) -> str:
        """The name without its case."""
        return self.id.split("::", 1)[-1].split("[", 1)[0]

    @property
    def case_id(self) -> str:
        """The case in pytest's words, empty when there is only one."""
        name = self.id.split("::", 1)[-1]
        return name.split("[", 1)[1].removesuffix("]") if "[" in name else ""

    @property
    def bad(self) -> bool:
        return self.outcome in BAD


@dataclass
class Card:
    """A card of the lab, as it said of itself."""

    name: str
    kind: str
    model: str
    firmware: str = ""
    pci: str = ""
    driver: str = ""
    ports: int = 0


@dataclass
class Source:
    """What was tested. ``tree`` tells states of the checkout apart, also with uncommitted changes."""

    commit: str = ""
    branch: str = ""
    subject: str = ""
    dirty: bool = False
    tree: str = ""


@dataclass
class Origin:
    """Where a record comes from: sources, machine, versions, digests, cards."""

    source: Source = field(default_factory=Source)
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    cards: list[Card] = field(default_factory=list)
    #: Of the guest's modules, as /sys/module has them; and those of them that are not as shipped, with what
    #: is shipped.
    parameters: dict[str, str] = field(default_factory=dict)
    not_shipped: dict[str, str] = field(default_factory=dict)
    accelerator: str = ""
    accelerator_reason: str = ""
    lab: str = ""
    profile: str = ""
    seed: str = ""
    drawing: str = ""


@dataclass
class Record:
    """One run. ``card``: the kind of its lab's cards, empty for a part that needs none.

    ``again``: it repeats tests of an earlier run of this part, so its outcomes are second attempts.
    ``selection``: what was asked for where that is less than the part; empty: all of it.
    ``tier``: the tier that was asked for. ``left_out``: ids of the tests that were deselected, by why.
    ``night``: the date a nightly run belongs to; else that of its start (UTC).
    """

    part: str
    started: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    ended: str = ""
    end: End = "complete"
    exit_status: int = 0
    night: str = ""
    again: bool = False
    selection: str = ""
    arguments: tuple[str, ...] = ()
    collected: int = 0
    deselected: int = 0
    tier: str = ""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    drawings: dict[str, str] = field(default_factory=dict)
    tests: list[Test] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    format: str = FORMAT
    schema: int = SCHEMA

    @property
    def card(self) -> str:
        return self.origin.cards[0].kind if self.origin.cards else ""

    @property
    def seconds(self) -> float:
        if not self.ended:
            return sum(test.seconds for test in self.tests)
        return (when(self.ended) - when(self.started)).total_seconds()

    @property
    def bad(self) -> bool:
        """Whether the run says that something is wrong, or does not say enough."""
        empty = self.exit_status == 5 and self.again  # nothing had to be repeated
        good = self.end == "complete" and (self.exit_status == 0 or empty)
        return not good or any(test.bad for test in self.tests)


def now() -> str:
    """The time as records write it: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def when(text: str) -> datetime:
    """A record's time; one without a zone is UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def messages(told: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Kernel messages as the guest tells them (``suites.guest.health``), repetitions counted."""
    found: list[Message] = []
    for one in told:
        if found and found[-1].text == one["text"]:
            found[-1].count += 1
        else:
            found.append(Message(one["seconds"], one["level"], one["text"], one["bad"]))
    return found


def rules_of(text: str) -> tuple[str, ...]:
    """The rules (N1 to N12, B1 to B8) that a docstring names, each once, in their own order."""
    named = set(re.findall(r"\b[NB]\d+\b", text))
    for letter, first, last in re.findall(r"\b([NB])(\d+)\s*(?:-|to)\s*\1(\d+)\b", text):
        named |= {f"{letter}{number}" for number in range(int(first), int(last) + 1)}
    return tuple(rule for rule in RULES if rule in named)


# --- files --------------------------------------------------------------------------------------------------


def as_json(record: Record, tests: Sequence[dict[str, Any]] | None = None) -> str:
    """``tests``: those of the record, where they are JSON already."""
    data = asdict(record)
    if tests is not None:
        data["tests"] = tests
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"


def write(record: Record, path: Path, tests: Sequence[dict[str, Any]] | None = None) -> None:
    """Replace the file at once: a reader sees the old record or the new one."""
    with replacing(path) as fresh:
        fresh.write_text(as_json(record, tests), encoding="utf-8", errors="replace")


def read(path: Path) -> Record:
    """A record, or the journal of a run that goes on or was killed. LabError names what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise LabError(f"cannot read the record {path}: {problem}") from problem
    if path.suffix == JOURNAL:
        return _from_journal(path, text)
    return _validated(path, _parsed(path, text))


def _hint(path: Path) -> str:
    return f"remove it (rm {path}) and make the report again"


def _parsed(path: Path, text: str, line: int | None = None) -> dict[str, Any]:
    where = f"{path}, line {line}" if line else str(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as problem:
        raise LabError(f"{where}: not JSON: {problem}", hint=_hint(path)) from problem
    if not isinstance(data, dict):
        raise LabError(f"{where}: not a record: {type(data).__name__}", hint=_hint(path))
    return data


def _validated(path: Path, data: dict[str, Any]) -> Record:
    if data.get("format") != FORMAT:
        raise LabError(f"{path}: not a record of a run (no format {FORMAT!r})", hint=_hint(path))
    if data.get("schema") != SCHEMA:
        raise LabError(
            f"{path}: a record of schema {data.get('schema')!r}; this version reads {SCHEMA}",
            hint=f"use the version of the bench that wrote it, or {_hint(path)}",
        )
    from pydantic import ValidationError

    try:
        record: Record = _adapter().validate_python(data)
        when(record.started)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        more = problem.error_count() - 1
        raise LabError(
            f"{path}: {place}: {first['msg']}" + (f" (and {more} more)" if more else ""), hint=_hint(path)
        ) from None
    except ValueError as problem:
        raise LabError(f"{path}: started: {problem}", hint=_hint(path)) from None
    return record


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Record)


def _from_journal(path: Path, text: str) -> Record:
    """The last line may be cut short: its writer died."""
    lines = text.split("\n")
    whole, rest = lines[:-1], lines[-1]
    if not whole:
        raise LabError(f"{path}: a journal without its first line", hint=_hint(path))
    data = _parsed(path, whole[0], 1)
    for number, line in enumerate(whole[1:], 2):
        entry = _parsed(path, line, number)
        if "test" in entry:
            data.setdefault("tests", []).append(entry["test"])
            data.setdefault("drawings", {}).update(entry.get("drawings", {}))
        else:
            data.update(entry)
    record = _validated(path, data)
    if not record.ended:
        last = record.tests[-1] if record.tests else None
        record.end, record.exit_status = "killed", 137
        record.remarks.append(
            f"the process of this run was killed after {len(record.tests)} of {record.collected} tests"
            + (", in the middle of a line" if rest else "")
            + (f"; the last one it finished: {last.id}" if last else "")
        )
    return record


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Of the phases of one test."""
    for outcome in ("interrupted", "failed", "error", "xpassed", "skipped", "xfailed"):
        if outcome in outcomes:
            return outcome
    return "passed"

"""The table of what the fast path honours, or leaves to the kernel (rule B7): datapath/exasock/honour.toml.

``python -m suites.exasock.honour`` writes it as a page, HONOUR.md, beside it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "datapath/exasock/honour.toml"
PAGE = TABLE.with_name("HONOUR.md")
#: How something may be told to be honoured; "kernel" and "attach" need a reason.
HOWS = ("honoured", "native", "no effect", "differs", "-")
_YIELDS = re.compile(r"(kernel|kernel rx|kernel tx|attach):([a-z]+)")


@dataclass(frozen=True)
class Level:
    """Socket options of one level: the uapi header that names them, and what in it is no option."""

    name: str
    file: str
    pattern: str
    aliases: tuple[str, ...]

    def options(self, headers: Path) -> set[str]:
        """The options that the kernel has, by its headers."""
        text = (headers / self.file).read_text(encoding="utf-8")
        named = re.findall(rf"^\s*#\s*define\s+({self.pattern})\s+[^\s(]", text, re.MULTILINE)
        return set(named) - set(self.aliases)


@dataclass(frozen=True)
class Row:
    """One decision. ``udp`` and ``tcp`` as honour.toml's head says; ``attempt`` is its ``try``."""

    kind: str
    level: str
    names: tuple[str, ...]
    udp: str
    tcp: str
    note: str
    tests: tuple[str, ...]
    newer: bool
    attempt: bytes | None

    def reason(self, protocol: str, way: str) -> str | None:
        """Why the kernel has what is sent ("tx") or received ("rx"); None: the fast path does it."""
        found = _YIELDS.fullmatch(getattr(self, protocol))
        if found is None or found[1] not in ("kernel", f"kernel {way}"):
            return None
        return found[2]


def yields(how: str) -> str | None:
    """The reason that a decision names; None: it names none. ValueError: it is no decision."""
    if how in HOWS:
        return None
    found = _YIELDS.fullmatch(how)
    if found is None:
        raise ValueError(f"{how!r} is no decision")
    return found[2]


def _attempt(value: Any) -> bytes | None:
    if value is None:
        return None
    return bytes.fromhex(value) if isinstance(value, str) else int(value).to_bytes(4, "little", signed=True)


def _row(kind: str, given: dict[str, Any]) -> Row:
    how = given.get("how", "-")
    return Row(
        kind,
        given.get("level", ""),
        tuple(given["names"]),
        given.get("udp", how),
        given.get("tcp", how),
        given["note"],
        tuple(given.get("tests", ())),
        given.get("newer", False),
        _attempt(given.get("try")),
    )


def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def levels() -> list[Level]:
    """The levels of socket options."""
    return [
        Level(name, one["file"], one["pattern"], tuple(one["aliases"]))
        for name, one in _table()["options"].items()
    ]


def rows() -> list[Row]:
    """Every decision, in the table's order."""
    table = _table()
    return [_row(kind, one) for kind in ("option", "sysctl", "hook") for one in table[kind]]


def setting(name: str, among: list[Row]) -> Row | None:
    """The row of a setting below /proc/sys/net; None: there is none."""
    return next(
        (row for row in among if row.kind == "sysctl" and any(fnmatchcase(name, one) for one in row.names)),
        None,
    )


HEADINGS = {
    "option": ("Socket options", ("option", "datagrams", "connections", "")),
    "sysctl": ("Settings below /proc/sys/net", ("setting", "", "")),
    "hook": ("What looks on, changes, delays or counts", ("what", "", "")),
}
INTRODUCTION = """# Honour or yield

What the kernel would do with a datagram, a segment or a call, the fast path does too, or the kernel's path is
taken and the reason counted (`exasock-stat -r`). This page is `honour.toml`, written by
`python -m suites.exasock.honour`: its tests read the options from the kernel's headers and the settings from
the guest, and fail when one has no row.

| word | meaning |
|---|---|
| honoured | the fast path does it too |
| native | it is the kernel socket's alone, and the fast path rests on that |
| no effect | it changes nothing of what the fast path does |
| kernel:REASON | all goes by the kernel, counted as REASON; rx: what is received, tx: what is sent |
| differs | a deliberate difference |
| - | not of this protocol |
"""


def _cells(row: Row) -> list[str]:
    note = row.note
    if row.tests:
        shown = ", ".join(f"`{test.removeprefix('suites/exasock/')}`" for test in row.tests)
        note = f"{note} ({shown})"
    if row.attempt is not None:
        note = f"{note} Tried with {row.attempt.hex()}."
    names = ", ".join(f"`{name}`" if row.kind != "hook" else name for name in row.names)
    return [names, *([row.udp, row.tcp] if row.kind == "option" else [row.udp]), note]


def page() -> str:
    """HONOUR.md."""
    parts = [INTRODUCTION]
    every = rows()
    for kind, (title, columns) in HEADINGS.items():
        parts.append(f"\n## {title}\n")
        if kind == "option":
            parts.append(
                "\nReasons of connections and datagrams alike; test_honour.py tries each that says so.\n"
            )
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in every if row.kind == kind]
        parts.append("\n" + "\n".join(lines) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""What a night has done so far, on disk after every step: a night that a power switch ended goes on from
there.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError

FILE = "night.json"
#: Hours after which a night that was cut off is not taken up again.
FRESH_HOURS = 20.0


@dataclass
class Entry:
    """One step. ``status``: passed, failed (it ran, and found something), hung, broken (it could not run),
    skipped.
    """

    name: str
    status: str
    seconds: float = 0.0
    told: str = ""


@dataclass
class Diary:
    """A night. ``started`` in seconds since the epoch; ``commit`` is the checkout's, when it began."""

    folder: Path
    name: str
    commit: str
    started: float
    entries: list[Entry] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    ended: float | None = None

    def write(self) -> None:
        """On disk when this returns, whole or not at all."""
        data: dict[str, Any] = asdict(self) | {"folder": str(self.folder), "schema": 1}
        fresh = self.folder / f".{FILE}"
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / FILE)

    def note(self, entry: Entry) -> Entry:
        """Add a step that ended; one of the same name that was cut off is replaced."""
        self.entries = [one for one in self.entries if one.name != entry.name] + [entry]
        self.write()
        return entry

    def has(self, name: str) -> bool:
        """Whether a step ended before."""
        return any(one.name == name for one in self.entries)

    @property
    def good(self) -> bool:
        """Whether everything that was to run did, and passed."""
        return all(one.status in ("passed", "skipped") for one in self.entries)

    def __str__(self) -> str:
        lines = [f"night {self.name} of commit {self.commit[:12] or 'unknown'}: {self.folder}"]
        for one in self.entries:
            lines.append(f"  {one.status:8} {one.name:28} {one.seconds:8.0f} s  {one.told}".rstrip())
        lines += [f"  recovered: {one}" for one in self.recovered]
        return "\n".join(lines)


def begin(results: Path, commit: str) -> Diary:
    """A new night's diary, in a folder of its own."""
    name = time.strftime("%Y-%m-%dT%H%M%S")
    folder = results / name
    try:
        folder.mkdir(parents=True)
    except OSError as problem:
        raise LabError(
            f"the results of nightly runs cannot be kept in {folder}: {problem.strerror}",
            hint="set another folder: results in [nightly] of lab/lab.toml",
        ) from problem
    diary = Diary(folder, name, commit, time.time())
    diary.write()
    return diary


def read(folder: Path) -> Diary | None:
    """The diary of a night's folder; None when there is none that can be understood."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        entries = [Entry(**one) for one in data["entries"]]
        name, commit, started = data["name"], data["commit"], data["started"]
        return Diary(folder, name, commit, started, entries, list(data["recovered"]), data["ended"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def nights(results: Path) -> list[Diary]:
    """All nights that are kept, the oldest first."""
    folders = sorted(results.iterdir()) if results.is_dir() else []
    return [diary for folder in folders if (diary := read(folder)) is not None]


def unfinished(results: Path, commit: str) -> Diary | None:
    """The newest night, when it was cut off, is of these sources, and not too old to go on with."""
    found = nights(results)
    if not found or found[-1].ended is not None or found[-1].commit != commit:
        return None
    hours = (time.time() - found[-1].started) / 3600
    return found[-1] if 0 <= hours < FRESH_HOURS else None

"""``out/history``: the records of earlier runs, the newest of each part and kind of card, bounded.

A run that goes on writes a journal there, which it holds locked. A journal that nobody holds is of a run that
was killed: it becomes a record that says so.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import paths
from lab.errors import LabError
from suites.report.record import JOURNAL, RECORD, Record, read, write

#: Records kept of each part and kind of card: two months of nights.
KEPT = 60
#: The part of runs that were started by hand: no part of the whole, so never compared, and fewer are kept.
OWN, OWN_KEPT = "own", 10
_NAME = re.compile(r"\d{8}T\d{6}-(?P<part>.+)-[0-9a-f]{12}\.jsonl?")


def folder() -> Path:
    return paths.out() / "history"


def path_of(record: Record, suffix: str = RECORD) -> Path:
    """Where a record lives: its name tells time and part, so that a listing is in order."""
    stamp = re.sub(r"[-:]", "", record.started)[:15]
    part = re.sub(r"[^A-Za-z0-9_.]+", "_", record.part)[:40]
    return folder() / f"{stamp}-{part}-{record.id}{suffix}"


@dataclass
class History:
    """Every record there is, oldest first, and what could not be read."""

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def of(self, part: str, card: str) -> list[Record]:
        return [one for one in self.records if (one.part, one.card) == (part, card)]

    def groups(self) -> list[tuple[str, str]]:
        """Each part and kind of card there are records of, in order of first appearance."""
        return list(dict.fromkeys((one.part, one.card) for one in self.records))


def load(where: Path | None = None) -> History:
    """All records of a folder. One that cannot be read is told, and keeps no other from being read."""
    found = History()
    where = where or folder()
    for path in sorted(where.glob("*")) if where.is_dir() else ():
        if path.suffix not in (RECORD, JOURNAL) or not _NAME.fullmatch(path.name):
            continue
        if path.suffix == JOURNAL and is_held(path):
            continue  # it goes on
        try:
            found.records.append(read(path))
        except LabError as problem:
            found.problems.append(str(problem))
    found.records.sort(key=lambda one: one.started)
    return found


def is_held(path: Path) -> bool:
    """Whether the run that writes this journal lives."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def settle(where: Path | None = None) -> list[Path]:
    """Make records of the journals of runs that were killed; returns them."""
    settled = []
    for path in sorted((where or folder()).glob(f"*{JOURNAL}")):
        if is_held(path):
            continue
        try:
            record = read(path)
        except LabError:
            continue  # `load` tells it
        write(record, path.with_suffix(RECORD))
        path.unlink(missing_ok=True)
        settled.append(path.with_suffix(RECORD))
    return settled


def prune(where: Path | None = None, kept: int = KEPT) -> list[Path]:
    """Remove what is beyond the bound, oldest first; returns what was removed.

    The bound is of each part and card kind, which the name does not tell: twice as many of a part are kept by
    name, so that a card of either kind has its share, without reading them.
    """
    by_part: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((where or folder()).glob(f"*{RECORD}")):
        if match := _NAME.fullmatch(path.name):
            by_part[match["part"]].append(path)
    gone = []
    for part, files in by_part.items():
        for path in files[: -(OWN_KEPT if part == OWN else 2 * kept)]:
            path.unlink(missing_ok=True)
            gone.append(path)
    return gone


@contextmanager
def held(path: Path) -> Iterator[int]:
    """A new journal, locked as long as its run lives; yields its descriptor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)

"""Lock files: the exact packages of an image, one JSON object a line, so that a change reads as a diff."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lab.errors import LabError
from lab.replacing import replacing

Archive = Literal["debian", "debian-security"]


class Package(BaseModel):
    """One locked binary package. `path` is its place in the archive's pool, without a host; size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")
    version: str = Field(pattern=r"^[A-Za-z0-9.+~:-]+$")
    architecture: str = Field(pattern=r"^[a-z0-9-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(gt=0)
    archive: Archive
    path: str

    @field_validator("path")
    @classmethod
    def _stays_in_pool(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not path.startswith("pool/") or ".." in parts or "//" in path:
            raise ValueError("must be a path below pool/")
        return path

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Header(BaseModel):
    """First line of a lock.

    `snapshot` is the archive's own time stamp (its Release files), UTC, YYYYMMDDTHHMMSSZ; `replaces` is the
    digest of the tracked lock that an untracked one stands in for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    image: str
    suite: str
    architecture: str
    snapshot: str = Field(pattern=r"^\d{8}T\d{6}Z$")
    requested: tuple[str, ...]
    replaces: str | None = None


@dataclass(frozen=True)
class Lock:
    """A lock as read or resolved; packages sorted by name."""

    header: Header
    packages: tuple[Package, ...]

    @property
    def epoch(self) -> int:
        """SOURCE_DATE_EPOCH of everything built from this lock: the archive's time stamp, seconds."""
        stamp = datetime.strptime(self.header.snapshot, "%Y%m%dT%H%M%SZ")
        return int(stamp.replace(tzinfo=UTC).timestamp())

    @property
    def digest(self) -> str:
        """sha256 of the lock's text."""
        return hashlib.sha256(self.dump().encode()).hexdigest()

    @property
    def content(self) -> str:
        """sha256 of the packages alone, whatever the lock file says about its origin."""
        lines = "".join(f"{p.name} {p.version} {p.architecture} {p.sha256}\n" for p in self.packages)
        return hashlib.sha256(lines.encode()).hexdigest()

    def dump(self) -> str:
        """The file's text: header line, then one package a line."""
        rows = [self.header.model_dump(exclude_none=True), *(p.model_dump() for p in self.packages)]
        return "".join(json.dumps(row, sort_keys=False) + "\n" for row in rows)

    def version(self, name: str) -> str | None:
        """Locked version of a package, None when the lock has no such package."""
        return next((p.version for p in self.packages if p.name == name), None)


def make(header: Header, packages: Iterable[Package]) -> Lock:
    """A lock in canonical order."""
    return Lock(header, tuple(sorted(packages, key=lambda p: (p.name, p.architecture))))


def read(path: Path) -> Lock:
    """Parse a lock file. LabError naming the line when it is missing or malformed."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise LabError(f"{path} is missing", hint="make lock writes it") from error
    number = 1
    try:
        header = Header.model_validate_json(lines[0] if lines else "")
        packages = []
        for line in lines[1:]:
            number += 1
            packages.append(Package.model_validate_json(line))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "line"
        raise LabError(
            f"{path}:{number}: {where}: {problem['msg']}",
            hint="restore the file from git, or write it anew: make lock",
        ) from error
    names = [p.name for p in packages]
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise LabError(f"{path}: listed twice: {', '.join(twice)}", hint="make lock writes it anew")
    return make(header, packages)


def write(lock: Lock, path: Path) -> None:
    """Place the lock atomically."""
    with replacing(path) as fresh:
        fresh.write_text(lock.dump(), encoding="utf-8")


@dataclass(frozen=True)
class Change:
    """One difference between two locks; None where a side lacks the package."""

    name: str
    before: str | None
    after: str | None


def compare(before: Lock, after: Lock) -> list[Change]:
    """Packages that differ in version or content, sorted by name."""
    old = {p.name: p for p in before.packages}
    new = {p.name: p for p in after.packages}
    changes = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if a is None or b is None or a.sha256 != b.sha256:
            changes.append(Change(name, a.version if a else None, b.version if b else None))
    return changes


def table(changes: Iterable[Change]) -> str:
    """The differences for people, one a line."""
    rows = [(c.name, c.before or "-", c.after or "-") for c in changes]
    rows.insert(0, ("package", "tracked lock", "archive now"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )

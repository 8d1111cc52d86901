"""What was borrowed of the machine, from whom it was taken, and how far: on disk before anything is changed.

One journal for each thing held, in /run: it describes the state of the running kernel, and goes with it.
Beside it a lock, which the process that holds the thing keeps for as long as it lives: a journal whose lock
is free is a crash's, and whoever finds it first gives the thing back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lab.errors import LabError

#: struct flock, and one of it that is a lock of the whole file.
_FLOCK = struct.Struct("@hhqqi4x")
_WHOLE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def folder() -> Path:
    """Of this machine's journals: all checkouts of all users have the same cards."""
    return Path(os.environ.get("EXALAB_RUN") or "/run/exalab") / "held"


@dataclass(frozen=True)
class Owner:
    """Who holds a thing: a lab, and the checkout it is of."""

    lab: str
    root: str

    def __str__(self) -> str:
        return f"lab {self.lab} of {self.root}"


class Journal:
    """The journal of one thing, locked by us until :meth:`close`. ``name`` is its file's."""

    def __init__(self, where: Path, name: str, owner: Owner) -> None:
        self.path = where / f"{name}.json"
        self.owner = owner
        self._told: dict[str, Any] | None = None
        where.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(where / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _WHOLE)
        except BlockingIOError:
            os.close(self._fd)
            raise Held(name, owner_of(self.path)) from None
        try:
            self._told = read(self.path)
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def open(self) -> bool:
        """Whether something is taken, or half taken."""
        return self._told is not None

    @property
    def before(self) -> dict[str, Any]:
        """How the thing was; raises ``LabError`` when nothing is taken."""
        if self._told is None:
            raise LabError(f"{self.path} is not there: nothing is taken")
        return dict(self._told["before"])

    @property
    def boot_id(self) -> str:
        """Of the boot in which it was taken."""
        return str((self._told or {}).get("boot_id", ""))

    def begin(self, before: dict[str, Any], boot_id: str) -> None:
        """From now on the thing is taken: this is how it was."""
        self._write(
            {
                "schema": 1,
                "lab": self.owner.lab,
                "root": self.owner.root,
                "pid": os.getpid(),
                "boot_id": boot_id,
                "before": before,
                "steps": [],
            }
        )

    def step(self, what: str) -> None:
        """About to do this; on disk when it returns."""
        assert self._told is not None
        self._write({**self._told, "steps": [*self._told["steps"], what]})

    def end(self) -> None:
        """The thing is as it was."""
        self.path.unlink(missing_ok=True)
        _sync(self.path.parent)
        self._told = None

    def close(self) -> None:
        """Let go of the lock; what is taken stays so, for whoever comes next."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, told: dict[str, Any]) -> None:
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(told, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        _sync(self.path.parent)
        self._told = told


def is_held(where: Path, name: str) -> bool:
    """Whether a process that lives holds the thing. Only asks, so that nobody takes us for a holder."""
    try:
        fd = os.open(where / f"{name}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE)
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


class Held(LabError):
    """Somebody who lives holds the thing."""

    def __init__(self, name: str, owner: str | None) -> None:
        kind, _, thing = name.partition("-")
        what = "card" if kind == "pci" else "interface"
        super().__init__(
            f"{what} {thing} is taken by {owner or 'somebody who starts or stops a lab now'}",
            hint="stop that lab first (make lab-down there), or use another card",
        )


def read(path: Path) -> dict[str, Any] | None:
    """A journal; None when there is none. Raises ``LabError`` for one that cannot be understood."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise LabError(f"{path} cannot be read: {problem.strerror}", hint="run as root") from problem
    with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
        told = json.loads(text)
        if told["schema"] == 1 and isinstance(told["before"], dict) and isinstance(told["steps"], list):
            return dict(told)
    raise LabError(
        f"{path} is not a journal of this version: nothing can be given back from it",
        hint="reboot, which gives everything back; or rebind the driver by hand and remove the file",
    )


def owner_of(path: Path) -> str | None:
    """Who holds what a journal is of, for people."""
    with contextlib.suppress(LabError):
        told = read(path)
        if told is not None:
            return f"{Owner(str(told['lab']), str(told['root']))} (process {told['pid']})"
    return None


def left(where: Path, owner: Owner | None = None) -> list[str]:
    """Names of the journals that there are; of one owner, or all."""
    found = []
    for path in sorted(where.glob("*.json")):
        try:
            told = read(path)
        except LabError:
            told = None
        if told is None:
            continue
        if owner is None or (told["lab"], told["root"]) == (owner.lab, owner.root):
            found.append(path.stem)
    return found


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

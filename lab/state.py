"""What a lab's supervisor writes down for everybody else: ``out/labs/NAME/state.json``.

The file outlives the lab; whether its supervisor lives is told by a lock that the kernel gives back, never by
the file or by a process number.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.paths import Paths
from lab.replacing import replacing


@dataclass
class Part:
    """One process of a lab. ``ended`` tells how it died, with its last words, None while it lives."""

    name: str
    log: str
    pid: int | None = None
    ended: str | None = None


@dataclass
class State:
    """``phase``: starting, booting, up, stopping, down, failed. ``facts`` is what `up` found out."""

    name: str
    phase: str = "down"
    pid: int | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    boots: int = 0
    ssh_port: int | None = None
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def broken(self) -> str | None:
        """How the first dead part ended, or None when all live."""
        return next((part.ended for part in self.parts.values() if part.ended), None)

    def pids(self) -> list[int]:
        """The parts that live, by process number."""
        return [part.pid for part in self.parts.values() if part.pid is not None and not part.ended]


def from_json(data: dict[str, Any]) -> State:
    """The state as written by :func:`write` or sent by the supervisor."""
    parts = {name: Part(**part) for name, part in data.get("parts", {}).items()}
    return State(**{**data, "parts": parts})


def read(paths: Paths) -> State:
    """The last state written; a fresh one (down) when there is none or it is not ours."""
    try:
        return from_json(json.loads(paths.state.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return State(paths.name)


def write(paths: Paths, state: State) -> None:
    """Replace the file at once: a reader sees the old state or the new one."""
    with replacing(paths.state) as fresh:
        fresh.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when somebody else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


#: struct flock, of which the kernel fills in the first field: the type of a lock that is in the way.
_FLOCK = struct.Struct("@hhqqi4x")


def _whole(kind: int) -> bytes:
    """A lock of the whole file, of this type."""
    return _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)


def hold_alive(paths: Paths) -> int | None:
    """The supervisor's: hold the sign of life until the process ends. None: another one lives."""
    paths.alive.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(paths.alive, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole(fcntl.F_WRLCK))
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def is_alive(paths: Paths) -> bool:
    """Whether the lab has a supervisor. Only asks: who tried the lock instead would, for a moment, be taken
    for one by a supervisor that starts."""
    try:
        fd = os.open(paths.alive, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _whole(fcntl.F_WRLCK))
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


@contextmanager
def alone(paths: Paths, waiting: str) -> Iterator[None]:
    """One `up` or `down` of a lab at a time; shows the step ``waiting`` while another one has it."""
    fd = _locked(paths.lock)
    if fd is None:
        from lab import console

        fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with console.step(waiting):
                fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            os.close(fd)
            raise
    try:
        yield
    finally:
        os.close(fd)

"""Who has a shared card: leases in a directory that everybody who shares it sees. No server.

A lease is a row of files ``NAME.1``, ``NAME.2``, …: the one with the highest number counts, and whoever
makes the next one has the card. Making a file is exclusive (link(2), also over NFS), so two never make the
same one. The next may be made when the last was given up, or when it has not changed for a while by the
watcher's own clock: clocks of different machines are never compared. The number is the fence: a holder that
was stopped and comes back finds a higher one than its own, and has lost.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from lab.errors import LabError

#: Seconds between two signs of life, and how long a watcher sees none before the holder counts as dead.
BEAT, DEAD_AFTER = 10.0, 60.0
#: Older files of a lease that are kept, so that a machine with an old listing never makes one anew.
KEPT = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,100}")


@dataclass(frozen=True)
class Claim:
    """What a lease's file says. ``since``: by the holder's clock, for people only; ``beat`` counts signs of
    life.
    """

    name: str
    number: int
    token: str
    holder: str
    purpose: str
    since: str
    beat: int = 0
    given_up: bool = False

    def __str__(self) -> str:
        if self.given_up:
            return f"{self.name}: free; {self.holder} had it last ({self.purpose})"
        return f"{self.name}: {self.holder} since {self.since} ({self.purpose})"


class Taken(LabError):
    """Somebody else has the card."""

    def __init__(self, claim: Claim, waited: float) -> None:
        super().__init__(
            f"{claim.name} is leased by {claim.holder} since {claim.since} ({claim.purpose})"
            + (f", still after {waited:g} s" if waited else ""),
            hint="wait, or ask its owner; a reservation can be taken over after"
            f" {DEAD_AFTER:g} s without a heartbeat",
        )


class Lost(LabError):
    """The lease went to somebody else while we were stopped, or cut off from its directory."""

    def __init__(self, name: str, by: Claim | None) -> None:
        super().__init__(
            f"the reservation of {name} was lost" + (f" to {by.holder}" if by else ": its file is gone"),
            hint="stop using the card; this machine may have been suspended, or cut off from the"
            " directory of reservations",
        )


def me() -> str:
    """This user on this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


#: Of a lease that whoever started this process holds, for us to work under.
ENVIRONMENT = "EXALAB_LEASE"


def is_ours(folder: Path, name: str) -> bool:
    """Whether the lease is held by whoever started this process."""
    token = os.environ.get(ENVIRONMENT)
    now = last(folder, name) if token else None
    return now is not None and not now.given_up and now.token == token


def name_of(address: str, host: str | None = None) -> str:
    """The lease's name of a card: its machine and its PCI address there."""
    return f"{host or socket.gethostname()}-{address}"


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}.{number:06d}"


def numbers(folder: Path, name: str) -> list[int]:
    """The numbers of a lease's files, lowest first. Raises ``LabError`` when the directory cannot be read."""
    found = []
    try:
        for entry in folder.iterdir():
            stem, _, number = entry.name.rpartition(".")
            if stem == name and number.isdigit():
                found.append(int(number))
    except OSError as problem:
        raise LabError(
            f"the reservations in {folder} cannot be read: {problem.strerror}",
            hint="mount the shared file system here, and make it writable for root",
        ) from problem
    return sorted(found)


def read(folder: Path, name: str, number: int) -> Claim | None:
    """One file of a lease; None when it is gone. One that cannot be understood is somebody's all the same."""
    try:
        told = json.loads(_path(folder, name, number).read_text(encoding="utf-8"))
        return Claim(**{key: told[key] for key in Claim.__dataclass_fields__})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Claim(name, number, "", "somebody", "its file cannot be understood", "?")


def last(folder: Path, name: str) -> Claim | None:
    """The claim that counts now; None: nobody ever had it."""
    while found := numbers(folder, name):
        if (claim := read(folder, name, found[-1])) is not None:
            return claim
    return None


def all_of(folder: Path) -> list[Claim]:
    """Every lease of a directory, as it is now."""
    try:
        stems = {entry.name.rpartition(".")[0] for entry in folder.iterdir()}
    except OSError:
        return []
    claims = [last(folder, stem) for stem in sorted(stems) if _NAME.fullmatch(stem)]
    return [claim for claim in claims if claim is not None]


class Lease:
    """A lease that we hold, with its signs of life in a thread of its own until :meth:`give_up`.

    ``lost`` is set, and ``on_lost`` called in that thread, when somebody has followed us.
    """

    def __init__(
        self, folder: Path, claim: Claim, beat: float = BEAT, on_lost: Callable[[], None] | None = None
    ) -> None:
        self.claim = claim
        self.lost = threading.Event()
        self._folder, self._beat, self._on_lost = folder, beat, on_lost
        self._end = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._live, name=f"lease {claim.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise :class:`Lost` unless we still have it, by what the directory says now."""
        now = last(self._folder, self.claim.name)
        if now is None or now.token != self.claim.token or now.number != self.claim.number:
            raise Lost(self.claim.name, now)

    def give_up(self) -> None:
        """Somebody else may have it from now on; nothing when it was lost."""
        self._end.set()
        self._thread.join()
        with self._writing, contextlib.suppress(LabError, OSError):
            self.check()
            _rewrite(self._folder, replace(self.claim, given_up=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()

    def _live(self) -> None:
        while not self._end.wait(self._beat):
            try:
                with self._writing:
                    self.check()
                    self.claim = replace(self.claim, beat=self.claim.beat + 1)
                    _rewrite(self._folder, self.claim)
            except Lost:
                self.lost.set()
                if self._on_lost is not None:
                    self._on_lost()
                return
            except (LabError, OSError):
                continue  # cut off: whoever watches us will follow, and the next check tells


def _write_new(folder: Path, claim: Claim) -> bool:
    """Make the claim's file; False when another one has made it before."""
    fresh = folder / f".{claim.token}.{secrets.token_hex(4)}"
    try:
        _put(fresh, claim)
        try:
            os.link(fresh, _path(folder, claim.name, claim.number))
        except FileExistsError:
            # Over NFS an answer may be lost and the request repeated: then it was us.
            return fresh.stat().st_nlink == 2
        return True
    finally:
        fresh.unlink(missing_ok=True)


def _rewrite(folder: Path, claim: Claim) -> None:
    """The holder's own file anew; nobody else ever writes it."""
    fresh = folder / f".{claim.token}.{secrets.token_hex(4)}"
    try:
        _put(fresh, claim)
        fresh.replace(_path(folder, claim.name, claim.number))
    finally:
        fresh.unlink(missing_ok=True)


def _put(path: Path, claim: Claim) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(asdict(claim), file)
        file.flush()
        os.fsync(file.fileno())


def acquire(
    folder: Path,
    name: str,
    purpose: str,
    *,
    wait: float = 0.0,
    beat: float = BEAT,
    dead_after: float = DEAD_AFTER,
    on_lost: Callable[[], None] | None = None,
    waiting: Callable[[Claim], None] | None = None,
    token: str | None = None,
) -> Lease:
    """Have the lease ``name`` of a directory, waiting at most ``wait`` seconds for whoever has it.

    ``waiting`` is called with each claim that is waited for; ``token`` is of another lease of ours, to be
    known by the same one. A holder without a sign of life is followed after ``dead_after`` seconds of
    watching, so a shorter wait never follows one. Raises :class:`Taken`, and ``LabError`` when the directory
    cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise LabError(
            f"{name!r} cannot name a reservation", hint="use letters, digits, '-', '_', '.' and ':'"
        )
    _usable(folder)
    token = token or secrets.token_hex(8)
    started = time.monotonic()
    seen: Claim | None = None
    changed = started
    while True:
        now = last(folder, name)
        if now != seen:
            if now is not None and not now.given_up and (seen is None or now.token != seen.token) and waiting:
                waiting(now)
            seen, changed = now, time.monotonic()
        if now is None or now.given_up or time.monotonic() - changed >= dead_after:
            claim = Claim(
                name,
                (now.number if now else 0) + 1,
                token,
                me(),
                purpose,
                time.strftime("%Y-%m-%d %H:%M:%S%z"),
            )
            if _write_new(folder, claim) and numbers(folder, name)[-1:] == [claim.number]:
                _tidy(folder, name, claim.number)
                return Lease(folder, claim, beat, on_lost)
            continue
        waited = time.monotonic() - started
        if waited >= wait:
            raise Taken(now, wait)
        time.sleep(min(beat / 4, 1.0, max(0.01, wait - waited)))


def _usable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Both names are ours alone: others try it at this moment, or were killed while they did.
        probe = folder / f".probe.{secrets.token_hex(4)}"
        link = folder / f"{probe.name}.link"
        try:
            probe.touch()
            os.link(probe, link)
        finally:
            probe.unlink(missing_ok=True)
            link.unlink(missing_ok=True)
    except OSError as problem:
        raise LabError(
            f"reservations cannot be kept in {folder}: {problem.strerror}",
            hint="use a directory that root can write to, on a file system with hard links",
        ) from problem


def _tidy(folder: Path, name: str, number: int) -> None:
    for old in numbers(folder, name):
        if old <= number - KEPT:
            with contextlib.suppress(OSError):
                _path(folder, name, old).unlink()

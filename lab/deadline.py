"""Named deadlines, and the one way to wait: with a deadline, watching the death of what is waited for.

Deadlines are written for a machine with KVM and scaled to the accelerator in use: :func:`scaled`.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from lab.errors import DeadlineExpired, LabError

#: How much longer everything may take without KVM, on two busy cores (measured: boots take 8 times as long).
TCG_FACTOR = 10.0
ENVIRONMENT = "EXALAB_DEADLINE_FACTOR"

T = TypeVar("T")
_factor = TCG_FACTOR


def set_accelerator(accelerator: str, slower: float = 1.0) -> None:
    """Scale deadlines to ``accelerator`` (``kvm`` or ``tcg``; ``none``: a machine that is no guest); until it
    is known they are TCG's. ``slower``: how much longer the guest's kernel takes than Debian's.
    """
    global _factor
    _factor = slower * (1.0 if accelerator in ("kvm", "none") else TCG_FACTOR)


def factor() -> float:
    """The factor in force; the variable EXALAB_DEADLINE_FACTOR overrides it (a debugger, a slow host)."""
    given = os.environ.get(ENVIRONMENT)
    if given is None:
        return _factor
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise LabError(f"{ENVIRONMENT}={given!r} is not a positive number", hint=f"unset {ENVIRONMENT}")
    return value


def scaled(seconds: float) -> float:
    """``seconds`` on a machine with KVM, as seconds on this one."""
    return seconds * factor()


class Watched(Protocol):
    """Something whose death ends a wait; ``lab.process.Process`` is one."""

    name: str

    def fileno(self) -> int:
        """A descriptor that becomes readable when it dies (a pidfd)."""

    def death(self) -> LabError | None:
        """None while it lives, else the error that tells how it died."""


class Deadline:
    """A named point in time. Seconds are real ones: pass ``scaled(…)`` where the guest is involved."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    def error(self) -> DeadlineExpired:
        """The error that says this deadline passed."""
        return DeadlineExpired(
            f"{self.name}: not within {self.seconds:g} s",
            hint=f"if this machine is only slow, set {ENVIRONMENT} (now {factor():g}) higher",
        )

    def check(self) -> None:
        """Raise ``DeadlineExpired`` when the time is up."""
        if self.remaining() <= 0:
            raise self.error()

    def wait_readable(self, fds: Sequence[int], watch: Sequence[Watched] = ()) -> list[int]:
        """Block until one of ``fds`` is readable; returns those that are.

        Raises ``DeadlineExpired``, or the death of a watched process when nothing is readable any more.
        """
        ready = self._poll(fds, watch, self.remaining())
        if not ready:
            raise self.error()
        return ready

    def wait_until(
        self, condition: Callable[[], T | None], watch: Sequence[Watched] = (), every: float = 0.02
    ) -> T:
        """Ask ``condition`` until it returns something true, and return that.

        For what has no event to wait on: asks ``every`` seconds, sleeping on the death of what is watched.
        """
        while True:
            value = condition()
            if value:
                return value
            self.check()
            self._poll((), watch, min(every, self.remaining()))

    def _poll(self, fds: Sequence[int], watch: Sequence[Watched], seconds: float) -> list[int]:
        poller = select.poll()
        for fd in fds:
            poller.register(fd, select.POLLIN)
        for one in watch:
            poller.register(one.fileno(), select.POLLIN)
        events = {fd for fd, _ in poller.poll(seconds * 1000)}
        ready = [fd for fd in fds if fd in events]
        if ready:
            return ready
        for one in watch:
            death = one.death()
            if death is not None:
                raise death
        return []

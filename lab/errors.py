"""What goes wrong in the lab, said for people: what, where, and what to do about it."""

from __future__ import annotations


class LabError(Exception):
    """An error a person can act on. ``hint`` is the remedy, one or two sentences, or None."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class DeadlineExpired(LabError):
    """A named wait took longer than it may."""


class ProcessFailed(LabError):
    """A process could not start, ended with an error, or died while something waited for it.

    ``returncode`` is negative for a signal (as in ``subprocess``), None when it never started.
    """

    def __init__(self, message: str, returncode: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.returncode = returncode

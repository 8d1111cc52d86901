"""What people see: steps with their elapsed time, results, errors with a remedy.

Progress goes to standard error, live on a terminal and as plain lines elsewhere; results go to standard
output.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import click
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from lab.errors import LabError

#: Results. Soft wrap, so that a piped table is not cut at 80 columns.
out = Console(soft_wrap=not sys.stdout.isatty(), highlight=False)
_err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


@dataclass
class Step:
    """One running step. ``note()`` says what it is at, shown beside it."""

    name: str
    started: float = field(default_factory=time.monotonic)
    detail: str = ""

    def note(self, detail: str) -> None:
        """Replace the detail shown on a terminal; costs nothing, so call it as often as you like."""
        self.detail = detail

    @property
    def seconds(self) -> float:
        """Elapsed so far."""
        return time.monotonic() - self.started


class _Board:
    """All running steps, of all threads, drawn by one live display."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self._live: Live | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for step in list(self._steps):
            line = Text.assemble(("… ", "cyan"), step.name, (f"  {step.seconds:.0f} s", "dim"))
            if step.detail:
                line.append(f"  {step.detail}", style="dim")
            line.truncate(max(10, options.max_width - 1), overflow="ellipsis")
            line.no_wrap = True
            yield line

    def start(self, step: Step) -> None:
        with self._lock:
            self._steps.append(step)
            if not _err.is_terminal:
                _err.print(f"… {escape(step.name)}")
            elif self._live is None:
                self._live = Live(self, console=_err, refresh_per_second=5, transient=True)
                self._live.start()

    def finish(self, step: Step, failed: bool) -> None:
        mark = "[red]✗[/]" if failed else "[green]✓[/]"
        with self._lock:
            self._steps.remove(step)
            if self._live is not None and not self._steps:
                self._live.stop()
                self._live = None
            _err.print(f"{mark} {escape(step.name)}  [dim]{step.seconds:.1f} s[/]")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The live display out of the way, for a program that draws on the terminal itself."""
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                live.stop()
        try:
            yield
        finally:
            with self._lock:
                if live is not None and self._steps:
                    self._live = live
                    live.start()


_board = _Board()
paused = _board.paused


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Show that ``name`` is going on, and how long it took. For everything that may take over two seconds.

    May be nested and used from several threads at once::

        with step("building image dut") as s:
            s.note("unpacking")
    """
    this = Step(name)
    _board.start(this)
    failed = True
    try:
        yield this
        failed = False
    finally:
        _board.finish(this, failed)


def say(message: str) -> None:
    """A line about what is going on (standard error); no markup."""
    _err.print(escape(message))


def warn(message: str, hint: str | None = None) -> None:
    """Something a person should know that stops nothing."""
    _err.print(f"[yellow]warning:[/] {escape(message)}")
    if hint:
        _err.print(f"  [dim]{escape(hint)}[/]")


def error(message: str, hint: str | None = None) -> None:
    """Say what failed and what to do; the caller decides how to end."""
    _err.print(f"[bold red]error:[/] {escape(message)}")
    if hint:
        _err.print(f"  [bold]→[/] {escape(hint)}")


def die(message: str, hint: str | None = None, status: int = 1) -> NoReturn:
    """End the program with an error for people."""
    error(message, hint)
    sys.exit(status)


@contextmanager
def reporting() -> Iterator[None]:
    """Around a program's main: a ``LabError`` becomes its message, Ctrl-C becomes status 130.

    ``EXALAB_DEBUG=1`` lets the traceback through.
    """
    try:
        yield
    except LabError as problem:
        if os.environ.get("EXALAB_DEBUG"):
            raise
        die(problem.message, problem.hint)
    except KeyboardInterrupt:
        die("interrupted", status=130)


def run(command: click.Command, name: str) -> NoReturn:
    """A command as a whole program: its errors for people, Ctrl-C as everywhere, and its exit status."""
    with reporting():
        try:
            sys.exit(command.main(prog_name=name, standalone_mode=False) or 0)
        except click.Abort:
            raise KeyboardInterrupt from None
        except click.ClickException as problem:
            problem.show()
            sys.exit(problem.exit_code)
    raise AssertionError("not reached")

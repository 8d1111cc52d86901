"""What is recorded all night, beside whatever runs: kernel messages, links, the console of the machine under
test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from lab import process
from lab.errors import LabError
from lab.process import Process

#: Log file and command of what every Linux machine can tell.
ALWAYS = (
    ("dmesg.log", ("dmesg", "--follow", "--time-format", "iso")),
    ("links.log", ("ip", "-timestamp", "monitor", "link")),
)


class Recorders:
    """Processes that write their logs into ``folder`` until :meth:`close`; one that ended is started again by
    :meth:`tend`, which says so."""

    def __init__(
        self, folder: Path, console: Sequence[str] = (), always: Iterable[tuple[str, Sequence[str]]] = ALWAYS
    ) -> None:
        self._folder = folder
        self._wanted = {name: tuple(argv) for name, argv in always}
        if console:
            self._wanted["console.log"] = tuple(console)
        self._running: dict[str, Process] = {}
        self.tend()

    def tend(self) -> list[str]:
        """Start what does not run; what is to be told of it."""
        told = []
        for log, argv in self._wanted.items():
            one = self._running.get(log)
            if one is not None:
                death = one.death()
                if death is None:
                    continue
                told.append(death.message)
                one.stop()
            try:
                self._running[log] = process.spawn(argv, name=argv[0], log=self._folder / log, append=True)
            except LabError as problem:
                self._running.pop(log, None)
                told.append(f"{log} is not recorded: {problem.message}")
        return told

    def close(self) -> None:
        """End all of them."""
        with ExitStack() as stack:
            for one in self._running.values():
                stack.callback(one.stop)
        self._running.clear()

    def __enter__(self) -> Recorders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

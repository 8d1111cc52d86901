"""The control API of a lab's hardware, from Python.

>>> control = Control(paths.control)                                              # doctest: +SKIP
>>> control.link("card0:1", up=False)                                             # doctest: +SKIP
>>> control.counters()["card0:0"]["tx"]                                           # doctest: +SKIP
42

On the socket: one JSON object a line, ``{"id", "method", "params"}`` answered in order by
``{"id", "result"}`` or ``{"id", "error": {"kind", "message"}}``.
"""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.errors import LabError

#: Longest line in either direction, bytes.
MAX_LINE = 8 << 20
#: The daemon answers at once; this long without an answer means that it hangs.
TIMEOUT = 30.0


class ControlError(LabError):
    """The daemon refused, cannot be reached, or gave no answer. ``kind``: invalid, internal, connection."""

    def __init__(self, message: str, kind: str = "invalid", hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.kind = kind


class Control:
    """A connection to a card daemon; every call is one request and its answer."""

    def __init__(self, path: Path | str, timeout: float = TIMEOUT) -> None:
        self.path = Path(path)
        #: Rules that were replaced through this connection, and on how many frames each had acted.
        self.replaced: list[dict[str, Any]] = []
        #: Faults that were asked for through this connection: card, kind, arguments.
        self.faults: list[tuple[str, str, dict[str, Any]]] = []
        self._ids = itertools.count(1)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError as problem:
            self._socket.close()
            raise ControlError(
                f"no card daemon answers at {path}: {problem.strerror}", "connection", hint="is the lab up?"
            ) from problem
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, method: str, **params: Any) -> Any:
        """Any method by name. Raises ControlError."""
        number = next(self._ids)
        request = json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"
        try:
            self._socket.sendall(request)
            line = self._file.readline(MAX_LINE)
        except OSError as problem:
            raise ControlError(
                f"the card daemon did not answer {method}: {problem}", "connection"
            ) from problem
        if not line.endswith(b"\n"):
            raise ControlError(f"the card daemon went away during {method}", "connection", "see cardd.log")
        answer = json.loads(line)
        if answer.get("id") != number:
            raise ControlError(f"the card daemon answered something else than {method}", "connection")
        if "error" in answer:
            raise ControlError(answer["error"]["message"], answer["error"]["kind"])
        return answer["result"]

    def status(self) -> dict[str, Any]:
        """``pid``, ``uptime_s``, ``core``, ``seed``, ``trace``, ``wiring``, and per card ``name``, ``model``,
        ``serial``, ``mac``, ``socket``, ``connected``, ``clients``, ``present``, ``ports``."""
        return dict(self.call("status"))

    def ports(self) -> list[dict[str, Any]]:
        """Per end: ``end``, ``link``, ``up`` (cable not pulled), ``speed`` (Mb/s), ``mac`` (None: a real
        card's, or no card's), ``interface`` (this machine's that is cabled to a real card's port),
        ``peer``.
        """
        return list(self.call("ports"))

    def wire(self, segments: Iterable[Mapping[str, Any]]) -> None:
        """Rewire everything (:mod:`lab.wire.segments`)."""
        self.call("wire", segments=[dict(segment) for segment in segments])

    def link(self, end: str, up: bool) -> None:
        """Pull the end's cable, or plug it in again."""
        self.call("link", end=end, up=up)

    def rules(self, end: str, rules: Iterable[Mapping[str, Any]]) -> None:
        """Replace the rules of an end (:mod:`lab.wire.rules`); what those it had did is in ``replaced``."""
        self.replaced += self.call("rules", end=end, rules=[dict(rule) for rule in rules])

    def inject(self, end: str, frame: bytes, sealed: bool = False) -> None:
        """A frame arrives at a port (or leaves a tester) out of nowhere; ``sealed``: it has its FCS."""
        self.call("inject", end=end, frame=frame.hex(), sealed=sealed)

    def counters(self) -> dict[str, dict[str, Any]]:
        """Everything counted, by end, card and switch."""
        return dict(self.call("counters"))

    def flush(self) -> None:
        """When this returns, the capture files hold every frame so far."""
        self.call("flush")

    def fault(self, card: str, kind: str, **args: Any) -> None:
        """Make a card misbehave (kinds: :meth:`lab.wire.fabric.Fabric.fault`)."""
        self.call("fault", card=card, kind=kind, args=args)
        self.faults.append((card, kind, args))

    def registers(self, card: str) -> dict[str, int]:
        """What every readable register reads as now."""
        return dict(self.call("registers", card=card))

    def trace(self, on: bool) -> None:
        """Switch the register trace off (what was recorded stays), or on again from an empty ring."""
        self.call("trace", on=on)

    def trace_dump(self, directory: Path | None = None) -> list[Path]:
        """Write each card's trace to ``directory`` (default: the lab's); the files."""
        params = {} if directory is None else {"directory": str(directory)}
        return [Path(name) for name in self.call("trace_dump", **params)]

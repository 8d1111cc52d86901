"""The control API, server side: JSON lines over a unix socket, served from the daemon's loop."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lab.cardd.control import MAX_LINE
from lab.cardd.loop import READ, WRITE, Loop
from lab.cardd.spec import describe

log = logging.getLogger(__name__)

Method = Callable[..., Any]
MAX_CLIENTS = 32


class Service:
    """Listens on ``path`` and calls ``methods`` by name with the request's ``params`` as keywords.

    A method refuses with ValueError or KeyError (kind ``invalid``); anything else it raises is reported as
    ``internal`` and logged.
    """

    def __init__(self, path: Path, methods: Mapping[str, Method], loop: Loop) -> None:
        self.path = path
        self._methods = methods
        self._loop = loop
        self._clients: set[_Client] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(str(path))
        self._listener.listen(MAX_CLIENTS)
        loop.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        for client in list(self._clients):
            client.close()
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one request line."""
        number: Any = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or not isinstance(request.get("params", {}), dict):
                raise ValueError("a request is an object with id, method and params")
            number = request.get("id")
            method = self._methods.get(str(request.get("method")))
            if method is None:
                raise ValueError(f"no method {request.get('method')!r}; there are {', '.join(self._methods)}")
            params = request.get("params", {})
            try:
                inspect.signature(method).bind(**params)
            except TypeError as problem:
                raise ValueError(f"{request['method']}: {problem}") from None
            return {"id": number, "result": method(**params)}
        except ValidationError as problem:
            return _refusal(number, "invalid", describe(problem))
        except (ValueError, RecursionError) as problem:
            return _refusal(number, "invalid", str(problem))
        except KeyError as problem:
            return _refusal(number, "invalid", str(problem.args[0]) if problem.args else "unknown")
        except Exception as problem:
            log.exception("control request failed: %.200r", line)
            return _refusal(number, "internal", f"{type(problem).__name__}: {problem}")

    def forget(self, client: _Client) -> None:
        self._clients.discard(client)

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            if len(self._clients) >= MAX_CLIENTS:
                sock.close()
                return
            self._clients.add(_Client(self, sock, self._loop))


class _Client:
    """One connection: requests are answered in order, and not read while an answer waits to be taken."""

    def __init__(self, service: Service, sock: socket.socket, loop: Loop) -> None:
        self._service = service
        self._socket = sock
        self._loop = loop
        self._input = bytearray()
        self._output = b""
        sock.setblocking(False)
        loop.watch(sock.fileno(), self._ready)

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._service.forget(self)

    def _ready(self, events: int) -> None:
        try:
            if events & READ:
                self._receive()
            self._work()
        except (OSError, EOFError):
            self.close()
            return
        self._loop.change(self._socket.fileno(), WRITE if self._output else READ)

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = self._socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._input += data
            if len(self._input) > MAX_LINE:
                raise EOFError

    def _work(self) -> None:
        self._flush()
        while not self._output:
            line, newline, rest = self._input.partition(b"\n")
            if not newline:
                return
            self._input = rest
            self._output = json.dumps(self._service.answer(bytes(line))).encode() + b"\n"
            self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._output:
                self._output = self._output[self._socket.send(self._output, socket.MSG_NOSIGNAL) :]


def _refusal(number: Any, kind: str, message: str) -> dict[str, Any]:
    return {"id": number, "error": {"kind": kind, "message": message}}

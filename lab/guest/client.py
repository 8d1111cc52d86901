"""The host side of the agent: one object per channel, safe to use from several threads.

    with Agent(path) as agent:
        agent.hello.kernel                                 # '6.12.117+deb13-amd64'
        agent.exec(["ip", "-br", "link"]).stdout
        server = agent.spawn(["iperf3", "-s"], netns="a")
        server.expect("listening", timeout=10)

Times are seconds of wall clock; whoever knows the accelerator scales them (``lab.deadline``). When the guest
restarts or the channel closes, everything that waits fails at once with :class:`AgentGone`.
"""

from __future__ import annotations

import binascii
import contextlib
import inspect
import json
import queue
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from lab.errors import LabError

#: What the client adds to a request's own deadline before it gives the agent up. Seconds.
GRACE = 15.0
CHUNK = 1 << 20


class AgentError(LabError):
    """The agent cannot be reached, or does not do what was asked."""


class AgentGone(AgentError):
    """The channel closed, or the guest or its agent restarted, while a request waited."""


class RemoteError(AgentError):
    """The request raised in the guest: ``kind`` is the exception's class name, ``errno`` an OSError's."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.kind: str = error.get("type", "Error")
        self.errno: int | None = error.get("errno")
        self.remote_traceback: str = error.get("traceback", "")
        self.remote_message: str = error.get("message", "")
        super().__init__(f"{self.kind} in the guest: {self.remote_message}")

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n{self.remote_traceback}" if self.remote_traceback else text


class CommandFailed(AgentError):
    """A command in the guest ended with a code other than 0, or outlived its deadline."""

    def __init__(self, completed: Completed) -> None:
        self.completed = completed
        how = "outlived its deadline" if completed.timed_out else f"ended with {completed.code}"
        said = (completed.stderr or completed.stdout).strip()[-2000:]
        super().__init__(f"in the guest: {' '.join(completed.argv)} {how}" + (f": {said}" if said else ""))


@dataclass(frozen=True)
class Hello:
    """Who answered. A new ``boot_id`` is a rebooted guest, a new ``pid`` alone a restarted agent."""

    version: int
    kernel: str
    boot_id: str
    uptime: float
    python: str
    pid: int


@dataclass(frozen=True)
class Completed:
    """A command that ended. ``code`` is None when it was killed at its deadline; ``dropped`` output bytes."""

    argv: tuple[str, ...]
    code: int | None
    stdout: str
    stderr: str
    timed_out: bool
    dropped: int


def surrogates(data: bytes | str) -> str:
    """Bytes as the text the protocol carries, without loss (PEP 383)."""
    return data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")


class Channel:
    """Lines in and out; what they mean is the agent's."""

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class SocketChannel(Channel):
    """A connected stream socket, read by a thread of its own."""

    def __init__(self, sock: socket.socket, on_data: Callable[[bytes], None]) -> None:
        self.sock = sock
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, args=(on_data,), name="agent-reader", daemon=True)
        self._thread.start()

    def _read(self, on_data: Callable[[bytes], None]) -> None:
        while True:
            try:
                data = self.sock.recv(1 << 16)
            except OSError:
                data = b""
            on_data(data)
            if not data:
                return

    def write(self, data: bytes) -> None:
        with self._lock:
            self.sock.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        if self._thread is not threading.current_thread():
            self._thread.join(5)
        self.sock.close()


class PipeChannel(Channel):
    """A worker's stdin and stdout, carried by the agent that started it."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def write(self, data: bytes) -> None:
        self.process.feed(data)

    def close(self) -> None:
        self.process.stop()


class Agent:
    """A client of one agent. ``AgentError`` when nobody says hello within ``timeout`` seconds.

    ``path`` is the unix socket QEMU offers for the virtio-serial port. QEMU serves one client at a time: a
    second one waits in its queue until the first leaves, which looks like a silent guest.
    """

    def __init__(self, path: Path | str | None = None, *, timeout: float = 60.0) -> None:
        self.name = str(path or "agent")
        self.hello: Hello
        self._ids = iter(range(1, 1 << 62))
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._pending = bytearray()
        self._nonce = secrets.token_hex(8)
        self._hello: Future[Hello] = Future()
        self._sinks: list[Callable[[dict[str, Any]], None]] = []
        self._gone: str | None = None
        self._channel: Channel
        if path is not None:
            self._channel = SocketChannel(self._connect(Path(path)), self._on_data)
            self._handshake(timeout)

    @staticmethod
    def _connect(path: Path) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(path))
        except OSError as error:
            sock.close()
            raise AgentError(
                f"cannot reach the guest's agent at {path}: {error.strerror}",
                hint="make lab-status shows whether the lab is up",
            ) from error
        return sock

    @classmethod
    def over(cls, sock: socket.socket, *, timeout: float = 60.0, name: str = "agent") -> Agent:
        """A client on a connected socket; the agent at the other end may start later."""
        agent = cls()
        agent.name = name
        agent._channel = SocketChannel(sock, agent._on_data)
        agent._handshake(timeout)
        return agent

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave; what this client started in the guest is killed when the next one arrives."""
        self._fail_all("closed by this side")
        self._channel.close()

    # channel

    def _handshake(self, timeout: float) -> None:
        try:
            # The newline ends whatever an earlier client left half-written.
            self._channel.write(b"\n" + json.dumps({"hello": self._nonce}).encode() + b"\n")
            self.hello = self._hello.result(timeout)
        except FutureTimeout:
            self._channel.close()
            raise AgentError(
                f"no hello from the guest's agent at {self.name} within {timeout:.0f} s",
                hint="the guest may still boot, or another client hold the agent: see the lab's serial.log",
            ) from None
        except OSError as error:
            raise AgentGone(f"the agent's channel {self.name} closed in the handshake: {error}") from error

    def _on_data(self, data: bytes) -> None:
        if not data:
            self._fail_all("the channel closed")
            return
        self._pending += data
        while (end := self._pending.find(b"\n")) >= 0:
            line = bytes(self._pending[:end])
            del self._pending[: end + 1]
            if line.strip():
                self._on_line(line)

    def _on_line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return  # the tail of another client's line: only the handshake can meet it
        if "hello" in message:
            self._on_hello(message)
        elif not self._hello.done():
            return  # meant for the client before
        elif "event" in message:
            for sink in list(self._sinks):
                sink(message)
        else:
            self._on_reply(message)

    def _on_hello(self, message: dict[str, Any]) -> None:
        if message["hello"] == self._nonce:
            fields = {name: message[name] for name in Hello.__dataclass_fields__}
            if not self._hello.done():
                self._hello.set_result(Hello(**fields))
        elif message["hello"] is None and self._hello.done():
            known = self._hello.result()
            what = "agent" if message.get("boot_id") == known.boot_id else "guest"
            self._fail_all(f"the {what} restarted")

    def _on_reply(self, message: dict[str, Any]) -> None:
        with self._lock:
            future = self._waiting.pop(message.get("id") or 0, None)
        if future is None:
            return  # its request gave up
        if "error" in message:
            future.set_exception(RemoteError(message["error"]))
        else:
            future.set_result(message.get("result"))

    def _fail_all(self, reason: str) -> None:
        with self._lock:
            self._gone = self._gone or reason
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(AgentGone(f"the guest's agent is gone: {reason}"))
        if not self._hello.done():
            with contextlib.suppress(Exception):
                self._hello.set_exception(AgentGone(f"no hello from the guest's agent: {reason}"))
        for sink in list(self._sinks):
            sink({"event": "gone", "reason": reason})

    @property
    def alive(self) -> bool:
        return self._gone is None

    # requests

    def submit(self, method: str, **params: Any) -> Future[Any]:
        """Send a request; the future raises RemoteError or AgentGone."""
        future: Future[Any] = Future()
        with self._lock:
            if self._gone is not None:
                raise AgentGone(f"the guest's agent is gone: {self._gone}")
            number = next(self._ids)
            self._waiting[number] = future
        line = json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"
        try:
            self._channel.write(line)
        except OSError as error:
            self._fail_all(f"writing failed: {error}")
        return future

    def request(self, method: str, *, timeout: float = 60.0, **params: Any) -> Any:
        """Send a request and wait; AgentError names the method when nothing comes within ``timeout``."""
        return self._result(self.submit(method, **params), method, timeout)

    @staticmethod
    def _result(future: Future[Any], method: str, timeout: float) -> Any:
        try:
            return future.result(timeout)
        except FutureTimeout:
            raise AgentError(f"the guest's agent did not answer {method} within {timeout:.0f} s") from None

    def exec(
        self,
        argv: Sequence[str],
        *,
        netns: str | None = None,
        input: bytes | str = b"",
        timeout: float = 60.0,
        check: bool = True,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run a command in the guest to its end; CommandFailed unless it ends with 0 (``check``)."""
        future = self.submit(
            "exec", argv=list(argv), netns=netns, input=surrogates(input), env=env, timeout=timeout
        )
        completed = Completed(argv=tuple(argv), **self._result(future, "exec", timeout + GRACE))
        if check and completed.code != 0:
            raise CommandFailed(completed)
        return completed

    def spawn(
        self,
        argv: Sequence[str],
        *,
        netns: str | None = None,
        env: dict[str, str] | None = None,
        stdin: bool = False,
    ) -> Process:
        """Start a command in the guest and go on; ``stdin`` keeps its input open for :meth:`Process.feed`."""
        params = {"argv": list(argv), "netns": netns, "env": env, "stdin": stdin}
        return Process(self, "spawn", tuple(argv), params)

    def worker(self, prefix: Sequence[str] = (), *, netns: str | None = None, timeout: float = 60.0) -> Agent:
        """An agent in a process of its own, started through ``prefix``; closing it ends the process."""
        agent = Agent()
        agent.name = f"{self.name} worker"
        params = {"prefix": list(prefix), "netns": netns}
        process = Process(self, "worker", (*prefix, "agent"), params, agent._on_data)
        agent._channel = PipeChannel(process)
        agent._handshake(timeout)
        return agent

    def write_file(
        self, path: Path | str, data: bytes | str, mode: int = 0o644, timeout: float = 60.0
    ) -> None:
        content = data.encode() if isinstance(data, str) else data
        for offset in range(0, max(1, len(content)), CHUNK):
            part = binascii.b2a_base64(content[offset : offset + CHUNK], newline=False).decode()
            self.request(
                "write_file", timeout=timeout, path=str(path), data=part, mode=mode, append=offset > 0
            )

    def read_file(self, path: Path | str, limit: int = 64 << 20, timeout: float = 60.0) -> bytes:
        """The whole file, or its first ``limit`` bytes. Files of /proc and /sys work too."""
        data = b""
        while len(data) < limit:
            room = min(CHUNK, limit - len(data))
            part = self.request("read_file", timeout=timeout, path=str(path), offset=len(data), limit=room)
            data += binascii.a2b_base64(part["data"])
            if part["eof"]:
                break
        return data

    def load(self, *modules: ModuleType) -> None:
        """Make modules of this side known in the guest, under the same names and in the order given."""
        for module in modules:
            self.request("load", name=module.__name__, source=inspect.getsource(module))

    def call(self, function: Callable[..., Any] | str, /, *, timeout: float = 60.0, **kwargs: Any) -> Any:
        """Call a function of a loaded module in the guest: the function itself, or ``"module:name"``.

        Arguments and result travel as JSON. RemoteError carries what it raised.
        """
        if isinstance(function, str):
            module, _, name = function.partition(":")
        else:
            module, name = function.__module__, function.__name__
        return self.request("call", timeout=timeout, module=module, function=name, kwargs=kwargs)

    def status(self) -> dict[str, Any]:
        """What the agent itself holds: fds, threads, processes, running requests, modules."""
        result: dict[str, Any] = self.request("status")
        return result

    def subscribe(self, sink: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call ``sink`` with every event, in the reader's thread; returns what ends it."""
        self._sinks.append(sink)
        return lambda: self._sinks.remove(sink) if sink in self._sinks else None


class Process:
    """A program running in the guest. Its output arrives by itself: ``stdout``, ``stderr`` (the last MiB)."""

    def __init__(
        self,
        agent: Agent,
        method: str,
        argv: tuple[str, ...],
        params: dict[str, Any],
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> None:
        self.agent, self.argv = agent, argv
        self.stdout = ""
        self.stderr = ""
        self.code: int | None = None
        self.gone: str | None = None
        self._on_stdout = on_stdout
        self._changed = threading.Condition()
        self._early: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.name: str | None = None
        self._unsubscribe = agent.subscribe(self._event)
        try:
            started = agent.request(method, **params)
        except AgentError:
            self._unsubscribe()
            raise
        self.pid: int = started["pid"]
        with self._changed:
            self.name = started["process"]
            while not self._early.empty():
                self._handle(self._early.get())

    def _event(self, event: dict[str, Any]) -> None:
        with self._changed:
            if self.name is None:
                self._early.put(event)  # output may overtake the reply that tells our name
            else:
                self._handle(event)

    def _handle(self, event: dict[str, Any]) -> None:
        if event["event"] == "gone":
            self.gone = event["reason"]
        elif event.get("process") != self.name:
            return
        elif event["event"] == "exit":
            self.code = event["code"]
        elif event["stream"] == "stderr":
            self.stderr = (self.stderr + event["data"])[-(1 << 20) :]
        elif self._on_stdout is None:
            self.stdout = (self.stdout + event["data"])[-(1 << 20) :]
        else:
            self._on_stdout(event["data"].encode("utf-8", "surrogateescape"))
            return
        if self._on_stdout is not None and (self.gone is not None or self.code is not None):
            self._on_stdout(b"")
        self._changed.notify_all()

    def __str__(self) -> str:
        return " ".join(self.argv)

    @property
    def running(self) -> bool:
        return self.code is None and self.gone is None

    def _wait(self, done: Callable[[], bool], timeout: float, what: str, *, ends: bool = False) -> None:
        """Watch for ``done``; its end is a failure unless ``ends``: then it is what we wait for."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not done():
                if self.gone is not None:
                    raise AgentGone(f"while waiting for {what}: {self.gone}")
                if not self.running and not ends:
                    raise AgentError(f"{self} ended with {self.code} before {what}: {self.stderr}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AgentError(f"{self}: no {what} within {timeout:.0f} s: {self.stderr}")
                self._changed.wait(left)

    def expect(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        """Wait until its output (either stream) matches; AgentError when it ends or is silent instead."""
        regex = re.compile(pattern, re.MULTILINE)
        found: list[re.Match[str]] = []

        def matched() -> bool:
            match = regex.search(self.stdout) or regex.search(self.stderr)
            if match:
                found.append(match)
            return match is not None

        self._wait(matched, timeout, f"output matching {pattern!r}")
        return found[0]

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end; returns its code."""
        self._wait(lambda: self.code is not None, timeout, "end", ends=True)
        assert self.code is not None
        return self.code

    def feed(self, data: bytes | str, eof: bool = False) -> None:
        """Queue bytes for its stdin; ``eof`` closes it after them."""
        self.agent.request("feed", process=self.name, data=surrogates(data), eof=eof)

    def kill(self, number: int = signal.SIGTERM) -> None:
        self.agent.request("signal", process=self.name, number=int(number))

    def stop(self, timeout: float = 10.0) -> int | None:
        """End it: SIGTERM, then SIGKILL at the deadline. Returns its code; None when the guest is gone."""
        if self.running:
            try:
                self.kill(signal.SIGTERM)
                try:
                    self.wait(timeout)
                except AgentGone:
                    raise
                except AgentError:
                    self.kill(signal.SIGKILL)
                    self.wait(timeout)
            except AgentGone:
                pass
        self._unsubscribe()
        return self.code

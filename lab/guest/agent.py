"""The agent in the guest: runs commands, moves files, and carries the suites' own Python modules.

    python3 agent.py                          in the guest, on the virtio-serial port ``exalab.agent``
    python3 agent.py --fd 3                   on an inherited socket, e.g. natively on the host
    python3 agent.py --worker                 on stdin and stdout: a worker process of another agent
    python3 agent.py --host                   the same on a machine that is others', too (over SSH): when the
                                              channel ends, nothing that was started or named here stays

Protocol: JSON lines in both directions.

    -> {"hello": nonce}                       a client arrived: what the one before it ran is dropped
    <- {"hello": nonce, "kernel": …, "boot_id": …, "uptime": …, "python": …, "pid": …, "version": 1}
    -> {"id": 1, "method": "exec", "params": {"argv": ["true"]}}
    <- {"id": 1, "result": …}   or   {"id": 1, "error": {"type": …, "message": …, "traceback": …}}
    <- {"event": "output", …}                 pushed at any time

A virtio-serial port has no notion of a connection, so bytes of an earlier client may be in flight either way:
every hello starts with a newline, and a client ignores all lines before the hello that carries its nonce. The
agent says hello with a nonce of null when it starts.

Each request runs in a thread of its own, so a request may join a network namespace and may wait. Standard
library only (pyroute2 is for modules that import it), one file, Python 3.11 to 3.13.
"""

from __future__ import annotations

import binascii
import contextlib
import ctypes
import importlib.machinery
import importlib.util
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

VERSION = 1
PORT_NAME = "exalab.agent"
#: Bytes: a longer request is answered by an error, a longer reply is replaced by one.
LINE_LIMIT = 32 << 20
#: Bytes waiting for a client that does not read; past it events are dropped (and counted).
BACKLOG_LIMIT = 64 << 20
#: Bytes kept of each output stream of a command, unless the request says otherwise.
OUTPUT_LIMIT = 1 << 20
#: How long a killed command's pipes may stay open (a daemon it left may hold them). Seconds.
DRAIN_SECONDS = 0.5
NETNS_DIR = Path("/run/netns")
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
PR_SET_CHILD_SUBREAPER = 36
MS_REC, MS_SLAVE, MNT_DETACH = 0x4000, 0x80000, 2
#: How long killed processes may take to be gone. Seconds.
END_SECONDS = 10.0

Json = dict[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)


# --- network namespaces ------------------------------------------------------------------------------------


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace behind ``fd``. OSError as setns(2)."""
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@contextlib.contextmanager
def in_netns(name: str | None) -> Iterator[None]:
    """Run the body in a named namespace (None: stay). Only the calling thread moves, and it comes back."""
    if name is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(NETNS_DIR / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


# --- commands ----------------------------------------------------------------------------------------------


class Command:
    """A running program in its own process group; every byte of output passes through ``sink``."""

    def __init__(
        self,
        argv: list[str],
        sink: Callable[[str, bytes], None],
        *,
        netns: str | None = None,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes | None = b"",
    ) -> None:
        """Start it. ``stdin`` None leaves the pipe open for :meth:`feed`. OSErrors of exec(2) pass."""
        if not isinstance(argv, list) or not argv or not all(isinstance(part, str) for part in argv):
            raise ValueError("argv must be a list of at least one string")
        self.sink = sink
        self.killed = False
        self._keep_stdin = stdin is None
        self._pending = bytearray(stdin or b"")
        self._lock = threading.Lock()
        with in_netns(netns):
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env={**os.environ, **env} if env else None,
                start_new_session=True,
                bufsize=0,
            )
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def feed(self, data: bytes, eof: bool = False) -> None:
        """Queue bytes for the program's stdin; ``eof`` closes it after them."""
        with self._lock:
            self._pending += data
            if eof:
                self._keep_stdin = False
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def signal(self, number: int) -> None:
        """Signal the whole process group; a group that is gone is fine."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.killed = True
        self.signal(signal.SIGKILL)

    def run(self, deadline: float | None) -> int:
        """Pump until the program ends and its pipes close; returns its code (negative: a signal's number).

        What the program leaves running in its group ends with it. ``deadline`` is on time.monotonic(); past
        it the process group is killed and TimeoutError raised.
        """
        process = self.process
        assert process.stdin and process.stdout and process.stderr
        streams = {process.stdout.fileno(): "stdout", process.stderr.fileno(): "stderr"}
        stdin = process.stdin.fileno()
        for fd in (*streams, stdin):
            os.set_blocking(fd, False)
        pidfd = os.pidfd_open(process.pid)
        poller = select.poll()
        for fd in (*streams, pidfd, self._wake):
            poller.register(fd, select.POLLIN)
        expired = False
        stdin_open = True
        try:
            while streams or process.returncode is None:
                if stdin_open:
                    stdin_open = self._pump_stdin(poller, stdin)
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = poller.poll(None if left is None else int(left * 1000) + 1)
                if not ready and deadline is not None and time.monotonic() >= deadline:
                    if process.returncode is not None or expired:
                        break  # someone outside the group holds the pipes
                    expired = True
                    self.kill()
                    deadline = time.monotonic() + DRAIN_SECONDS
                for fd, _event in ready:
                    if fd == self._wake:
                        os.eventfd_read(self._wake)
                    elif fd == pidfd:
                        # Before the wait: the zombie leader still keeps its group's number from reuse.
                        self.signal(signal.SIGKILL)
                        process.wait()
                        poller.unregister(pidfd)
                        soon = time.monotonic() + DRAIN_SECONDS
                        deadline = soon if deadline is None else min(deadline, soon)
                    elif fd in streams:
                        data = self._read(fd)
                        if data:
                            self.sink(streams[fd], data)
                        elif data is not None:
                            poller.unregister(fd)
                            del streams[fd]
        finally:
            if process.returncode is None:
                self.kill()
                process.wait()
            os.close(pidfd)
            with self._lock:
                os.close(self._wake)
                self._wake = -1
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    stream.close()
        if expired:
            raise TimeoutError(f"{self.process.args!r} outlived its deadline and was killed")
        return process.returncode

    @staticmethod
    def _read(fd: int) -> bytes | None:
        try:
            return os.read(fd, 65536)
        except BlockingIOError:
            return None

    def _pump_stdin(self, poller: select.poll, fd: int) -> bool:
        """Write what waits; returns False once stdin is closed."""
        assert self.process.stdin
        with self._lock:
            try:
                while self._pending:
                    del self._pending[: os.write(fd, self._pending[:65536])]
                if self._keep_stdin:
                    with contextlib.suppress(KeyError):
                        poller.unregister(fd)
                    return True
            except BlockingIOError:
                poller.register(fd, select.POLLOUT)
                return True
            except BrokenPipeError:
                self._pending.clear()
            with contextlib.suppress(KeyError):
                poller.unregister(fd)
            self.process.stdin.close()
            return False


class Bounded:
    """Keeps the first ``limit`` bytes of each stream and counts the rest."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept = {"stdout": bytearray(), "stderr": bytearray()}
        self.dropped = 0

    def __call__(self, stream: str, data: bytes) -> None:
        room = max(0, self.limit - len(self.kept[stream]))
        self.kept[stream] += data[:room]
        self.dropped += len(data) - min(room, len(data))


def text(data: bytes | bytearray) -> str:
    """Bytes as JSON text, without loss: undecodable bytes travel as lone surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def raw(data: str) -> bytes:
    return data.encode("utf-8", "surrogateescape")


class Threads:
    """Runs each task in a thread of its own, keeping a few for the next: starting one costs milliseconds
    without KVM. A task that leaves its thread in another network namespace ends the thread with it."""

    IDLE = 8

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._home = self._netns()

    @staticmethod
    def _netns() -> int:
        return Path("/proc/thread-self/ns/net").stat().st_ino

    def run(self, task: Callable[[], None]) -> None:
        """RuntimeError when no thread can be started."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._tasks.put(task)
                return
        threading.Thread(target=self._work, args=(task,), name="request", daemon=True).start()

    def _work(self, task: Callable[[], None]) -> None:
        while True:
            task()
            with self._lock:
                if self._idle >= self.IDLE or self._netns() != self._home:
                    return
                self._idle += 1
            task = self._tasks.get()


# --- the agent ---------------------------------------------------------------------------------------------


class Agent:
    """Serves one channel: ``receive`` and ``send`` are descriptors, the same one for a port or a socket.

    ``persistent``: reading nothing means that the client is away (a virtio-serial port), not that it left.
    """

    def __init__(self, receive: int, send: int, *, persistent: bool = False) -> None:
        self.receive, self.send_fd, self.persistent = receive, send, persistent
        self.session = 0
        self.commands: dict[str, Command] = {}
        self.sources: dict[str, int] = {}
        self.running: dict[int, str] = {}
        self.dropped_events = 0
        self._next_command = 0
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._lock = threading.Lock()
        self._threads = Threads()
        self._request_of = threading.local()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stop = False
        self.methods: dict[str, Callable[..., Any]] = {
            "ping": lambda: "pong",
            "exec": self.exec,
            "spawn": self.spawn,
            "feed": self.feed,
            "signal": self.signal,
            "worker": self.worker,
            "write_file": self.write_file,
            "read_file": self.read_file,
            "load": self.load,
            "call": self.call,
            "status": self.status,
            "shutdown": self.shutdown,
        }

    # channel

    def hello(self, nonce: str | None) -> Json:
        """Who answers: one look tells a rebooted guest (boot_id) from a restarted agent (pid)."""
        return {
            "hello": nonce,
            "version": VERSION,
            "kernel": os.uname().release,
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "uptime": float(Path("/proc/uptime").read_text().split()[0]),
            "python": sys.version.split()[0],
            "pid": os.getpid(),
            "session": self.session,
        }

    def emit(self, event: str, **fields: Any) -> None:
        """Push an event to the client; dropped, and counted, when a client reads nothing for too long."""
        self._queue({"event": event, **fields}, droppable=True)

    def _queue(self, message: Json, droppable: bool = False) -> None:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if len(line) > LINE_LIMIT:
            error = {"type": "OverflowError", "message": f"a reply of {len(line)} bytes is too long"}
            line = json.dumps({"id": message.get("id"), "error": error}).encode() + b"\n"
        with self._lock:
            if self._out_bytes + len(line) > BACKLOG_LIMIT and droppable:
                self.dropped_events += 1
                return
            self._out.append(line)
            self._out_bytes += len(line)
        os.eventfd_write(self._wake, 1)

    def serve(self) -> None:
        """Read requests and write replies until the channel ends (never, on a port).

        Edge-triggered: a port whose host side is closed always polls as hung up, and must not spin us; the
        driver wakes its wait queue when the host side comes back.
        """
        os.set_blocking(self.receive, False)
        os.set_blocking(self.send_fd, False)
        edge = select.EPOLLET | select.EPOLLHUP
        with select.epoll() as poller:
            poller.register(self._wake, select.EPOLLIN)
            if self.receive == self.send_fd:
                poller.register(self.receive, edge | select.EPOLLIN | select.EPOLLOUT)
            else:
                poller.register(self.receive, edge | select.EPOLLIN)
                poller.register(self.send_fd, edge | select.EPOLLOUT)
            self._queue(self.hello(None))
            pending = bytearray()
            skipping = False
            while not self._stop:
                # The timeout only covers an edge lost by the port's driver.
                poller.poll(2.0 if self.persistent else -1)
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                while True:
                    try:
                        data = os.read(self.receive, 1 << 16)
                    except BlockingIOError:
                        break
                    except ConnectionResetError:
                        data = b""
                    if not data:
                        if not self.persistent:
                            self._stop = True
                        break
                    pending += data
                    skipping = self._lines(pending, skipping)
                self._flush()
            self._drop_session()

    def _lines(self, pending: bytearray, skipping: bool) -> bool:
        """Handle whole lines, leave the rest in ``pending``; returns whether an endless line is skipped."""
        while (end := pending.find(b"\n")) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            if not skipping and line.strip():
                self._line(line)
            skipping = False
        if len(pending) > LINE_LIMIT:
            if not skipping:
                self._fail(None, OverflowError(f"a request longer than {LINE_LIMIT} bytes"))
            pending.clear()
            return True
        return skipping

    def _flush(self) -> None:
        while True:
            with self._lock:
                if not self._out:
                    return
                line = self._out[0]
            try:
                sent = os.write(self.send_fd, line)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self._stop = not self.persistent
                return
            with self._lock:
                # The line is still the first: a new session's cleaning keeps a line that has begun.
                self._out_bytes -= sent
                if sent == len(line):
                    self._out.popleft()
                else:
                    self._out[0] = line[sent:]

    def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("a request must be an object")
        except ValueError as error:
            self._fail(None, error)
            return
        if "hello" in message:
            with self._lock:
                self.session += 1
                while len(self._out) > 1:
                    self._out_bytes -= len(self._out.pop())
                self._out.append(b"\n")
                self._out_bytes += 1
            self._drop_session()
            self._queue(self.hello(message["hello"]))
            return
        number, method = message.get("id"), message.get("method")
        params = message.get("params", {})
        if not isinstance(number, int) or not isinstance(method, str) or not isinstance(params, dict):
            self._fail(number, ValueError("a request needs id (number), method (string), params (object)"))
            return
        if method not in self.methods:
            known = ", ".join(sorted(self.methods))
            self._fail(number, LookupError(f"no method {method!r}; there are {known}"))
            return
        try:
            self._threads.run(partial(self._request, self.session, number, method, params))
        except RuntimeError as error:  # no thread left
            self._fail(number, error)

    def _request(self, session: int, number: int, method: str, params: Json) -> None:
        self.running[number] = f"{method} {params.get('module', '')}.{params.get('function', '')}".strip(" .")
        self._request_of.session = session
        reply: Json
        try:
            reply = {"id": number, "result": self.methods[method](**params)}
            json.dumps(reply)
        except BaseException as error:  # noqa: BLE001 - a test's SystemExit must not end the agent
            reply = self._error(number, error)
        self.running.pop(number, None)
        if session == self.session:
            self._queue(reply)

    def _fail(self, number: Any, error: BaseException) -> None:
        self._queue(self._error(number, error))

    @staticmethod
    def _error(number: Any, error: BaseException) -> Json:
        import traceback

        trace = "".join(traceback.format_exception(error))[-20000:]
        fields: Json = {"type": type(error).__name__, "message": str(error), "traceback": trace}
        if isinstance(error, OSError):
            fields["errno"] = error.errno
        return {"id": number, "error": fields}

    def _drop_session(self) -> None:
        """The client before is gone: its commands and workers end."""
        for command in list(self.commands.values()):
            command.kill()

    # methods

    def exec(
        self,
        argv: list[str],
        netns: str | None = None,
        input: str = "",
        timeout: float | None = 60.0,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        limit: int = OUTPUT_LIMIT,
    ) -> Json:
        """Run to the end. Output past ``limit`` bytes a stream is dropped and counted."""
        kept = Bounded(limit)
        command = Command(argv, kept, netns=netns, env=env, cwd=cwd, stdin=raw(input))
        name = self._enlist(command)
        timed_out = False
        code: int | None = None
        try:
            code = command.run(None if timeout is None else time.monotonic() + timeout)
        except TimeoutError:
            timed_out = True
        finally:
            del self.commands[name]
        return {
            "code": code,
            "timed_out": timed_out,
            "stdout": text(kept.kept["stdout"]),
            "stderr": text(kept.kept["stderr"]),
            "dropped": kept.dropped,
        }

    def _enlist(self, command: Command) -> str:
        with self._lock:
            self._next_command += 1
            name = f"p{self._next_command}"
            self.commands[name] = command
            stale = self._request_of.session != self.session
        if stale:
            command.kill()  # its client left while it started
        return name

    def spawn(
        self,
        argv: list[str],
        netns: str | None = None,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        stdin: bool = False,
    ) -> Json:
        """Start and return at once. Events: ``output`` {process, stream, data}, ``exit`` {process, code}."""
        started = threading.Event()
        name = ""

        def sink(stream: str, data: bytes) -> None:
            started.wait()
            self.emit("output", process=name, stream=stream, data=text(data))

        command = Command(argv, sink, netns=netns, env=env, cwd=cwd, stdin=None if stdin else b"")
        name = self._enlist(command)
        session = self._request_of.session

        def run() -> None:
            code = command.run(None)
            self.commands.pop(name, None)
            if session == self.session:
                self.emit("exit", process=name, code=code)

        threading.Thread(target=run, name=f"spawn-{name}", daemon=True).start()
        started.set()
        return {"process": name, "pid": command.process.pid}

    def worker(self, prefix: list[str] | None = None, netns: str | None = None) -> Json:
        """Start another agent in a process of its own, through ``prefix`` (say, a wrapper that preloads a
        library); it speaks this protocol on the spawned process's stdin and stdout."""
        here = str(Path(__file__).resolve())
        return self.spawn([*(prefix or []), sys.executable, "-S", here, "--worker"], netns=netns, stdin=True)

    def feed(self, process: str, data: str, eof: bool = False) -> None:
        self._command(process).feed(raw(data), eof)

    def signal(self, process: str, number: int) -> None:
        """Signal a spawned process's group; one that has ended is fine."""
        if process in self.commands:
            self._command(process).signal(number)

    def _command(self, process: str) -> Command:
        try:
            return self.commands[process]
        except KeyError:
            raise LookupError(f"no running process {process!r}") from None

    def write_file(self, path: str, data: str, mode: int = 0o644, append: bool = False) -> int:
        """``data`` is base64. Written beside and renamed, unless appending or to what is no plain file."""
        content = binascii.a2b_base64(data, strict_mode=True)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if append:
            with target.open("ab") as file:
                file.write(content)
        elif target.parts[1:2] in (("proc",), ("sys",)) or (target.exists() and not target.is_file()):
            target.write_bytes(content)  # the kernel's, a device or a pipe: nothing to rename
        else:
            beside = target.with_name(target.name + ".new")
            beside.write_bytes(content)
            beside.chmod(mode)
            beside.replace(target)
        return len(content)

    def read_file(self, path: str, offset: int = 0, limit: int = 4 << 20) -> Json:
        """At most ``limit`` bytes from ``offset`` as base64; ``eof`` says whether that was the rest."""
        with Path(path).open("rb", buffering=0) as file:
            if offset:
                file.seek(offset)
            parts: list[bytes] = []
            room = limit
            while room and (part := file.read(room)):
                parts.append(part)
                room -= len(part)
        return {"data": binascii.b2a_base64(b"".join(parts), newline=False).decode(), "eof": room > 0}

    def load(self, name: str, source: str) -> bool:
        """Make ``source`` the module ``name`` (dotted; parents appear as needed).

        False: it was there already, with the same source; then it keeps its state.
        """
        import linecache

        if self.sources.get(name) == hash(source):
            return False
        filename = f"<loaded {name}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        module = new_module(name)
        module.__file__ = filename
        try:
            exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        self.sources[name] = hash(source)
        return True

    def call(self, module: str, function: str, kwargs: Json | None = None) -> Any:
        """Call a loaded module's function in this request's thread."""
        if module not in sys.modules:
            raise LookupError(f"no module {module!r} is loaded")
        return getattr(sys.modules[module], function)(**(kwargs or {}))

    def status(self) -> Json:
        """What the agent itself holds, for the health check; ``running`` has the caller's own request."""
        return {
            "fds": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "threads": threading.active_count(),
            "processes": {name: command.process.args for name, command in self.commands.items()},
            "running": list(self.running.values()),
            "modules": sorted(self.sources),
            "dropped_events": self.dropped_events,
        }

    def shutdown(self, how: str = "poweroff") -> None:
        """Ask the kernel to power off or reboot, at once: the root is throw-away, nothing needs a goodbye."""
        codes = {"poweroff": 0x4321FEDC, "reboot": 0x01234567}
        if how not in codes:
            raise ValueError(f"how must be one of {', '.join(codes)}")
        os.sync()
        if _libc.reboot(ctypes.c_int(codes[how] - (1 << 32) if codes[how] >> 31 else codes[how])) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


#: Whether this machine is others', too: what is done to all of it would be done to them.
shared = False
#: What loaded modules want done when the channel of a shared machine ends, the last first.
at_end: list[Callable[[], Any]] = []
#: The agent of this process: loaded modules push events through ``sys.modules["lab.guest.agent"].emit``.
current: Agent | None = None


def emit(event: str, **fields: Any) -> None:
    """Push an event from a loaded module to the client."""
    if current is not None:
        current.emit(event, **fields)


def new_module(name: str) -> ModuleType:
    """An empty module in sys.modules, its parents too, reachable as their attribute."""
    parent, _, leaf = name.rpartition(".")
    if parent and parent not in sys.modules:
        new_module(parent).__path__ = []
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None))
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], leaf, module)
    return module


def find_port(name: str = PORT_NAME) -> Path | None:
    """The device node of a virtio-serial port by its name, without udev's links. None: not there (yet)."""
    for entry in Path("/sys/class/virtio-ports").glob("*"):
        with contextlib.suppress(OSError):
            if (entry / "name").read_text().strip() == name:
                return Path("/dev") / entry.name
    return None


def supervise(serve: Callable[[], None]) -> None:
    """Run ``serve`` in a child for ever: a module that takes the agent down takes the child, and a new one
    says hello. What the dead one had started ends with it."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while True:
        child = os.fork()
        if child == 0:
            serve()
            os._exit(0)
        while True:
            pid, status = os.wait()
            if pid == child:
                break
        print(f"agent: process {child} ended with status {status}, starting another", file=sys.stderr)
        orphans = Path("/proc/thread-self/children").read_text().split()
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(orphan), signal.SIGKILL)
        # A child that cannot even start must not spin; nothing can wake us earlier.
        threading.Event().wait(0.2)


def add_packages() -> None:
    """Make installed packages importable: the agent starts without them (``-S``), which is faster."""
    import site

    site.main()


def raise_limits() -> None:
    """Room for thousands of sockets in one process."""
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else max(hard, 65536)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))


def serve_channel(receive: int, send: int, persistent: bool) -> None:
    global current
    for name in ("lab.guest", "lab"):
        if name not in sys.modules:
            new_module(name).__path__ = []
    sys.modules["lab.guest.agent"] = sys.modules[__name__]
    vars(sys.modules["lab.guest"])["agent"] = sys.modules[__name__]
    raise_limits()
    threading.stack_size(512 << 10)
    current = Agent(receive, send, persistent=persistent)
    current.serve()


def own_names() -> bool:
    """From now on named network namespaces are ours alone: nobody else sees them, and we see no other. Their
    names end with our processes. Whether /run/netns had to be made."""
    if _libc.unshare(CLONE_NEWNS) or _libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None):
        raise OSError(ctypes.get_errno(), "a mount namespace of our own")
    made = not NETNS_DIR.exists()
    NETNS_DIR.mkdir(parents=True, exist_ok=True)
    if _libc.mount(b"tmpfs", os.fsencode(NETNS_DIR), b"tmpfs", 0, b"mode=0755"):
        raise OSError(ctypes.get_errno(), f"a tmpfs on {NETNS_DIR}")
    return made


def children() -> list[int]:
    """Processes whose parent we are, also those whose own parent has ended (we are their reaper)."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    return found


def descendants() -> set[int]:
    """All processes that were started here, and what they started."""
    found: set[int] = set()
    left = children()
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            with contextlib.suppress(OSError):
                left += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


def end_children() -> None:
    """Kill them all, and what comes to us when its parent dies. What outlives END_SECONDS is the kernel's."""
    deadline = time.monotonic() + END_SECONDS
    while (left := children()) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        threading.Event().wait(0.01)


def serve_host() -> None:
    """On stdin and stdout, of a machine that is others', too. Nothing outlives the channel."""
    global shared
    shared = True
    made = own_names()
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    receive, send = os.dup(0), os.dup(1)
    # Prints of a loaded module must not land in the protocol.
    os.dup2(2, 1)
    try:
        serve_channel(receive, send, persistent=False)
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        end_children()
        if _libc.umount2(os.fsencode(NETNS_DIR), MNT_DETACH) == 0 and made:
            with contextlib.suppress(OSError):
                NETNS_DIR.rmdir()
        for act in reversed(at_end):
            try:
                act()
            except Exception as error:  # noqa: BLE001 - one that fails must not keep the others
                print(f"agent: {act}: {error!r}", file=sys.stderr, flush=True)


def serve_port() -> None:
    port = find_port()
    if port is None:
        raise SystemExit(f"agent: no virtio-serial port named {PORT_NAME}")
    fd = os.open(port, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    serve_channel(fd, fd, persistent=True)


def main(argv: list[str]) -> None:
    if argv[:1] == ["--worker"]:
        # Prints of a loaded module must not land in the protocol.
        receive, send = os.dup(0), os.dup(1)
        os.dup2(2, 1)
        serve_channel(receive, send, persistent=False)
    elif argv[:1] == ["--host"]:
        serve_host()
    elif argv[:1] == ["--fd"]:
        fd = int(argv[1])
        os.set_inheritable(fd, False)
        serve_channel(fd, fd, persistent=False)
    elif not argv:
        supervise(serve_port)
    else:
        raise SystemExit("usage: agent.py [--worker | --host | --fd N]")


if __name__ == "__main__":
    main(sys.argv[1:])

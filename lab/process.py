"""Every process the bench starts, started in one way: :func:`run` to its end, :func:`spawn` beside us.

Each is the leader of a session of its own, so that a Ctrl-C on the terminal reaches only us and we end it,
with all its children, in order. Each dies when the thread that started it dies (PDEATHSIG): nothing outlives
a killed bench.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from lab.deadline import Deadline
from lab.errors import LabError, ProcessFailed

#: Seconds between SIGTERM and SIGKILL.
GRACE = 5.0
#: setpriv asks for PDEATHSIG; if we died before that, the shell sees another parent and starts nothing.
_GUARD = '[ "$PPID" = "$0" ] && exec "$@"'


def _guarded(argv: Sequence[str], death: signal.Signals = signal.SIGKILL) -> list[str]:
    name = death.name.removeprefix("SIG")
    return ["setpriv", "--pdeathsig", name, "sh", "-c", _GUARD, str(os.getpid()), *argv]


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, for an error message; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.replace("\r", "").splitlines()[-lines:])


def how_it_ended(returncode: int) -> str:
    """A returncode of ``subprocess`` in words."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


class Process:
    """A process of ours. Its pidfd (:meth:`fileno`) becomes readable when it ends.

    Output goes to ``log`` when there is one. Use as a context manager, or call :meth:`stop`.
    """

    def __init__(self, popen: subprocess.Popen[bytes], name: str, log: Path | None) -> None:
        self.name = name
        self.log = log
        self._popen = popen
        self._pidfd = os.pidfd_open(popen.pid)

    @property
    def pid(self) -> int:
        """The process id; the process group and session have the same."""
        return self._popen.pid

    def fileno(self) -> int:
        """The pidfd."""
        return self._pidfd

    def poll(self) -> int | None:
        """The returncode, or None while it runs.

        Leaves it a zombie until :meth:`stop`: its group keeps its number, so signals reach no stranger.
        """
        if self._popen.returncode is not None:
            return self._popen.returncode
        ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def death(self) -> LabError | None:
        """None while it runs; else an error with its last log lines."""
        returncode = self.poll()
        if returncode is None:
            return None
        last = tail(self.log) if self.log else ""
        message = f"{self.name} {how_it_ended(returncode)}"
        return ProcessFailed(
            message + (f"; its last lines:\n{last}" if last else ""),
            returncode,
            hint=f"all of it: {self.log}" if self.log else None,
        )

    def wait(self, deadline: Deadline) -> int:
        """Its returncode; raises ``DeadlineExpired`` while it still runs (and leaves it running)."""
        while (returncode := self.poll()) is None:
            deadline.wait_readable([self._pidfd])
        return returncode

    def signal(self, number: signal.Signals) -> None:
        """Send to its whole process group; nothing when all of it is gone."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def stop(self, grace: float = GRACE) -> int:
        """End it: SIGTERM to the group, SIGKILL after ``grace`` seconds and to what it left behind.

        When this returns nobody of the group runs. Raises ``DeadlineExpired`` when the kernel holds one back.
        """
        if self._pidfd < 0:
            return self._popen.wait()
        if self.poll() is None:
            self.signal(signal.SIGTERM)
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            poller.poll(grace * 1000)
        self.signal(signal.SIGKILL)
        # The leader stays a zombie meanwhile, so the number is still the group's.
        Deadline(f"the processes of {self.name} to die", 10.0).wait_until(lambda: not _anybody(self.pid))
        returncode = self._popen.wait()
        self.close()
        return returncode

    def close(self) -> None:
        """Give back the pidfd; the process, if it still runs, goes on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _anybody(group: int) -> bool:
    """Whether a process group has a member that is not a zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, member_of = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(member_of) == group and state not in "ZX":
            return True
    return False


def _found(argv: Sequence[str], env: Mapping[str, str] | None) -> list[str]:
    path = (env or os.environ).get("PATH")
    if shutil.which(argv[0], path=path) is None:
        raise ProcessFailed(
            f"there is no {argv[0]} on this machine",
            hint="`make lab-up` installs what the bench needs; PATH must include /usr/sbin",
        )
    return list(argv)


def spawn(
    argv: Sequence[str],
    *,
    name: str,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    append: bool = False,
    on_our_death: signal.Signals = signal.SIGKILL,
) -> Process:
    """Start ``argv`` beside us; its output goes to ``log`` (truncated unless ``append``), else to ``stdout``.

    It gets ``on_our_death`` when the *thread* that called this ends: call it from one that lives long enough.
    Raises ``ProcessFailed`` when there is no such program.
    """
    command = _guarded(_found(argv, env), on_our_death)
    sink: IO[bytes] | None = None
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            sink = log.open("ab" if append else "wb")
        popen = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=sink if sink is not None else subprocess.DEVNULL if stdout is None else stdout,
            stderr=sink if sink is not None else subprocess.DEVNULL if stderr is None else stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    finally:
        if sink is not None:
            sink.close()
    return Process(popen, name, log)


@dataclass(frozen=True)
class Completed:
    """A process that ran to its end. With a log, both streams are in ``stdout`` and ``stderr`` is empty."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.returncode == 0


def run(
    argv: Sequence[str],
    *,
    deadline: float,
    name: str | None = None,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run ``argv`` to its end, within ``deadline`` real seconds, and return what it printed.

    ``log`` gets both streams as they come (appended, after a line with the command). ``on_line`` sees every
    line of output as it comes (for progress), called from another thread. ``env`` replaces the environment.
    Raises ``ProcessFailed`` when it cannot start or (``check``) ends with an error, ``DeadlineExpired`` when
    it takes too long. However this call ends, no process of the group is left.
    """
    title = name or Path(argv[0]).name
    started = time.monotonic()
    collectors: list[_Collector] = []
    with tempfile.TemporaryFile() as given:
        if stdin is not None:
            given.write(stdin)
            given.seek(0)
        sink: IO[bytes] | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            sink = log.open("ab", buffering=0)
            sink.write(b"$ " + " ".join(argv).encode() + b"\n")
        try:
            out = _Collector(sink, on_line)
            collectors.append(out)
            if log is None:
                collectors.append(_Collector(None, on_line))
            process = spawn(
                argv,
                name=title,
                cwd=cwd,
                env=env,
                stdin=given.fileno() if stdin is not None else None,
                stdout=collectors[0].write_end,
                stderr=collectors[-1].write_end,
                pass_fds=pass_fds,
            )
            with process:
                for one in collectors:
                    one.start()
                returncode = process.wait(Deadline(title, deadline))
        finally:
            # After stop() every writer of the group is dead, so the collectors see the end of the stream.
            for one in collectors:
                one.finish()
            if sink is not None:
                sink.close()
    streams = [one.text() for one in collectors]
    done = Completed(
        tuple(argv),
        returncode,
        streams[0],
        streams[1] if len(streams) > 1 else "",
        time.monotonic() - started,
    )
    if check and returncode != 0:
        last = "\n".join((done.stderr or done.stdout).replace("\r", "").splitlines()[-20:])
        raise ProcessFailed(
            f"{title} {how_it_ended(returncode)}: {' '.join(argv)}" + (f"\n{last}" if last else ""),
            returncode,
            hint=f"all of its output: {log}" if log else None,
        )
    return done


class _Collector:
    """Reads one pipe to its end in a thread, into memory, a log and a callback."""

    def __init__(self, log: IO[bytes] | None, on_line: Callable[[str], None] | None) -> None:
        self._read, self.write_end = os.pipe()
        self._log = log
        self._on_line = on_line
        self._data = bytearray()
        self._thread = threading.Thread(target=self._collect, daemon=True)

    def start(self) -> None:
        os.close(self.write_end)
        self.write_end = -1
        self._thread.start()

    def _collect(self) -> None:
        rest = b""
        while chunk := os.read(self._read, 65536):
            self._data += chunk
            if self._log is not None:
                self._log.write(chunk)
            if self._on_line is not None:
                *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
                for line in lines:
                    self._on_line(line.decode(errors="replace"))

    def finish(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
        elif self._thread.is_alive() or self._data:
            # A grandchild in another session may hold the pipe open: what it prints later is not ours.
            self._thread.join(timeout=2.0)
        if not self._thread.is_alive():
            os.close(self._read)

    def text(self) -> str:
        return self._data.decode(errors="replace")

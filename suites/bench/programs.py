"""The measuring programs of ``datapath/libexasock/bench``, compiled for the guest and run in it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence

from images import build
from lab import lint
from lab.deadline import scaled
from lab.errors import LabError
from lab.guest.client import Process
from suites.session import EXASOCK, Session

FOLDER = "/run/bench"
NAMES = (
    "send_cost", "receive_cost", "flood_cost", "numbered_send", "stream_cost", "connect_cost", "call_count"
)  # fmt: skip


def install(session: Session) -> None:
    """Compile them in the builder image, in a scratch copy, and put them into the guest. Or LabError."""
    build.ensure(("builder",))
    make = "cp -a /src/datapath /work/ && cd /work/datapath/libexasock && make -s clean >&2"
    files = " ".join(f"build/{name}" for name in NAMES)
    script = f"{make} && make -s CFLAGS=-O2 {files} >&2 && tar -cf - {files}"
    done = subprocess.run(lint.in_builder("sh", "-c", script), check=False, capture_output=True)
    if done.returncode:
        raise LabError(f"the measuring programs do not compile: {done.stderr.decode()[-2000:]}")
    session.agent.exec(["mkdir", "-p", FOLDER])
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            session.agent.write_file(f"{FOLDER}/{member.name.rpartition('/')[2]}", file.read(), mode=0o755)


def argv(name: str, *arguments: object) -> list[str]:
    """The command of a program behind the wrapper: its own raw system calls go to the kernel all the same."""
    return [*EXASOCK.prefix, f"{FOLDER}/{name}", *(str(one) for one in arguments)]


def lines(session: Session, name: str, *arguments: object, seconds: float = 20) -> list[list[int]]:
    """Run a program to its end; the numbers on each line that it printed."""
    done = session.agent.exec(argv(name, *arguments), timeout=scaled(seconds))
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


class Sender:
    """A running program that obeys commands, for a ``with`` statement. Its ways are numbered as given."""

    def __init__(self, session: Session, arguments: Sequence[str], name: str = "send_cost") -> None:
        self._name = name
        self._process: Process = session.agent.spawn(argv(name, *arguments), stdin=True)
        self._answers = 0

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if kind is not None:
            self._process.stop()
            return
        self._process.feed("", eof=True)
        code = self._process.wait(scaled(6))
        self._process.stop()
        if code:
            raise LabError(f"{self._name} ended with {code}: {self._process.stderr}")

    def numbers(self, line: str, seconds: float = 20) -> list[int]:
        """Have a command carried out; the ns that it took, and what else the program tells of it."""
        self._answers += 1
        self._process.feed(line + "\n")
        before = rf"\A(?:took [\d ]+\n){{{self._answers - 1}}}"
        found = self._process.expect(rf"{before}took ([\d ]+)\n", scaled(seconds))
        return [int(word) for word in found[1].split()]

    def command(self, line: str, seconds: float = 20) -> int:
        """Have a command carried out; the ns that it took."""
        return self.numbers(line, seconds)[0]

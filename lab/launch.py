"""Starting a lab's supervisor, following its words, and letting go of it, or of everything."""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from lab import console
from lab.deadline import Deadline
from lab.errors import LabError, ProcessFailed
from lab.paths import Paths
from lab.process import Process


@dataclass
class Times:
    """How long each phase of `lab up` took, in seconds, in order."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        """The phase ``name`` ends now."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._last, 2)
        self._last = now


class Launch:
    """A supervisor that was started and lives at our mercy until :meth:`release`."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._ours, theirs = socket.socketpair()
        argv = [
            sys.executable,
            "-m",
            "lab.supervisor",
            "--name",
            paths.name,
            "--lifeline",
            str(theirs.fileno()),
        ]
        with theirs, paths.supervisor_log.open("wb") as log:
            popen = subprocess.Popen(
                argv,
                cwd=paths.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._process = Process(popen, "the lab's supervisor", paths.supervisor_log)
        self._unread = b""

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *_: object) -> None:
        """The lifeline closes: an unreleased supervisor cleans up and ends, and we see to it."""
        released = self._process.fileno() < 0
        self._ours.close()
        if released:
            return
        try:
            self._process.wait(Deadline("the lab's supervisor to clean up", 30.0))
        finally:
            self._process.stop()
            if self._paths.run.exists():
                shutil.rmtree(self._paths.run, ignore_errors=True)

    def release(self) -> None:
        """From now on the lab lives without us."""
        self._ours.sendall(b"release\n")
        self._process.close()

    def _messages(self, limit: Deadline | None) -> list[dict[str, Any]]:
        """The supervisor's next words, waiting for them when there is a limit."""
        if limit is not None:
            limit.wait_readable([self._ours.fileno()], watch=[self._process])
        poller = select.poll()
        poller.register(self._ours.fileno(), select.POLLIN)
        while poller.poll(0):
            part = self._ours.recv(65536)
            if not part:
                break
            self._unread += part
        else:
            part = b"-"
        *lines, self._unread = self._unread.split(b"\n")
        messages: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for message in messages:
            if "error" in message:
                raise LabError(message["error"], hint=message.get("hint"))
        if not part:
            self._process.wait(Deadline("the supervisor's end", 10.0))
            raise self._process.death() or ProcessFailed("the lab's supervisor closed its lifeline")
        return messages

    def watch(self) -> None:
        """Raise when the supervisor reported a death since the last call."""
        self._messages(None)

    def follow(self, times: Times) -> None:
        """Until QEMU runs."""
        titles = {
            "borrowing": "taking the real cards from their drivers",
            "cardd": "starting the cards",
            "machine": "starting the machine",
        }
        limit = Deadline("cards and machine to start", 120.0)
        waiting = "starting the lab's supervisor"
        lap = "supervisor"
        pending: list[dict[str, Any]] = []
        while True:
            with console.step(waiting):
                while not pending:
                    pending = self._messages(limit)
            times.lap(lap)
            phase = pending.pop(0)["phase"]
            if phase == "booting":
                return
            waiting, lap = titles[phase], phase

"""``python -m lab.remote.relay HOST SOCKET [--sudo]``: an agent elsewhere, as QEMU offers a guest's.

One ssh, whose other end is the agent there; here a unix socket that serves one client at a time. The agent
lives as long as ssh does, and ssh as long as this: told to end (SIGTERM), this closes the agent's input, and
waits for it to leave the machine as it was. When this is killed, the kernel kills ssh, and the agent sees
its input end all the same.
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
from pathlib import Path

from lab.process import Process, spawn
from lab.remote import ssh
from lab.remote.link import SUDO

AGENT = "/usr/lib/exalab/agent/agent.py"
#: Seconds for the agent there to end; the lab's supervisor waits a little longer.
END = 20.0
_CHUNK = 1 << 16


def command(sudo: bool) -> list[str]:
    """What runs there."""
    python = ["python3", "-B", "-S", AGENT, "--host"]
    return [*SUDO, *python] if sudo else python


class Relay:
    """Both ends, and at most one client."""

    def __init__(self, there: socket.socket, process: Process, path: Path) -> None:
        self._there, self._process, self._path = there, process, path
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._stop, self._stopped = socket.socketpair()
        signal.signal(signal.SIGTERM, lambda *_: self._stop.send(b"."))

    def run(self) -> int:
        """Until the agent's end; the status of ssh."""
        ending = False
        while True:
            waiting = [self._there, *([self._client or self._listener] if self._listener else [])]
            waiting += [] if ending else [self._stopped]
            ready, _, _ = select.select(waiting, [], [], END if ending else None)
            if not ready:
                return 1
            if self._stopped in ready:
                ending = True
                self._there.shutdown(socket.SHUT_WR)
            if self._there in ready and not self._from_there():
                return self._status()
            if not ending and self._client is not None and self._client in ready:
                self._from_client()
            elif not ending and self._listener is not None and self._listener in ready:
                self._client, _ = self._listener.accept()

    def _from_there(self) -> bool:
        try:
            data = self._there.recv(_CHUNK)
        except ConnectionResetError:
            data = b""
        if data and self._listener is None:
            # The agent has said hello: from now on it can be reached.
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(self._path))
            self._listener.listen(8)
        elif data and self._client is not None:
            try:
                self._client.sendall(data)
            except OSError:
                self._leave()
        return bool(data)

    def _from_client(self) -> None:
        assert self._client is not None
        try:
            data = self._client.recv(_CHUNK)
        except OSError:
            data = b""
        if data:
            self._there.sendall(data)
        else:
            self._leave()

    def _leave(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _status(self) -> int:
        """How ssh ended: it has closed its end, so it is about to."""
        poller = select.poll()
        poller.register(self._process.fileno(), select.POLLIN)
        poller.poll(END * 1000)
        status = self._process.poll()
        return 1 if status is None else status


def main() -> int:
    """One connection, from start to end; what ssh and the agent say goes to standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("socket", type=Path)
    parser.add_argument("--sudo", action="store_true")
    given = parser.parse_args()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = spawn(
                ssh.argv(given.host, command(given.sudo)),
                name=f"ssh to {given.host}",
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=sys.stderr.fileno(),
            )
        try:
            return Relay(ours, process, given.socket).run()
        finally:
            process.stop(1.0)
            given.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())

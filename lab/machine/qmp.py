"""QEMU's control protocol on an inherited socket, through the qemu.qmp library.

The socket pair is made before QEMU starts: nothing to wait for, nothing to find in a directory, and when QEMU
dies the connection ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from typing import Any

from qemu.qmp import ExecuteError, Message, QMPClient, QMPError, Runstate

from lab.errors import LabError

#: What QEMU says when an accelerator gave up; the machine stays, paused for ever.
FATAL = {"internal-error", "io-error", "guest-panicked"}


class Qmp:
    """One QEMU's control connection. All methods raise ``LabError`` when QEMU is gone or refuses."""

    def __init__(self, name: str) -> None:
        self._client = QMPClient(name)
        self._stopped: asyncio.Queue[str] = asyncio.Queue()

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """(our end, QEMU's end); pass the second one's descriptor on, then close it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return ours, theirs

    async def connect(self, sock: socket.socket) -> None:
        """Wait for the greeting and negotiate; QEMU's chardevs and devices exist when this returns."""
        try:
            await self._client.connect(sock)
        except (QMPError, EOFError, OSError) as problem:
            raise LabError(f"QEMU closed its control connection: {problem}") from problem

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run one QMP command and return its result."""
        try:
            return await self._client.execute(command, arguments)
        except ExecuteError as refusal:
            raise LabError(f"QEMU refuses {command}: {refusal}") from refusal
        except (QMPError, EOFError, OSError) as problem:
            raise LabError(f"QEMU is gone ({command}): {problem}") from problem

    async def status(self) -> str:
        """The run state: ``running``, ``internal-error``, …"""
        reply = await self.execute("query-status")
        return str(reply["status"])

    async def broken(self) -> str:
        """Return only when the machine stopped in a state it cannot leave: that state."""
        with self._client.listener(("STOP", "GUEST_PANICKED")) as listener:
            state = await self.status()
            while state not in FATAL:
                event: Message = await listener.get()
                state = "guest-panicked" if event["event"] == "GUEST_PANICKED" else await self.status()
            return state

    async def ssh_port(self) -> int:
        """The port on 127.0.0.1 that leads to the guest's ssh."""
        text = str(await self.execute("human-monitor-command", {"command-line": "info usernet"}))
        found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\b", text)
        if not found:
            raise LabError(f"QEMU forwards no port to the guest's ssh:\n{text}")
        return int(found[1])

    async def quit(self) -> None:
        """Ask QEMU to end, without waiting for the guest."""
        with contextlib.suppress(LabError):
            await self.execute("quit")

    async def close(self) -> None:
        """Drop the connection; never raises."""
        if self._client.runstate is not Runstate.IDLE:
            with contextlib.suppress(QMPError, EOFError, OSError):
                await self._client.disconnect()

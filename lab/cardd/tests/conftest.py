"""A daemon in this process, served from a thread, and one as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.card import registers as reg
from lab.cardd.control import Control
from lab.cardd.daemon import Daemon
from lab.cardd.spec import parse
from lab.paths import ROOT
from lab.vfio_user import protocol
from lab.vfio_user.protocol import HEADER, Command

#: Generous: nothing here takes a second on a quiet machine.
PATIENCE = 30.0


def spec_data(directory: Path, **changes: Any) -> dict[str, Any]:
    """Two cards on a switch with a tester, and everything under ``directory``."""
    ends = ["card0:0", "card0:1", "card1:0", "tester:t0"]
    data: dict[str, Any] = {
        "cards": [
            {
                "name": f"card{number}",
                "model": "X25" if number == 0 else "X10",
                "serial": f"EXA000{number}",
                "mac": f"64:3f:5f:01:0{number}:00",
                "socket": str(directory / f"card{number}.sock"),
            }
            for number in range(2)
        ],
        "wiring": [{"kind": "switch", "name": "sw0", "ports": [{"end": end} for end in ends]}],
        "capture_dir": str(directory / "capture"),
        "tester_dir": str(directory / "testers"),
        "trace_dir": str(directory / "trace"),
        "control": str(directory / "control.sock"),
        "seed": 7,
        "core": "python",
    }
    return data | changes


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    return spec_data(tmp_path)


@pytest.fixture
def daemon(data: dict[str, Any]) -> Iterator[Daemon]:
    """Running in a thread; its loop is left alone until the test is over."""
    served = Daemon(parse(json.dumps(data)))
    ending = threading.Event()

    def serve() -> None:
        while not ending.is_set():
            served.loop.turn(0.05)

    thread = threading.Thread(target=serve, name="cardd")
    thread.start()
    yield served
    ending.set()
    thread.join(PATIENCE)
    served.close()


@pytest.fixture
def control(daemon: Daemon) -> Iterator[Control]:
    with Control(daemon.spec.control, timeout=PATIENCE) as connection:
        yield connection


class Started:
    """``python -m lab.cardd`` as a process; ``ready`` is its ready line."""

    def __init__(self, spec: Path) -> None:
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab.cardd", "--spec", str(spec), "--ready-fd", str(write)],
            cwd=ROOT,
            pass_fds=[write],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write)
        with os.fdopen(read) as pipe:
            line = pipe.readline()
        self.ready: dict[str, Any] = json.loads(line) if line else {}

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Status, standard output and error after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


class Client:
    """A blocking vfio-user client, just enough to read and write registers."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(path)
        self.call(Command.VERSION, protocol.VERSION.pack(0, 0))

    def call(self, command: int, payload: bytes = b"") -> bytes:
        self.sock.sendall(HEADER.pack(1, command, HEADER.size + len(payload), 0, 0) + payload)
        size, flags = HEADER.unpack(self.sock.recv(HEADER.size, socket.MSG_WAITALL))[2:4]
        assert not flags & protocol.FLAG_ERROR
        return self.sock.recv(size - HEADER.size, socket.MSG_WAITALL) if size > HEADER.size else b""

    def read(self, offset: int, region: int = 0) -> int:
        data = self.call(Command.REGION_READ, protocol.REGION_RW.pack(offset, region, 4))
        return int.from_bytes(data[16:], "little")

    def write(self, offset: int, value: int, region: int = 0) -> None:
        data = protocol.REGION_RW.pack(offset, region, 4) + value.to_bytes(4, "little")
        self.call(Command.REGION_WRITE, data)

    def power(self) -> None:
        """Switch both ports' modules on, as a driver does when it opens them."""
        self.write(reg.POWERDOWN.address(), 0x30)

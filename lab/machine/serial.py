"""The guest's serial console on this terminal."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from pathlib import Path

from lab.errors import LabError

#: Ctrl-], as telnet has it.
LEAVE = b"\x1d"


def talk(path: Path) -> None:
    """Connect our terminal to the console at the unix socket ``path``, until Ctrl-] or its end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError as problem:
            raise LabError(f"no console at {path}: {problem.strerror}", hint="make lab-up") from problem
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal) if os.isatty(terminal) else None
        if before is not None:
            tty.setraw(terminal)
        try:
            _carry(sock, terminal)
        finally:
            if before is not None:
                termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _carry(sock: socket.socket, terminal: int) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    poller.register(terminal, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == terminal:
                typed = os.read(terminal, 4096)
                if not typed or LEAVE in typed:
                    return
                sock.sendall(typed)
            else:
                said = sock.recv(65536)
                if not said:
                    return
                os.write(sys.stdout.fileno(), said)

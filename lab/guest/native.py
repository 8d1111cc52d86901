"""An agent without a guest: the same program in private namespaces of this machine.

For developing the suites' guest-side modules and testing the agent itself. Needs root and unshare(1); gets a
network, mount and process-id namespace of its own, so nothing it does is seen outside, and its end ends all
that it started.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.guest.client import Agent

AGENT = Path(__file__).with_name("agent.py")


@contextlib.contextmanager
def native_socket(python: str = sys.executable) -> Iterator[socket.socket]:
    """The raw channel of a native agent, for tests that speak the protocol themselves."""
    ours, theirs = socket.socketpair()
    isolate = 'mount -t tmpfs run /run && mkdir /run/netns && ip link set lo up && "$@"; exit'
    argv = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += ["sh", "-c", isolate, "sh", python, "-S", str(AGENT), "--fd", str(theirs.fileno())]
    with ours, subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL) as process:
        theirs.close()
        try:
            yield ours
        finally:
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def native_agent() -> Iterator[Agent]:
    """A client of a native agent."""
    with native_socket() as sock, Agent.over(sock.dup(), timeout=20, name="native") as agent:
        yield agent

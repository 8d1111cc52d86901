"""An agent on a machine that has none: its source goes ahead of what it is asked, and nothing stays there."""

from __future__ import annotations

import contextlib
import inspect
import socket
import tempfile
from collections.abc import Iterator

from lab.guest import agent as program
from lab.guest.client import Agent, AgentError
from lab.process import spawn
from lab.remote import ssh

#: Seconds for ssh to connect, and Python to start there.
HELLO = 40.0
#: Runs what it reads from its standard input: ten digits, how long the source is; the source. No byte more,
#: for what follows is the agent's.
_LOADER = """
import os
def take(n):
    data = b""
    while len(data) < n:
        more = os.read(0, n - len(data))
        if not more:
            raise SystemExit("the bench went away")
        data += more
    return data
exec(compile(take(int(take(10))), "agent.py", "exec"))
"""
SUDO = ("sudo", "-n", "--")


def command(sudo: bool) -> list[str]:
    """What runs there; ``sudo``: the user is not root, but may become it."""
    python = ["python3", "-B", "-S", "-c", _LOADER, "--worker"]
    return [*SUDO, *python] if sudo else python


@contextlib.contextmanager
def agent_on(host: str, sudo: bool = False) -> Iterator[Agent]:
    """The agent there. ``lab.remote.ssh.Unreachable`` has the remedy. Nothing runs there afterwards."""
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as said:
        with theirs:
            process = spawn(
                ssh.argv(host, command(sudo)),
                name=f"ssh to {host}",
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=said.fileno(),
            )
        with process:
            source = inspect.getsource(program).encode()
            try:
                with contextlib.suppress(OSError):
                    ours.sendall(b"%010d%s" % (len(source), source))
                agent = Agent.over(ours.dup(), timeout=HELLO, name=host)
            except AgentError as problem:
                returncode = process.poll()
                said.seek(0)
                raise ssh.explained(host, said.read().decode(errors="replace"), returncode) from problem
            with agent:
                yield agent

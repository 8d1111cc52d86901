"""``--shell-on-error``: with a terminal a shell, without one none is waited for."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from lab.deadline import Deadline
from lab.paths import ROOT
from suites import stop
from suites.topology import Topology, vlans

SCRIPT = "import sys; from suites import stop; print('left', stop.open_shell(['sh'], sys.stdin, sys.stdout))"


def test_what_is_said_is_enough_to_get_in() -> None:
    """The test, why, what stands, the bundle, the commands; not five hundred names."""
    topology = Topology("many", tuple(vlans(512, "card0:0")))
    said = stop.told(
        "suites/x.py::test_a", "two", topology, "AssertionError: 1\nassert False", Path("/b.tar.gz")
    )
    for part in (
        "stopped in lab two: suites/x.py::test_a",
        "AssertionError: 1",
        "-m lab --name two shell",
        "/b.tar.gz",
        "n1, n2",
        "and 504 more",
        "ip netns exec n1",
    ):
        assert part in said
    assert "no reason given" in stop.told("x", "lab", None, "", Path("/b"))


def test_without_a_terminal_nobody_is_waited_for() -> None:
    """Neither a pipe nor something closed is one; `cat` would wait for ever."""
    for stdin in (io.StringIO(), closed := io.StringIO()):
        if stdin is closed:
            closed.close()
        out = io.StringIO()
        assert stop.open_shell(["cat"], stdin, out) is False
        assert "no terminal" in out.getvalue() and "lab replay" in out.getvalue()


def test_with_a_terminal_there_is_a_shell_and_the_run_goes_on() -> None:
    """A real terminal: what is typed is run, and `exit` comes back."""
    master, slave = pty.openpty()
    argv = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, start_new_session=True
    ) as process:
        os.close(slave)
        limit = Deadline("the shell says something", 60)
        said = b""
        typed = False
        while b"left True" not in said:
            limit.wait_readable([master])
            said += os.read(master, 4096)
            if b"a shell in the guest" in said and not typed:
                typed = True
                os.write(master, b"echo $((6 * 7))\nexit\n")
        assert process.wait(30) == 0
    os.close(master)
    assert b"42" in said and b"going on" in said

"""The connection to the agent of another machine: a guest's, to whoever comes; its end is the end of all."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.deadline import Deadline
from lab.errors import ProcessFailed
from lab.guest.client import Agent
from lab.paths import ROOT
from lab.process import Process, spawn
from lab.remote import relay
from lab.remote.tests.ssh_host import NAME, SshHost


@pytest.fixture
def there(machine: SshHost) -> Iterator[SshHost]:
    """The machine, with the agent where the roles put it."""
    file = machine.root / relay.AGENT.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text((ROOT / "lab/guest/agent.py").read_text())
    yield machine
    file.unlink()
    file.parent.rmdir()
    file.parent.parent.rmdir()


@contextmanager
def relayed(folder: Path) -> Iterator[tuple[Path, Process]]:
    socket = folder / "agent.sock"
    argv = [sys.executable, "-m", "lab.remote.relay", NAME, str(socket)]
    with spawn(argv, name="relay", log=folder / "relay.log", cwd=ROOT) as process:
        Deadline("the agent there", 30.0).wait_until(socket.exists, watch=[process])
        yield socket, process


def running(machine: SshHost) -> set[str]:
    """The programs that run there, but those that hold it."""
    told = set()
    for path in (machine.root / "proc").glob("[0-9]*/cmdline"):
        try:
            told.add(path.read_bytes().replace(b"\0", b" ").decode().strip())
        except OSError:
            continue
    return {one for one in told if "agent.py" in one or "sleep 4711" in one}


def gone(machine: SshHost) -> None:
    Deadline("everything there to end", 20.0).wait_until(lambda: not running(machine))


def test_one_client_after_the_other(there: SshHost, tmp_path: Path) -> None:
    """The agent stays while clients come and go; a worker is started from where it lies."""
    with relayed(tmp_path) as (socket, _):
        with Agent(socket, timeout=20) as first:
            assert first.exec(["hostname"]).code == 0
            pid = first.hello.pid
            with first.worker(timeout=20) as worker:
                assert worker.request("ping") == "pong"
        with Agent(socket, timeout=20) as second:
            assert second.hello.pid == pid


def test_names_are_its_own(there: SshHost, tmp_path: Path) -> None:
    """Nobody else on the machine sees its named namespaces, and it sees none of theirs."""
    theirs = there.root / "run/netns"
    theirs.mkdir()
    (theirs / "blue").touch()
    try:
        with relayed(tmp_path) as (socket, _), Agent(socket, timeout=20) as agent:
            assert agent.exec(["ls", "/run/netns"]).stdout == ""
            agent.exec(["touch", "/run/netns/red"])
            assert [path.name for path in theirs.iterdir()] == ["blue"]
    finally:
        (theirs / "blue").unlink()
        theirs.rmdir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_end_is_the_end_of_all(there: SshHost, tmp_path: Path, number: signal.Signals) -> None:
    """Told to end, or killed: nothing runs there any more, not even what has left its parents."""
    with relayed(tmp_path) as (socket, process), Agent(socket, timeout=20) as agent:
        agent.spawn(["sleep", "4711"])
        agent.exec(["sh", "-c", "setsid sleep 4711 >/dev/null 2>&1 &"])
        assert "sleep 4711" in running(there)
        process.signal(number)
        gone(there)
    assert not (there.root / "run/netns").exists()


def test_a_machine_that_goes_away(there: SshHost, tmp_path: Path) -> None:
    """Its agent ends: so does the connection, and it says how."""
    with relayed(tmp_path) as (socket, process), Agent(socket, timeout=20) as agent:
        agent.submit("exec", argv=["sh", "-c", "kill -KILL $PPID"])
        assert process.wait(Deadline("the connection to end", 20.0)) != 0
        assert isinstance(process.death(), ProcessFailed)
    gone(there)

"""The lab itself: two side by side, an interrupted start, a killed machine, a restart.

lab (the suites' own)     card0 --- sw0 --- t0         stays untouched by all of this
second                    card0 --- sw0 --- t0         comes and goes
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest

from lab import api, state
from lab.deadline import Deadline, scaled
from lab.errors import LabError
from lab.machine import counting
from lab.paths import ROOT, Paths
from suites.session import Session

NAME = "second"
#: A real card is in one lab at a time.
pytestmark = pytest.mark.card("emulated")


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "lab", "--name", NAME, *argv]


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """A command of the lab's, to its end."""
    return subprocess.run(
        command(*argv), cwd=ROOT, capture_output=True, text=True, timeout=scaled(40), check=False
    )


def remains() -> list[str]:
    """Processes, mounts and sockets that belong to the second lab."""
    paths = Paths(NAME)
    marks = (str(paths.run) + "/", str(paths.out) + "/", f"exalab-{NAME}")
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if process.pid != os.getpid() and any(mark in word for word in words for mark in marks):
            found.append(f"process {process.pid}: {' '.join(words)[:80]}")
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(paths.run) in line]
    found += [str(paths.run)] if paths.run.exists() else []
    return found


@pytest.fixture
def second() -> Iterator[api.Lab]:
    """Another lab, of the images that are there; gone at the end."""
    done = run("up", "--keep-images")
    assert done.returncode == 0, done.stderr
    with api.Lab.attach(NAME) as lab:
        yield lab
    assert run("down").returncode == 0
    assert remains() == []


@pytest.mark.full("it boots machines more; two labs side by side are in core")
def test_instructions_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab of one line more tells how many instructions its guest has executed: three times the work, three
    times as many, whatever else runs here."""
    text = '[machine]\naccelerator = "tcg"\ncount_instructions = true\n'
    (tmp_path / "lab.toml").write_text(text)
    monkeypatch.setenv("EXALAB_TOML", str(tmp_path / "lab.toml"))
    try:
        done = run("up", "--keep-images")
        assert done.returncode == 0, done.stderr
        with api.Lab.attach(NAME) as lab:
            costs = []
            for rounds in (0, 100_000, 300_000):
                before = counting.executed(lab.paths)
                lab.agent.exec(["sh", "-c", f"i=0; while [ $i -lt {rounds} ]; do i=$((i + 1)); done"])
                costs.append(counting.executed(lab.paths) - before)
    finally:
        assert run("down").returncode == 0
    once, thrice = (cost - costs[0] for cost in costs[1:])
    assert once > 10 * 100_000
    assert 2.5 < thrice / once < 3.5, costs
    assert remains() == []


def test_two_labs_side_by_side(session: Session, second: api.Lab) -> None:
    """Labs with different names share nothing: guests, cards and wires of their own; a second `up` is a
    no-op; `down` of one leaves the other alone (and nothing of itself: the fixture checks)."""
    boots = session.agent.hello.boot_id, second.agent.hello.boot_id
    assert boots[0] != boots[1]
    second.control.link("card0:0", False)
    links = {port["end"]: port["up"] for port in session.control.ports()}
    assert links["card0:0"]
    second.control.link("card0:0", True)
    second.close()
    assert run("up", "--keep-images").returncode == 0
    assert second.agent.hello.boot_id == boots[1]


@pytest.mark.full("it boots machines more; two labs side by side are in core")
def test_killed_machine_is_noticed_and_replaced(session: Session, second: api.Lab) -> None:
    """A QEMU that dies is said by `status` (which fails) and by the API, with a remedy; `up` replaces it."""
    sandbox = psutil.Process(second.state.parts["qemu"].pid)
    machine = next(one for one in [*sandbox.children(recursive=True), sandbox] if "qemu" in one.name())
    machine.kill()
    limit = Deadline("the supervisor notices", scaled(1))
    limit.wait_until(lambda: state.read(second.paths).broken())
    told = run("status")
    assert told.returncode != 0
    assert re.search("machine|qemu", told.stdout + told.stderr, re.IGNORECASE)
    with pytest.raises(LabError, match="broken"):
        api.Lab.attach(NAME)
    second.close()
    assert run("up", "--keep-images").returncode == 0
    with api.Lab.attach(NAME) as fresh:
        assert fresh.agent.request("ping") == "pong"


@pytest.mark.full("it boots machines more; two labs side by side are in core")
def test_restart_gives_a_fresh_guest(session: Session, second: api.Lab) -> None:
    """A restart boots the same image again with the same cards: what was written in the guest is gone."""
    before = second.agent.hello.boot_id
    second.agent.write_file("/root/here", "x")
    second.restart()
    assert second.agent.hello.boot_id != before
    assert second.agent.exec(["ls", "/root/here"], check=False).code != 0
    assert second.control.status()["cards"][0]["connected"]


@pytest.fixture
def cleared() -> Iterator[None]:
    """However the test ends, the second lab is gone before the next one."""
    yield
    run("down")


@pytest.mark.full("it boots machines more; two labs side by side are in core")
@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("moment", ["starting the cards", "booting the guest"])
def test_ctrl_c_leaves_nothing(session: Session, moment: str) -> None:
    """Ctrl-C while the lab comes up ends everything it had started: no process, mount or socket is left."""
    # A shell that runs the tests in the background has them ignore SIGINT, and whom they start too.
    argv = ["env", "--default-signal=INT", *command("up", "--keep-images")]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        limit = Deadline(f"`lab up` says {moment!r}", scaled(10))
        said = b""
        poller = select.poll()
        poller.register(process.stdout, select.POLLIN)
        while moment.encode() not in said:
            limit.check()
            poller.poll(limit.remaining() * 1000)
            part = os.read(process.stdout.fileno(), 65536)
            assert part, said.decode()
            said += part
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(scaled(3)) != 0
    Deadline("nothing is left", scaled(1)).wait_until(lambda: not remains())
    assert not state.is_alive(Paths(NAME))


@pytest.mark.full("it boots machines more; two labs side by side are in core")
@pytest.mark.usefixtures("cleared")
def test_killed_up_leaves_nothing(session: Session) -> None:
    """The same when `lab up` is killed without a chance to clean up."""
    argv = command("up", "--keep-images")
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        limit = Deadline("the supervisor lives", scaled(6))
        limit.wait_until(lambda: state.is_alive(Paths(NAME)))
        process.kill()
    limit = Deadline("everything ended by itself", scaled(3))
    limit.wait_until(lambda: not [one for one in remains() if one.startswith("process")])
    assert run("down").returncode == 0
    assert remains() == []

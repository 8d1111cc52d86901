"""A lab from up to down with stand-ins for cardd and QEMU: nothing is left, however it ends."""

from __future__ import annotations

import json
import os
import random
import secrets
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import api, lease
from lab import state as states
from lab.deadline import Deadline
from lab.errors import LabError
from lab.paths import Paths

PATIENCE = 60.0


@pytest.fixture
def lab() -> Iterator[Paths]:
    """A name nobody uses; whatever is left of it goes at the end."""
    paths = Paths(f"test-{secrets.token_hex(3)}")
    yield paths
    api.down(paths.name)
    shutil.rmtree(paths.out, ignore_errors=True)


def start(paths: Paths, *how: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """`lab up` with stand-ins, in the background, in a session of its own, and open to SIGINT even where a
    shell has this test in the background and so deaf to it."""
    argv = ["env", "--default-signal=INT", sys.executable, "-m", "lab.tests.fake_up", paths.name, *how]
    return subprocess.Popen(
        argv, cwd=paths.root, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
    )


def finish(up: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = up.communicate(timeout=PATIENCE)
    return up.returncode, out.strip()


def processes_of(paths: Paths) -> list[str]:
    """Command lines of all processes that name this lab, the test's own children aside."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if paths.name in command and int(entry.name) != os.getpid():
            found.append(command)
    return found


def assert_nothing_left(paths: Paths) -> None:
    """No process, no socket, no sign of life."""
    Deadline("the last process to be gone", 10.0).wait_until(lambda: not processes_of(paths))
    assert not paths.run.exists()
    # a process that ends has no command line any more, and holds its locks for a moment yet
    Deadline("the last lock to be free", 10.0).wait_until(lambda: not states.is_alive(paths))


def test_up_status_down(lab: Paths) -> None:
    """Up starts both parts and says so in the state; down leaves nothing but logs."""
    assert finish(start(lab)) == (0, "up")
    state = states.read(lab)
    assert states.is_alive(lab)
    assert (state.phase, state.ssh_port, state.boots) == ("up", 40022, 1)
    assert state.broken() is None
    assert state.facts["kernel"] == "6.12-fake"
    assert {name: part.ended for name, part in state.parts.items()} == {"cardd": None, "qemu": None}
    assert lab.ssh_key.stat().st_mode & 0o777 == 0o600
    assert api.down(lab.name)
    assert_nothing_left(lab)
    assert states.read(lab).phase == "down"
    assert lab.serial_log.exists()
    assert not api.down(lab.name)


def test_second_up_is_a_no_op(lab: Paths) -> None:
    """The same processes serve on."""
    assert finish(start(lab)) == (0, "up")
    before = states.read(lab)
    assert finish(start(lab)) == (0, "up")
    assert states.read(lab) == before


def test_two_ups_at_once(lab: Paths) -> None:
    """One starts the lab, the other one waits and finds it up."""
    both = [start(lab), start(lab)]
    assert [finish(up) for up in both] == [(0, "up"), (0, "up")]
    assert states.read(lab).boots == 1
    assert len([line for line in processes_of(lab) if "lab.supervisor" in line]) == 1


def test_labs_side_by_side(lab: Paths) -> None:
    """Taking one down leaves the other alone."""
    other = Paths(lab.name + "b")
    try:
        assert [finish(up) for up in (start(lab), start(other))] == [(0, "up"), (0, "up")]
        api.down(other.name)
        assert states.is_alive(lab)
        assert states.read(lab).broken() is None
    finally:
        api.down(other.name)
        shutil.rmtree(other.out, ignore_errors=True)


def test_machine_death_is_reported(lab: Paths) -> None:
    """The state tells how QEMU died, with the guest's last words; the cards live on; restart mends it."""
    finish(start(lab))
    pid = states.read(lab).parts["qemu"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    told = Deadline("the death in the state", 10.0).wait_until(lambda: states.read(lab).broken())
    assert "qemu killed by SIGKILL" in told
    assert "guest says: something went wrong" in told
    with pytest.raises(LabError, match=r"(?s)is broken: qemu killed"):
        api.Lab.attach(lab.name)
    assert states.read(lab).parts["cardd"].ended is None
    api.ask_supervisor(lab, "restart")
    state = states.read(lab)
    assert (state.broken(), state.boots, state.phase) == (None, 2, "booting")


def test_card_death_is_reported_and_up_replaces(lab: Paths) -> None:
    """A lab whose cardd died is not taken for up: the next up replaces it."""
    finish(start(lab))
    before = states.read(lab)
    pid = before.parts["cardd"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    Deadline("the death in the state", 10.0).wait_until(lambda: states.read(lab).broken())
    assert finish(start(lab)) == (0, "up")
    after = states.read(lab)
    assert after.broken() is None
    assert after.pid != before.pid


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (["cardd=die"], "cardd ended with status 3; its last lines:\nfake cardd: no such card model"),
        (["die=qmp_capabilities"], "qemu ended with status 9"),
        (["die=human-monitor-command"], "fake machine: dying as told"),
        (["status=internal-error"], None),
    ],
)
def test_failing_start_says_why(lab: Paths, how: list[str], words: str | None) -> None:
    """A part that dies while starting ends the start with its last lines, and nothing is left."""
    up = start(lab, *how, stderr=subprocess.PIPE)
    _, said = up.communicate(timeout=PATIENCE)
    if words is None:
        assert "QEMU stopped the machine: internal-error" in said
    else:
        assert up.returncode == 1
        assert words in said.replace("\r", "")
    api.down(lab.name)
    assert_nothing_left(lab)


def test_deaf_card_is_killed(lab: Paths) -> None:
    """Down does not depend on anybody's goodwill."""
    finish(start(lab, "cardd=deaf"))
    api.down(lab.name)
    assert_nothing_left(lab)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_supervisor_cleans_up_on_signals(lab: Paths, number: signal.Signals) -> None:
    """Every polite way to end the supervisor ends all of the lab."""
    finish(start(lab))
    pid = states.read(lab).pid
    assert pid is not None
    os.kill(pid, number)
    Deadline("the supervisor's end", 20.0).wait_until(lambda: not states.is_alive(lab))
    assert_nothing_left(lab)
    assert states.read(lab).phase == "down"


def test_killed_supervisor_takes_all_with_it(lab: Paths) -> None:
    """PDEATHSIG: not even SIGKILL leaves a process; the next up starts afresh."""
    finish(start(lab))
    pid = states.read(lab).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    Deadline("the last process to be gone", 10.0).wait_until(lambda: not processes_of(lab))
    assert not states.is_alive(lab)
    assert finish(start(lab)) == (0, "up")


def test_interrupted_at_any_moment(lab: Paths, veth: str) -> None:
    """Ctrl-C at twenty random moments of `lab up`, and a kill at five, leave nothing, and what was borrowed
    is as it was; then a start works.
    """
    before = borrowed(veth)
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    chance = random.Random(seed)
    for turn in range(25):
        up = start(lab, f"interface={veth}")
        pidfd = os.pidfd_open(up.pid)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        # The moment, from before its first line to after its last: up takes half a second when alone.
        ended = poller.poll(chance.uniform(0.05, 0.8) * 1000)
        os.close(pidfd)
        number = signal.SIGINT if turn < 20 else signal.SIGKILL
        if not ended:
            os.kill(up.pid, number)
        finish(up)
        if states.is_alive(lab) and states.read(lab).phase == "up":
            api.down(lab.name)  # the moment came after the end: the lab is up, as asked
        if number == signal.SIGKILL:
            Deadline("the supervisor to notice", 20.0).wait_until(lambda: not states.is_alive(lab))
            api.down(lab.name)
        assert_nothing_left(lab)
        assert borrowed(veth) == before
    assert finish(start(lab)) == (0, "up")


@pytest.fixture
def veth() -> Iterator[str]:
    """An interface of this machine that a lab can borrow."""
    name = f"exl{secrets.token_hex(3)}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}x"], check=True)
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


def borrowed(name: str) -> tuple[str, str]:
    """What a lab changes on an interface: whether it answers, and whether it is up."""
    arp = Path(f"/proc/sys/net/ipv4/conf/{name}/arp_ignore").read_text().strip()
    return arp, Path(f"/sys/class/net/{name}/flags").read_text().strip()


def test_what_was_borrowed_is_given_back(lab: Paths, veth: str) -> None:
    """By `lab down`; by a start that fails; by the next command after a supervisor that was killed."""
    before = borrowed(veth)
    how = f"interface={veth}"
    assert finish(start(lab, how)) == (0, "up")
    assert borrowed(veth) != before
    assert borrowed(veth)[0] == "8"
    api.down(lab.name)
    assert borrowed(veth) == before
    assert finish(start(lab, how, "die=qmp_capabilities"))[0] == 1
    assert borrowed(veth) == before
    for again in ("down", "up"):
        assert finish(start(lab, how)) == (0, "up")
        pid = states.read(lab).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        Deadline("the last process to be gone", 10.0).wait_until(lambda: not processes_of(lab))
        assert borrowed(veth)[0] == "8"
        if again == "down":
            api.down(lab.name)
        else:
            assert finish(start(lab)) == (0, "up")
        assert borrowed(veth) == before


def test_one_lab_at_a_time_has_an_interface(lab: Paths, veth: str) -> None:
    """The second one is told who has it, and does not disturb the first."""
    other = Paths(lab.name + "b")
    try:
        assert finish(start(lab, f"interface={veth}")) == (0, "up")
        second = start(other, f"interface={veth}", stderr=subprocess.PIPE)
        _, said = second.communicate(timeout=PATIENCE)
        assert second.returncode == 1
        assert f"interface {veth} is taken by lab {lab.name} of" in said
        assert borrowed(veth)[0] == "8"
    finally:
        api.down(other.name)
        shutil.rmtree(other.out, ignore_errors=True)


def test_a_lease_is_held_while_the_lab_is_up(lab: Paths, tmp_path: Path) -> None:
    """Others see whose it is; it is free when the lab is down. A lab whose lease went to somebody else
    ends.
    """
    how = f"leases={tmp_path}"
    assert finish(start(lab, how)) == (0, "up")
    claim = lease.last(tmp_path, "card")
    assert claim is not None and not claim.given_up
    assert claim.purpose == f"lab {lab.name} of {lab.root}"
    other = Paths(lab.name + "b")
    second = start(other, how, stderr=subprocess.PIPE)
    _, said = second.communicate(timeout=PATIENCE)
    assert second.returncode == 1
    assert f"card is leased by {lease.me()} since" in said
    shutil.rmtree(other.out, ignore_errors=True)
    api.down(lab.name)
    free = lease.last(tmp_path, "card")
    assert free is not None and free.given_up
    assert finish(start(lab, how)) == (0, "up")
    follower = lease.Claim("card", 3, "another", "somebody@elsewhere", "a night", "now")
    (tmp_path / "card.000003").write_text(json.dumps(vars(follower)))
    Deadline("the lab to end", 60.0).wait_until(lambda: not states.is_alive(lab))
    assert "reservation of card was lost" in str(states.read(lab).error)
    assert_nothing_left(lab)


def test_a_lab_works_under_the_lease_of_whoever_started_it(lab: Paths, tmp_path: Path) -> None:
    """A night has the card for all of its labs; they neither take its lease nor give it up."""
    with lease.acquire(tmp_path, "card", "night") as held:
        os.environ[lease.ENVIRONMENT] = held.claim.token
        try:
            assert finish(start(lab, f"leases={tmp_path}")) == (0, "up")
        finally:
            del os.environ[lease.ENVIRONMENT]
        api.down(lab.name)
        held.check()


def test_supervisor_refuses_nonsense(lab: Paths) -> None:
    """Wrong commands are answered, not obeyed; QMP errors come back as errors."""
    finish(start(lab))
    with pytest.raises(LabError, match="no command 'dance'"):
        api.ask_supervisor(lab, "dance")
    with pytest.raises(LabError, match="not a command"):
        api.ask_supervisor(lab, "merge")
    assert api.ask_supervisor(lab, "qmp", execute="query-status")["return"]["status"] == "running"
    assert api.ask_supervisor(lab, "status")["state"] == json.loads(lab.state.read_text())


def test_attach_says_what_to_do(lab: Paths) -> None:
    """No lab: the error names the command that makes one."""
    with pytest.raises(LabError, match="is not up") as caught:
        api.Lab.attach(lab.name)
    assert caught.value.hint == f"make lab-up LAB={lab.name}"

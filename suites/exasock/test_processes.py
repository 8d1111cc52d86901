"""Processes and their sockets: forked, replaced, passed on, closed, killed; the end of the module.

    card0:0 --- a      lan0 (port)   10.1.0.1/24      the program under test
    card0:1 --- peer   lan0 (port)   10.1.0.2/24      a kernel socket that sends numbered datagrams

Whoever has the socket receives by it, accelerated or not: each datagram once, and nothing stays taken.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.deadline import Deadline, scaled
from lab.guest.client import Process
from suites.exasock import guest_calls, guest_life
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.exasock.steps import data, do, opened
from suites.guest import exasock
from suites.place import Placed
from suites.session import KERNEL, Session, SocketKind
from suites.topology import Topology

ONE, OTHER = 7001, 7002
END = 0xFFFFFF
KINDS = (KERNEL, SPINNING)
SCRIPT = "/run/exalab-life.py"


@dataclass
class Life:
    """A program of its own in namespace a, and who sends to it from the other one."""

    session: Session
    compared: Compared
    kind: SocketKind
    started: list[Process] = field(default_factory=list)

    def start(self, mode: str, count: int) -> Process:
        argv = ["python3", "-u", SCRIPT, mode, "10.1.0.1", str(ONE), str(count)]
        process = self.session.agent.spawn([*self.kind.prefix, *argv], netns="a", stdin=True)
        self.started.append(process)
        process.expect(r"^ready$", timeout=scaled(3))
        return process

    def send(self, *numbers: int) -> None:
        steps = [do("sendto", "b", data=data(number), to=["10.1.0.1", ONE]) for number in numbers]
        worker = self.compared.programs(KERNEL).worker("sender")
        told = worker.call(guest_calls.run, program="s", steps=steps, keep=True)
        assert not [one for one in told if "errno" in one], told

    def attachments(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = self.session.agent.call(exasock.accelerated, netns="a", everything=False)
        return told


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def life(
    request: pytest.FixtureRequest,
    place: Callable[[Topology], Placed],
    compared: Compared,
    session: Session,
) -> Iterator[Life]:
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    acquaint(compared, standing, standing["a"], standing["peer"])
    session.agent.write_file(SCRIPT, inspect.getsource(guest_life))
    life = Life(session, compared, request.param)
    sender = compared.programs(KERNEL).worker("sender")
    sender.load(guest_calls)
    sender.call(guest_calls.run, program="s", steps=opened("b", standing["peer"], OTHER), keep=True)
    yield life
    for process in life.started:
        process.stop()
    sender.call(guest_calls.close, program="s")
    if life.kind is not KERNEL:
        none_left = Deadline("no socket of an ended program is accelerated", scaled(1))
        none_left.wait_until(lambda: life.attachments() == [], every=0.05)


def numbers(process: Process, who: str = r"\w+") -> list[int]:
    return [int(number) for number in re.findall(rf"^{who} (\d+)$", process.stdout, re.MULTILINE)]


def test_parent_and_child_share_a_socket(life: Life) -> None:
    """N1, N10: after fork both receive by the socket: each datagram goes to one of them."""
    process = life.start("fork", 1000)
    process.expect(r"^parent is \d+$")
    process.expect(r"^child is \d+$")
    life.send(*range(40), END, END)
    assert process.wait(scaled(4)) == 0, process.stderr
    assert sorted(numbers(process)) == list(range(40))


def test_threads_share_a_socket(life: Life) -> None:
    """N10: two threads that receive by one socket: each datagram goes to one of them."""
    process = life.start("threads", 1000)
    life.send(*range(40), END, END)
    assert process.wait(scaled(4)) == 0, process.stderr
    assert sorted(numbers(process)) == list(range(40))


def test_exec_without_the_library_and_with_it_again(life: Life) -> None:
    """N1, N10: a descriptor kept over exec is the kernel's socket it always was, and accelerated again after
    one more exec."""
    process = life.start("exec", 5)
    life.send(*range(15))
    assert process.wait(scaled(6)) == 0, process.stderr
    assert numbers(process, "before") == [0, 1, 2, 3, 4]
    assert numbers(process, "native") == [5, 6, 7, 8, 9]
    assert numbers(process, "again") == [10, 11, 12, 13, 14]


def test_passed_to_a_native_program(life: Life) -> None:
    """N1, N10: a descriptor sent by SCM_RIGHTS to a program without the library works there, and here."""
    process = life.start("pass", 5)
    life.send(*range(5))
    process.expect(r"^owner 4$", timeout=scaled(4))
    life.send(*range(5, 10))
    process.expect(r"^taker 9$", timeout=scaled(4))
    life.send(*range(10, 15))
    assert process.wait(scaled(4)) == 0, process.stderr
    assert numbers(process, "owner") == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert numbers(process, "taker") == [5, 6, 7, 8, 9]


def test_killed_in_the_middle(life: Life) -> None:
    """N7, N9: one of two holders is killed while datagrams come: the other goes on with the rest; nothing is
    doubled, and at most what the dead one had in hand is lost."""
    process = life.start("fork", 1000)
    child = process.expect(r"^child is (\d+)$")[1]
    process.expect(r"^parent is \d+$")
    life.send(*range(20))
    process.expect(r"^(parent|child) \d+$", timeout=scaled(3))
    life.session.agent.exec(["kill", "-KILL", child])
    life.send(*range(20, 40), END)
    assert process.wait(scaled(4)) == 0, process.stderr
    got = numbers(process)
    assert len(got) == len(set(got)), "a datagram came twice"
    assert len(set(range(40)) - set(got)) <= 1


def test_a_killed_process_gives_everything_back(life: Life) -> None:
    """N7: kill -9 of the only holder: no attachment stays, the port is free at once for the next one."""
    process = life.start("threads", 1000)
    life.send(*range(10))
    process.expect(r"^\w+ \d+$", timeout=scaled(3))
    process.kill(9)
    process.wait(scaled(1))
    second = life.start("threads", 1000)
    life.send(*range(10), END, END)
    assert second.wait(scaled(4)) == 0, second.stderr
    assert sorted(numbers(second)) == list(range(10))


def test_closed_by_another_thread(life: Life) -> None:
    """N10: close(2) does not end another thread's call: the datagram that comes then is still its."""
    process = life.start("closed", 1)
    process.expect(r"^closing$")
    process.feed("\n")
    process.expect(r"^closed$")
    life.send(3)
    assert process.wait(scaled(4)) == 0, process.stderr
    assert numbers(process, "waiting") == [3]


@pytest.mark.expects("exasock")
def test_the_module_is_not_unloaded_under_its_users(
    session: Session, healthy: None, defer: Callable[..., None]
) -> None:
    """rmmod is refused while a program has the device open; without one it is clean, and a new load works."""
    session.end_programs()
    defer(session.agent.exec, ["modprobe", "exasock"])
    session.agent.write_file(SCRIPT, inspect.getsource(guest_life))
    user = session.agent.spawn([*SPINNING.prefix, "python3", "-u", SCRIPT, "threads", "0.0.0.0", "7", "1"])
    user.expect(r"^ready$", timeout=scaled(3))
    refused = session.agent.exec(["rmmod", "exasock"], check=False)
    assert refused.code != 0 and "in use" in refused.stderr
    user.kill(9)
    user.wait(scaled(1))
    gone = Deadline("the module has no user", scaled(1))
    gone.wait_until(lambda: session.agent.call(exasock.references) == 0, every=0.05)
    session.agent.exec(["rmmod", "exasock"])
    session.agent.exec(["modprobe", "exasock"])
    assert session.agent.call(exasock.info)["abi"] == exasock.ABI

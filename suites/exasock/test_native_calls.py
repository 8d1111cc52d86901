"""Native calls on a taken connection: what a program without the library sees of it.

    card0:0 --- a      lan0 (port)   10.1.0.1/24      a taken connection, by hand
    card0:1 --- peer   lan0 (port)   10.1.0.2/24      the other end, the kernel's

Whoever calls finds an ordinary connection: its bytes are there, in order, and its options count at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.deadline import Deadline, scaled
from lab.guest.client import Agent
from suites.exasock import guest_native, guest_streams
from suites.exasock.compare import Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.guest import bpf, exasock, streams
from suites.place import Placed
from suites.session import Session
from suites.topology import Topology

PORT = 7800


@pytest.fixture
def hand(
    session: Session, place: Callable[[Topology], Placed], compared: Compared, defer: Callable[..., None]
) -> Iterator[Agent]:
    """Two namespaces with a port each, and the agent's own process as the program: one that spins, but in
    Python, so it counts as looking for 100 ms."""
    session.agent.load(bpf, exasock, streams, guest_streams, guest_native)
    usual = session.agent.call(exasock.parameter, name="tcp_hold_us", value=100_000)
    defer(session.agent.call, exasock.parameter, name="tcp_hold_us", value=usual)
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    acquaint(compared, standing, standing["a"], standing["peer"])
    yield session.agent
    session.agent.call(guest_native.close_all)


def test_splice_and_tee(hand: Agent) -> None:
    """N10: splice() finds what lies in the ring, at once, and tee() what it moved."""
    told = hand.call(guest_native.splice, a="a", b="peer", port=PORT, seconds=scaled(2), timeout=scaled(10))
    assert told == {"spliced": 500, "again": 500, "teed": 500, "right": True, "gives": ["call"]}


def test_sendfile(hand: Agent) -> None:
    """N10: what sendfile() sends comes after what went past the stack, and before what follows."""
    told = hand.call(
        guest_native.sendfile, a="a", b="peer", port=PORT + 1, seconds=scaled(2), timeout=scaled(10)
    )
    assert told == {"past": True, "sent": 700, "right": True}


@pytest.mark.parametrize("name", list(guest_native.OPTIONS))
def test_options_of_the_socket_count_at_once(hand: Agent, name: str) -> None:
    """B7, N10: an option that the kernel serves without asking TCP is set on the kernel's connection."""
    told = hand.call(
        guest_native.option, a="a", b="peer", port=PORT + 2, seconds=scaled(2), name=name, timeout=scaled(10)
    )
    assert told == {"taken": False, "gives": ["call"], "right": True}


def test_killed_by_ss(hand: Agent, session: Session) -> None:
    """N10: ``ss -K`` ends a taken connection as it ends any other, with its bytes unread."""
    hand.call(guest_native.keep, a="a", b="peer", port=PORT + 3, seconds=scaled(2), name="k", size=100)
    killed = session.agent.exec(["ss", "-K", "-Htn", "dport", f"= {PORT + 3}"], netns="a")
    assert str(PORT + 3) in killed.stdout, killed
    told = [hand.call(guest_native.kept_receive, name="k", seconds=scaled(2)) for _ in range(2)]
    assert {"errno": "ECONNABORTED"} in told, told
    hand.call(guest_native.close, name="k")


def test_put_into_a_sockmap(hand: Agent) -> None:
    """B6, N10: a taken connection that is put into a sockmap is handed back for good: its bytes are there, it
    is not taken again, and the sockmap's functions are not built on ours."""
    told = hand.call(
        guest_native.sockmap, a="a", b="peer", port=PORT + 5, seconds=scaled(2), timeout=scaled(10)
    )
    assert told == {"references": -2, "taken": False, "right": True, "again": "ESTALE"}


@pytest.mark.expects("could not be handed back")
def test_reset_at_its_end(hand: Agent, session: Session, defer: Callable[..., None]) -> None:
    """B6: a connection that is shut down while the kernel may not have the memory for its bytes is reset, as
    the kernel does it, and has none of our functions any more."""
    memory = str(guest_native.TCP_MEM)
    usual = session.agent.exec(["cat", memory]).stdout
    hand.call(guest_native.hoard, size=6 << 20, timeout=scaled(30))
    hand.call(guest_native.keep, a="a", b="peer", port=PORT + 6, seconds=scaled(3), name="r", size=40_000)
    defer(session.agent.write_file, memory, usual)
    assert hand.call(guest_native.squeeze, name="r") == {"taken": False, "errno": "EAGAIN"}
    assert hand.call(guest_native.shut, name="r", timeout=scaled(5)) == -2
    session.agent.write_file(memory, usual)
    hand.call(guest_native.close, name="r")


def test_no_memory_to_hand_back(hand: Agent, session: Session, defer: Callable[..., None]) -> None:
    """N9, N10: while the kernel's TCP may not have the memory (tcp_mem), a connection that must be handed
    back waits, and loses nothing: its bytes are all there when there is memory again."""
    memory = str(guest_native.TCP_MEM)
    usual = session.agent.exec(["cat", memory]).stdout
    hand.call(guest_native.hoard, size=6 << 20, timeout=scaled(30))
    hand.call(guest_native.keep, a="a", b="peer", port=PORT + 4, seconds=scaled(3), name="m", size=40_000)
    defer(session.agent.write_file, memory, usual)
    assert hand.call(guest_native.squeeze, name="m") == {"taken": False, "errno": "EAGAIN"}
    session.agent.write_file(memory, usual)
    back = Deadline("the connection is the kernel's again", scaled(2))
    back.wait_until(lambda: hand.call(guest_native.kept_all, name="m") == 40_000, every=0.02)
    hand.call(guest_native.close, name="m")

"""The module is unloaded cleanly, or not at all (B6): nothing in the kernel points into it afterwards.

    card0:0 --- a      lan0 (port)   10.1.0.1/24      what is attached, by hand
    card0:1 --- peer   lan0 (port)   10.1.0.2/24      the other end, the kernel's

The health check after each test is the judge: a call into a module that is gone is an oops.
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

PORT = 7850


@pytest.fixture
def alone(session: Session, place: Callable[[Topology], Placed], compared: Compared) -> Iterator[Agent]:
    """Two namespaces with a port each; only the agent uses the module, which is loaded
    again before what it had set is undone."""
    session.agent.load(bpf, exasock, streams, guest_streams, guest_native)
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    acquaint(compared, standing, standing["a"], standing["peer"])
    session.end_programs()
    session.agent.call(exasock.parameter, name="tcp_hold_us", value=100_000)
    yield session.agent
    session.agent.call(guest_native.close_all)
    session.agent.exec(["modprobe", "exasock"])


def unload(agent: Agent) -> None:
    """As soon as nothing refers to it any more."""
    free = Deadline("nothing refers to the module", scaled(2))
    free.wait_until(lambda: agent.call(exasock.references) == 0, every=0.02)
    agent.exec(["rmmod", "exasock"])


@pytest.mark.expects("exasock")
def test_a_datagram_waits_for_its_neighbour(alone: Agent) -> None:
    """B6: a socket whose datagram waits for its neighbour is freed after the module is gone."""
    alone.call(guest_native.waiting_for_its_neighbour, a="a", nobody="10.1.0.77")
    unload(alone)
    waiting = alone.exec(["ip", "neigh", "show", "10.1.0.77"], netns="a").stdout
    assert "INCOMPLETE" in waiting, waiting
    alone.exec(["ip", "neigh", "flush", "to", "10.1.0.77"], netns="a")
    alone.exec(["ip", "link", "set", "lan0", "down"], netns="a")


@pytest.mark.expects("exasock")
def test_a_child_of_a_connection_that_listened(alone: Agent) -> None:
    """B6: an attached connection that is disconnected and listens has children that are the kernel's."""
    alone.call(guest_native.child, a="a", b="peer", port=PORT, seconds=scaled(2), timeout=scaled(10))
    unload(alone)
    assert alone.call(guest_native.child_exchange, timeout=scaled(5))


@pytest.mark.expects("exasock")
def test_a_thread_inside_a_call(alone: Agent) -> None:
    """B6: while a thread waits in a call of a socket that was attached the module stays; then it can go."""
    alone.call(
        guest_native.wait_inside, a="a", b="peer", port=PORT + 2, seconds=scaled(2), timeout=scaled(10)
    )
    refused = alone.exec(["rmmod", "exasock"], check=False)
    assert refused.code != 0 and "in use" in refused.stderr, refused
    assert alone.call(guest_native.leave_inside, seconds=scaled(2), timeout=scaled(5))
    unload(alone)

"""Sockets are attached while datagrams arrive for them.

    card0:0 --- a      lan0 (port)   10.1.0.1/24     sends numbers, in bursts
    card0:1 --- peer   lan0 (port)   10.1.0.2/24     one socket after the other reads a few of them

What the driver has found and not yet delivered when a socket is attached comes before what it finds then.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.deadline import scaled
from suites.exasock import guest_attaching
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.guest import exasock
from suites.place import Placed
from suites.session import KERNEL, SocketKind
from suites.topology import Topology

ONE, OTHER = 7001, 7002
#: Of the guest's time: the processors must meet at a moment that lasts some microseconds. With a module that
#: did not see to it so long was enough.
SECONDS = {KERNEL.name: 3.0, SPINNING.name: 20.0}


@pytest.mark.parametrize("kind", (KERNEL, SPINNING), ids=lambda kind: kind.name)
def test_attached_while_datagrams_arrive(
    place: Callable[[Topology], Placed],
    compared: Compared,
    kind: SocketKind,
    defer: Callable[..., None],
) -> None:
    """N10: whenever a socket is attached, it has what comes in the order in which it was sent."""
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    acquaint(compared, standing, standing["a"], standing["peer"])
    sender, reader = (compared.programs(kind).worker(name) for name in ("bursts", "turns"))
    for worker in (sender, reader):
        worker.load(guest_attaching)
    to = {"netns": "peer", "address": "10.1.0.2", "port": OTHER}
    defer(sender.call, guest_attaching.end)
    sender.call(guest_attaching.start, source={"netns": "a", "address": "10.1.0.1", "port": ONE}, to=to)
    told = reader.call(
        guest_attaching.read_by_turns,
        at=to,
        sockets_at_least=20,
        seconds=SECONDS[kind.name],
        patience=scaled(1),
        timeout=SECONDS[kind.name] + scaled(6),
    )
    assert (told["disordered"], told["silent"]) == ([], 0), told
    if kind is SPINNING:
        (one,) = [one for one in compared.session.agent.call(exasock.accelerated) if one["local"][1] == ONE]
        assert one["tx_fast"] > told["sockets"]

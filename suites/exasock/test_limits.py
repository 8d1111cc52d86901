"""What is limited (N9): sockets, slots of a ring, transmit memory. Where there is no room the kernel's path
is taken, the reason is counted, and the fast path is found again when room returns.

    card0:0 --- initial namespace   lan0 (port)   10.1.0.1/24
    card0:1 --- peer                lan0 (port)   10.1.0.2/24
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.deadline import Deadline, scaled
from lab.guest.client import Agent
from suites.driver import guest_exanic
from suites.exasock import guest_calls
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.conftest import Examined
from suites.exasock.ends import acquaint, peer, subject
from suites.exasock.live import ONE, OTHER, Json, Live, lively
from suites.exasock.steps import data, do, look, opened
from suites.exasock.tcp_pair import PORT, Tcp
from suites.guest import exasock, streams
from suites.place import Placed
from suites.topology import INITIAL, Topology

Place = Callable[[Topology], Placed]
#: Calls after which a refused socket is asked for again, at first (libexasock/entry.c).
RETRY = 64
#: Slots of a ring that 1,400 bytes take, with their headers.
SPAN = 3


@pytest.fixture
def live(place: Place, compared: Compared) -> Iterator[Live]:
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    yield from lively(SPINNING, compared, standing)


def test_more_sockets_than_allowed(live: Live, defer: Callable[..., None]) -> None:
    """With max_sockets reached a socket is the kernel's, as any, and `limit` is counted; with room again it
    is accelerated after a while, by itself."""
    before = live.agent.call(exasock.refused, netns="a").get("limit", 0)
    most = live.agent.call(exasock.parameter, name="max_sockets", value=2)
    defer(live.agent.call, exasock.parameter, name="max_sockets", value=most)
    a = live.standing["a"]
    live.works(*[one for one in opened("c", a, 7003) if one["op"] != "recv"])
    live.do(look("c"))
    for number in range(4):
        live.works(do("sendto", "c", data=data(number), to=["10.1.0.2", OTHER]), do("recvfrom", "b"))
    assert live.agent.call(exasock.refused, netns="a").get("limit", 0) > before
    assert len(live.agent.call(exasock.accelerated)) == 2
    live.agent.call(exasock.parameter, name="max_sockets", value=most)
    live.do(*[look("c")] * (RETRY + 2))
    assert len(live.agent.call(exasock.accelerated)) == 3
    live.exchange(first=50)


def test_a_ring_that_is_full(live: Live) -> None:
    """A burst of more than the ring holds: what finds no room goes to the kernel, `full`, and all that is
    held with it, so that a reader has everything in order; after that the ring is used again."""
    many = live.agent.call(exasock.info)["slots"] // SPAN + 4
    # by one call: what is held waits a tenth of a second at most
    burst = do("sendmmsg", "a", many=[data(number, 1400) for number in range(many)], to=["10.1.0.2", OTHER])
    seen = Deadline("a burst within a tenth of a second", scaled(2))
    while True:
        told = live.do(look("a"), look("b"), burst, *[do("recvfrom", "b")] * many)
        assert [one["ok"][0]["seed"] for one in told[3:]] == list(range(many))
        if live.counters("peer", OTHER)["rx_kernel"].get("full", 0) > 0:
            break
        seen.check()
    live.fast("peer", OTHER, lambda: live.exchange(first=200), sent=4)


def take_all_memory(agent: Agent) -> None:
    """No transmit memory for sockets any more; what earlier ones left is kept for a moment."""
    agent.call(guest_exanic.refuse_buffers, on=True)
    gone = Deadline("the buffers of earlier sockets are gone", scaled(5))
    gone.wait_until(lambda: agent.call(guest_exanic.direct_buffers) == 0, every=0.2)


def test_no_transmit_memory(place: Place, compared: Compared, defer: Callable[..., None]) -> None:
    """There is no transmit memory: sockets send through the kernel, `memory`, in order; when there is some
    again they overtake again, by themselves."""
    standing = place(Topology("the card's own", (subject(INITIAL, "port"), peer("port"))))
    one, other = standing[INITIAL], standing["peer"]
    acquaint(compared, standing, one, other)
    agent = compared.session.agent
    agent.load(guest_exanic)
    defer(lambda: agent.call(guest_exanic.refuse_buffers, on=False))
    take_all_memory(agent)
    worker = compared.programs(SPINNING).worker("program")
    compared.soiled = True
    first = [*opened("a", one, ONE), *opened("b", other, OTHER)]
    exchange = []
    for number in range(RETRY + 2):
        exchange += [do("sendto", "a", data=data(number), to=[other.ip, OTHER]), do("recvfrom", "b")]

    def run(steps: list[Json]) -> list[Json]:
        told: list[Json] = worker.call(
            guest_calls.run, program="p", steps=steps, keep=True, timeout=scaled(6)
        )
        return told

    def counted() -> Json:
        found = [one for one in agent.call(exasock.accelerated) if one["local"][1] == ONE]
        assert len(found) == 1, found
        return dict(found[0])

    worker.load(guest_calls)
    run(first)
    told = run(exchange)
    assert [got["ok"][0]["seed"] for got in told[1::2]] == list(range(RETRY + 2))
    kernel = counted()["tx_kernel"]
    assert kernel.pop("memory") > 0 and set(kernel) <= {"skipped"}, kernel
    assert counted()["tx_fast"] == 0
    agent.call(guest_exanic.refuse_buffers, on=False)

    def fast() -> bool:
        run(exchange)
        return int(counted()["tx_fast"]) > 0

    Deadline("sockets send past the kernel again", scaled(3)).wait_until(fast, every=0.1)
    worker.call(guest_calls.close, program="p")
    compared.soiled = False


def test_no_transmit_memory_for_connections(
    place: Place, compared: Compared, defer: Callable[..., None], examined: Examined
) -> None:
    """The same for TCP, of many connections: none is stuck, each byte is right, `memory` brings them home;
    when there is some again they are past the stack again, by themselves."""
    standing = place(Topology("the card's own", (subject(INITIAL, "port"), peer("port"))))
    acquaint(compared, standing, standing[INITIAL], standing["peer"])
    agent = compared.session.agent
    agent.load(guest_exanic, streams)
    defer(lambda: agent.call(guest_exanic.refuse_buffers, on=False))
    take_all_memory(agent)
    compared.soiled = True
    tcp = Tcp(compared.session, compared, standing, (SPINNING, SPINNING))
    labels = [f"c{number}" for number in range(6)]
    for number, label in enumerate(labels):
        tcp.open(label, PORT + number, a=None)

    def ours() -> list[Json]:
        """The ends whose port has no memory."""
        return [one for one in tcp.attached() if one["peer"][1] in range(PORT, PORT + len(labels))]

    found = Deadline("connections go home for memory", scaled(3))
    while not ours() or not all(one["gives"].get("memory") for one in ours()):
        for label in labels:
            tcp.rally(20, label)
        found.check()
    assert [one["tx_bytes"] for one in ours()] == [0] * len(labels)
    agent.call(guest_exanic.refuse_buffers, on=False)
    again = Deadline("connections send past the kernel again", scaled(3))
    while not all(one["tx_bytes"] for one in ours()):
        for label in labels:
            tcp.rally(20, label)
        again.check()
    tcp.close()
    compared.soiled = False

"""Volumes over a connection whose world does not stand still: every byte, by hash, both ways at once.

    card0:0 --- a      lan0 (port)   10.1.0.1/24      clients
    card0:1 --- peer   lan0 (port)   10.1.0.2/24      servers

Which thing happens next, to whom, is by the seed. ``--megabytes N`` each way, or ``make soak``, for more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.deadline import Deadline, scaled
from suites.exasock import guest_tcp, guest_volume
from suites.exasock.compare import Compared
from suites.exasock.conftest import Examined
from suites.exasock.ends import acquaint
from suites.exasock.program_pairs import BRIEFLY
from suites.exasock.tcp_pair import PORT, SIDES, Tcp, made
from suites.exasock.test_tcp import IMPAIRMENTS
from suites.guest import iproute, namespaces
from suites.place import Placed
from suites.session import KERNEL, Session
from suites.topology import Topology

pytestmark = [
    pytest.mark.usefixtures("examined"),
    pytest.mark.may_not_act("each rule is there for a moment only"),
    pytest.mark.full("each of these things happens in a test of core by itself"),
]
Place = Callable[[Topology], Placed]
Defer = Callable[..., None]
Json = dict[str, Any]
ENDS = {"a": "card0:0", "peer": "card0:1"}
PEERS = {"a": "10.1.0.2", "peer": "10.1.0.1"}


@dataclass
class World:
    """What happens around a connection, one thing after the other."""

    tcp: Tcp
    chance: random.Random
    told: list[str] = field(default_factory=list)

    def happens(self) -> None:
        """The next thing, begun and over."""
        what = self.chance.choice(THINGS)
        netns = self.chance.choice(list(ENDS))
        self.told.append(f"{what.__name__} {netns}")
        what(self, netns)

    def run(self, *argv: str, netns: str | None = None) -> None:
        self.tcp.session.agent.exec(list(argv), netns=netns)

    def change(self, netns: str, *lines: str) -> None:
        self.tcp.session.agent.call(iproute.run, netns=netns, lines=list(lines))

    def goes_on(self) -> None:
        """Bytes have come, or all is done, since this was asked: both directions are alive."""
        before = self.progress()

        def moved() -> bool:
            ends = zip(self.progress(), before, strict=True)
            return all(one["over"] or one["received"] > old["received"] for one, old in ends)

        # now and then: who asks all the time takes the processor from those who move the bytes
        Deadline("bytes arrive", scaled(8)).wait_until(moved, every=0.05)

    def progress(self) -> list[Json]:
        return [one.call(guest_volume.progress, name="v") for one in self.tcp.ends]


def bad_wire(world: World, netns: str) -> None:
    kind = world.chance.choice(list(IMPAIRMENTS))
    world.told[-1] += f" {kind}"
    world.tcp.session.control.rules(ENDS[netns], IMPAIRMENTS[kind])
    world.goes_on()
    world.tcp.session.control.rules(ENDS[netns], [])


def cable_pulled(world: World, netns: str) -> None:
    control = world.tcp.session.control
    call = world.tcp.session.agent.call
    for up in (False, True):
        control.link(ENDS[netns], up)
        call(namespaces.await_carrier, name=netns, device="lan0", carrier=up)
    world.goes_on()


def device_down(world: World, netns: str) -> None:
    world.change(netns, "link set dev lan0 down", "link set dev lan0 up")
    call = world.tcp.session.agent.call
    call(namespaces.await_carrier, name=netns, device="lan0", carrier=True)
    world.goes_on()


def other_route(world: World, netns: str) -> None:
    world.change(netns, f"route add {PEERS[netns]}/32 dev lan0")
    world.goes_on()
    world.change(netns, f"route del {PEERS[netns]}/32 dev lan0")


def neighbour_forgotten(world: World, netns: str) -> None:
    world.change(netns, f"neigh del {PEERS[netns]} dev lan0")
    world.goes_on()


def filtered(world: World, netns: str) -> None:
    world.run("nft", "add", "table", "ip", "t", netns=netns)
    hook = "{ type filter hook input priority 0; }"
    world.run("nft", "add", "chain", "ip", "t", "c", hook, netns=netns)
    world.goes_on()
    world.run("nft", "delete", "table", "ip", "t", netns=netns)


def smaller_mtu(world: World, _netns: str) -> None:
    for size in (1000, 1500):
        for netns in ENDS:  # of one side alone it would be a black hole for the other's segments
            world.change(netns, f"link set dev lan0 mtu {size}")
        world.goes_on()


def stopped(world: World, netns: str) -> None:
    pid = str((world.tcp.client if netns == "a" else world.tcp.server).hello.pid)
    world.run("sh", "-ec", f"kill -STOP {pid}; sleep 0.5; kill -CONT {pid}")
    world.goes_on()


def peace(world: World, _netns: str) -> None:
    acquaint(world.tcp.compared, world.tcp.standing, world.tcp.standing["a"], world.tcp.standing["peer"])
    world.goes_on()


THINGS = (
    bad_wire, bad_wire, cable_pulled, device_down, other_route, neighbour_forgotten, filtered, smaller_mtu,
    stopped, peace,
)  # fmt: skip


@pytest.fixture(params=list(SIDES))
def tcp(request: pytest.FixtureRequest, session: Session, place: Place, compared: Compared) -> Iterator[Tcp]:
    """Accelerated on one side, the other, both; by processes that sleep when they have looked for long."""
    client, server = (BRIEFLY if kind is not KERNEL else KERNEL for kind in SIDES[request.param])
    yield from made(session, place, compared, (client, server))
    session.end_programs(BRIEFLY)


def past_the_stack(tcp: Tcp) -> int:
    """Bytes, of all ends, both ways."""
    return tcp.total("tx_bytes") + tcp.total("rx_bytes")


@pytest.mark.expects("bad", "crc", "error", "drop", "[Ll]ink", "carrier")
def test_bytes_through_everything_that_can_happen(
    tcp: Tcp, examined: Examined, defer: Defer, request: pytest.FixtureRequest,
    record_property: Callable[[str, Any], None],
) -> None:  # fmt: skip
    """N8, N9, N10: loss, duplication, reordering, corruption, delay, pulled cables, devices down, routes,
    neighbours, filters and MTUs that change, ends that are stopped; sequence numbers wrap meanwhile: every
    byte once and in order. When all is peaceful again it goes past the stack again."""
    size = int(float(request.config.getoption("--megabytes", default=2)) * (1 << 20)) // guest_volume.PIECE
    size *= guest_volume.PIECE
    seed = int(request.config.getoption("--first-seed", default=1))
    examined.restored = examined.gaps = True
    for end in ENDS.values():
        defer(tcp.session.control.rules, end, [])
        defer(tcp.session.control.link, end, True)
    at = {"a": (1 << 32) - size // 2, "peer": (1 << 32) - size // 3}
    ends = {"a": ["10.1.0.1", 7600], "peer": ["10.1.0.2", PORT]}
    for worker, here, there in ((tcp.client, "a", "peer"), (tcp.server, "peer", "a")):
        worker.load(guest_volume)
        worker.call(
            guest_tcp.restore, label="c", netns=here, local=ends[here], peer=ends[there], send=at[here],
            receive=at[there],
        )  # fmt: skip
    tcp.warm()
    before = past_the_stack(tcp)
    up, down = [seed * 2, size], [seed * 2 + 1, size]
    tcp.client.call(guest_volume.start, label="c", name="v", send=up, receive=down, first=True)
    tcp.server.call(guest_volume.start, label="c", name="v", send=down, receive=up, first=False)
    world = World(tcp, random.Random(seed))
    while not all(one["over"] for one in world.progress()):
        world.happens()
    record_property("happened", f"seed {seed}: {'; '.join(world.told)}")
    for worker, came in ((tcp.client, down), (tcp.server, up)):
        told = worker.call(guest_volume.finish, name="v", seconds=1)
        right: Json = {"sent": size, "received": size, "differs": None, "errors": []}
        assert {name: told[name] for name in right} == right, world.told
        assert told["hash"] == guest_volume.expected(*came)
    # How much of it is the world's affair: who is pressed from both sides is never quiet.
    record_property("past_the_stack", past_the_stack(tcp) - before)
    acquaint(tcp.compared, tcp.standing, tcp.standing["a"], tcp.standing["peer"])
    before = past_the_stack(tcp)
    again = Deadline("messages go past the stack again", scaled(3))
    while past_the_stack(tcp) - before < 10_000:
        tcp.rally(20)
        again.check()

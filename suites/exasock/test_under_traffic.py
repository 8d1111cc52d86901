"""The world changes while datagrams flow without a pause (N8): none comes twice or out of order, none is lost
that the kernel's sockets would not lose, and afterwards they are past the kernel again.

    card0:0 --- a      lan0 (port)   10.1.0.1/24     sends numbers, as fast as it can
    card0:1 --- peer   lan0 (port)   10.1.0.2/24     takes them, in the same thread

The same body through kernel sockets: where these lose nothing, neither may the accelerated ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.deadline import Deadline, scaled
from lab.guest.client import Agent
from suites.exasock import guest_stream
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.guest import exasock, iproute, namespaces
from suites.place import Placed
from suites.session import KERNEL, SocketKind
from suites.topology import Topology

KINDS = (KERNEL, SPINNING)
ONE, OTHER = 7001, 7002
#: Datagrams: the stream is under way again when so many more have come.
SOME = 200
#: Seconds between two questions: the thread that answers disturbs the one that streams.
ASKED = 0.2
NO_FAULT: dict[str, Any] = {"missing": [], "late": [], "twice": [], "refused": {}}
OTHER_MAC = "02:00:00:00:bb:02"


@dataclass
class Flowing:
    """A stream of one kind of sockets, and the namespaces it is in."""

    compared: Compared
    kind: SocketKind
    standing: Placed
    #: What to undo when the test ends, however it does.
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def agent(self) -> Agent:
        return self.compared.session.agent

    @property
    def worker(self) -> Agent:
        return self.compared.programs(self.kind).worker("stream")

    def start(self, **given: Any) -> None:
        source = {"netns": "a", "address": "10.1.0.1", "port": ONE}
        to = {"netns": "peer", "address": "10.1.0.2", "port": OTHER}
        self.worker.load(guest_stream)
        self.worker.call(guest_stream.start, name="s", source=source, to=to, **given)

    def progress(self) -> dict[str, int]:
        told: dict[str, int] = self.worker.call(guest_stream.progress, name="s")
        return told

    def goes_on(self) -> None:
        """What is sent from now on arrives."""
        wanted = self.progress()["sent"] + SOME
        limit = Deadline(f"{SOME} more datagrams arrive", scaled(3))
        limit.wait_until(lambda: self.progress()["newest"] >= wanted, every=ASKED)

    def counters(self) -> dict[str, int]:
        """Past the kernel so far: sent by a, taken by peer."""
        told = {one["local"][1]: one for one in self.agent.call(exasock.accelerated)}
        none: dict[str, int] = {"tx_fast": 0, "claimed": 0}
        return {
            "sent": told.get(ONE, none)["tx_fast"],
            "claimed": told.get(OTHER, none)["claimed"],
        }

    def is_fast(self) -> None:
        """Datagrams are sent, and taken, past the kernel."""
        self.goes_on()
        if self.kind is KERNEL:
            return
        before = self.counters()
        limit = Deadline("datagrams go past the kernel both ways", scaled(3))

        def grown() -> bool:
            return all(count > before[way] + SOME for way, count in self.counters().items())

        limit.wait_until(grown, every=ASKED)

    def change(self, netns: str, *lines: str) -> None:
        self.agent.call(iproute.run, netns=netns, lines=list(lines))

    def acquaint(self) -> None:
        acquaint(self.compared, self.standing, self.standing["a"], self.standing["peer"])

    def end(self) -> dict[str, Any]:
        seconds = scaled(1)
        told: dict[str, Any] = self.worker.call(
            guest_stream.end, name="s", seconds=seconds, timeout=seconds + scaled(1)
        )
        return told


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def flowing(
    request: pytest.FixtureRequest, place: Callable[[Topology], Placed], compared: Compared
) -> Iterator[Flowing]:
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    flowing = Flowing(compared, request.param, standing)
    flowing.acquaint()
    compared.soiled = True
    flowing.start()
    yield flowing
    for step in reversed(flowing.undo):
        step()
    flowing.worker.call(guest_stream.close_all)
    compared.soiled = False


# --- what changes -------------------------------------------------------------------------------------------


def addresses(flowing: Flowing) -> None:
    """Other addresses come and go, on both sides."""
    flowing.change("a", "addr add 10.1.0.3/24 dev lan0")
    flowing.change("peer", "addr add 10.1.0.4/24 dev lan0")
    flowing.goes_on()
    flowing.change("a", "addr del 10.1.0.3/24 dev lan0")
    flowing.change("peer", "addr del 10.1.0.4/24 dev lan0")


def routes(flowing: Flowing) -> None:
    """A better route to the same place comes, is replaced, and goes; a rule comes and goes."""
    flowing.change("a", "route add 10.1.0.2/32 dev lan0")
    flowing.goes_on()
    flowing.change("a", "route replace 10.1.0.2/32 dev lan0 src 10.1.0.1 metric 5")
    flowing.change("a", "rule add to 10.1.0.2 table main priority 50")
    flowing.goes_on()
    flowing.change("a", "route flush 10.1.0.2/32", "rule del priority 50")


def filters(flowing: Flowing) -> None:
    """Rules of netfilter, which let everything pass, on both sides."""
    run = flowing.agent.exec
    for netns, hook in (("a", "output"), ("peer", "input")):
        run(["nft", "add", "table", "ip", "t"], netns=netns)
        run(
            ["nft", "add", "chain", "ip", "t", "c", f"{{ type filter hook {hook} priority 0; }}"], netns=netns
        )
        flowing.goes_on()
    for netns in ("a", "peer"):
        run(["nft", "delete", "table", "ip", "t"], netns=netns)


def captures(flowing: Flowing) -> None:
    """tcpdump starts and ends, on both sides."""
    for netns in ("a", "peer"):
        argv = ["tcpdump", "-n", "-i", "lan0", "-w", "/dev/null", "udp"]
        dump = flowing.agent.spawn(argv, netns=netns)
        flowing.undo.append(dump.stop)
        dump.expect("listening on")
        flowing.goes_on()
        dump.stop()


def mtu(flowing: Flowing) -> None:
    """Smaller and larger, with datagrams that fit both."""
    for netns in ("a", "peer"):
        for size in (1400, 1500):
            flowing.change(netns, f"link set dev lan0 mtu {size}")
            flowing.goes_on()


def names(flowing: Flowing) -> None:
    """The devices get other names, and their own again, while they are up."""
    for netns in ("a", "peer"):
        for name, to in (("lan0", "lan9"), ("lan9", "lan0")):
            flowing.change(netns, f"link set dev {name} name {to}")
            flowing.goes_on()


def neighbour(flowing: Flowing) -> None:
    """The peer's MAC address is another one, and then its own again; what knows the old one is lost."""
    own = flowing.standing.mac(flowing.standing["peer"])
    for mac in (OTHER_MAC, own):
        flowing.change("peer", f"link set dev lan0 address {mac}")
        flowing.change("a", f"neigh replace 10.1.0.2 lladdr {mac} dev lan0 nud reachable")
        flowing.goes_on()


def link(flowing: Flowing) -> None:
    """Down and up, the sender's and then the receiver's."""
    for netns in ("a", "peer"):
        flowing.change(netns, "link set dev lan0 down")
        flowing.change(netns, "link set dev lan0 up")
        flowing.agent.call(namespaces.await_carrier, name=netns, device="lan0", carrier=True)
        flowing.acquaint()
        flowing.goes_on()


def place_of_the_port(flowing: Flowing) -> None:
    """The sender's port goes to another namespace, and comes back."""
    call = flowing.agent.call
    call(namespaces.create, specs=[{"name": "third"}])
    flowing.undo.append(lambda: call(namespaces.destroy, names=["third"], missing_ok=True))
    port = flowing.compared.session.devices["card0:0"]
    spec = {"kind": "port", "name": "lan0", "on": port, "addresses": ["10.1.0.1/24"]}
    before = flowing.progress()["refused"]
    call(namespaces.give_back, name="a", device="lan0")
    call(namespaces.lend, name="third", device=spec)
    limit = Deadline("a send is refused", scaled(2))
    limit.wait_until(lambda: flowing.progress()["refused"] > before)
    call(namespaces.give_back, name="third", device="lan0")
    call(namespaces.lend, name="a", device=spec)
    call(namespaces.await_carrier, name="a", device="lan0", carrier=True)
    flowing.acquaint()


HARMLESS = (addresses, routes, filters, captures, mtu, names)
HARMFUL = (neighbour, link, place_of_the_port)
Change = Callable[[Flowing], None]


@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.__name__)
def test_nothing_is_lost(flowing: Flowing, change: Change) -> None:
    """N8, N10: what takes no datagram from the kernel's sockets takes none from accelerated ones."""
    flowing.is_fast()
    change(flowing)
    flowing.is_fast()
    told = flowing.end()
    assert {what: told[what] for what in told if what != "sent"} == NO_FAULT


@pytest.mark.parametrize("change", HARMFUL, ids=lambda change: change.__name__)
def test_only_what_the_change_takes_is_lost(flowing: Flowing, change: Change) -> None:
    """N8, N10: what is sent while there is no way is lost or refused; what arrived before stays, what is sent
    afterwards arrives in order, and nothing comes twice."""
    flowing.is_fast()
    arrived = flowing.progress()["newest"]
    change(flowing)
    sent = flowing.progress()["sent"]
    flowing.is_fast()
    told = flowing.end()
    assert told["twice"] == []
    # Of late ones too: what waits for its neighbour's address is sent while others are, which need not wait.
    assert [number for number in told["missing"] + told["late"] if not arrived < number < sent] == []

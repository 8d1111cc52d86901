"""A process with clients and one with servers, between two ports of the card: what tests of TCP drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.deadline import Deadline, scaled
from lab.guest.client import Agent
from suites.exasock import guest_tcp
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.guest import streams
from suites.place import Placed
from suites.session import KERNEL, Session, SocketKind
from suites.topology import Topology

Json = dict[str, Any]
PORT = 7400
#: Who is accelerated: clients, servers.
SIDES = {
    "client": (SPINNING, KERNEL),
    "server": (KERNEL, SPINNING),
    "both": (SPINNING, SPINNING),
}
KINDS = {"kernel": (KERNEL, KERNEL), **SIDES}


@dataclass
class Tcp:
    """A process with clients and one with servers, of one kind of sockets each."""

    session: Session
    compared: Compared
    standing: Placed
    kinds: tuple[SocketKind, SocketKind]
    client: Agent = field(init=False)
    server: Agent = field(init=False)

    def __post_init__(self) -> None:
        self.session.agent.load(streams)
        self.client = self.compared.programs(self.kinds[0]).worker("clients")
        self.server = self.compared.programs(self.kinds[1]).worker("servers")
        for worker in (self.client, self.server):
            worker.load(guest_tcp)

    @property
    def ends(self) -> tuple[Agent, Agent]:
        return self.client, self.server

    def open(
        self, label: str = "c", port: int = PORT, a: str | None = "a", b: str = "peer", **given: Any
    ) -> None:
        """A connection from ``a`` (None: the initial namespace) to ``b``, whose both ends are ``label``."""
        self.server.call(guest_tcp.listen, label="l" + label, netns=b, address="10.1.0.2", port=port)
        self.client.call(guest_tcp.connect, label=label, netns=a, address="10.1.0.2", port=port, **given)
        accepted = {name: value for name, value in given.items() if name != "local"}
        self.server.call(guest_tcp.accept, label=label, listener="l" + label, **accepted)
        self.server.call(guest_tcp.close, label="l" + label)

    def transfer(self, up: int, down: int, label: str = "c", seed: int = 1, **given: Any) -> None:
        """``up`` bytes to the server and ``down`` to the client, at once; every one of them is right."""
        self.begin(up, down, label, seed, **given)
        self.end(up, down, label)

    def begin(self, up: int, down: int, label: str = "c", seed: int = 1, **given: Any) -> None:
        there, back = [seed, up], [seed + 7, down]
        self.client.call(guest_tcp.start, label=label, name=label, send=there, receive=back, **given)
        self.server.call(guest_tcp.start, label=label, name=label, send=back, receive=there, **given)

    def end(self, up: int, down: int, label: str = "c") -> None:
        for worker, sent, received in ((self.client, up, down), (self.server, down, up)):
            told = worker.call(guest_tcp.finish, name=label, timeout=scaled(20))
            told.pop("hash", None)
            assert told == {"sent": sent, "received": received, "differs": None}, told

    def rally(self, count: int = 60, label: str = "c", seed: int = 3, sizes: tuple[int, ...] = (64,)) -> None:
        """Messages by turns."""
        given: Json = {"label": label, "name": label, "seed": seed, "count": count, "sizes": list(sizes)}
        self.server.call(guest_tcp.start_rally, **given, first=False)
        self.client.call(guest_tcp.start_rally, **given, first=True)
        for worker in self.ends:
            told = worker.call(guest_tcp.finish, name=label, timeout=scaled(20))
            assert told == {"done": count}, told

    def warm(self, label: str = "c") -> None:
        """Messages by turns until every accelerated end has been taken, as it will be when it is quiet, and
        has moved bytes past the stack both ways."""
        deadline = Deadline("every accelerated end is taken", scaled(2))
        while True:
            self.rally(20, label)
            told = self.attached()
            moved = all(one["takes"] and one["tx_bytes"] and one["rx_bytes"] for one in told)
            if moved and len(told) >= self.accelerated_ends():
                return
            deadline.check()

    def attached(self, netns: str | None = None) -> list[Json]:
        told: list[Json] = self.session.agent.call(streams.attached, netns=netns, everything=netns is None)
        return [one for one in told if one["local"][1]]

    def total(self, name: str) -> int:
        return sum(one[name] for one in self.attached())

    def reasons(self, netns: str) -> Json:
        """Why its connections went home, or were not taken."""
        found: Json = {}
        for one in self.attached(netns):
            for reason, count in (*one["gives"].items(), *one["refused"].items()):
                found[reason] = found.get(reason, 0) + count
        return found

    def accelerated_ends(self) -> int:
        return sum(kind is not KERNEL for kind in self.kinds)

    def fast(self, least: int = 1) -> None:
        """Every accelerated end was taken, and moved bytes past the stack both ways."""
        told = self.attached()
        assert len(told) >= self.accelerated_ends(), told
        for one in told:
            assert one["takes"] and one["tx_bytes"] >= least and one["rx_bytes"] >= least, str(one)

    def close(self) -> None:
        for worker in self.ends:
            worker.call(guest_tcp.close_all)


def _tcp(
    session: Session,
    place: Callable[[Topology], Placed],
    compared: Compared,
    kinds: tuple[SocketKind, SocketKind],
) -> Tcp:
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    acquaint(compared, standing, standing["a"], standing["peer"])
    return Tcp(session, compared, standing, kinds)


def made(
    session: Session,
    place: Callable[[Topology], Placed],
    compared: Compared,
    kinds: tuple[SocketKind, SocketKind],
) -> Iterator[Tcp]:
    """What a fixture yields: both ends of these kinds, acquainted; afterwards all is closed."""
    tcp = _tcp(session, place, compared, kinds)
    compared.soiled = True
    yield tcp
    tcp.close()
    compared.soiled = False


def differential(tcp: Tcp, work: Callable[[], list[Any]]) -> list[Any]:
    """What ``work`` is told when all of it is the kernel's, and through ``tcp``: the same."""
    kinds = tcp.kinds
    results = []
    for chosen in ((KERNEL, KERNEL), kinds):
        tcp.kinds = chosen
        tcp.__post_init__()
        results.append(work())
    assert results[0] == results[1]
    return results[1]

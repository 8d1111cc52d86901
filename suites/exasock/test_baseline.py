"""What the vendor's accelerator does in namespaces, row by row of its measured table: here it must be right.

    card0:0 -+- init  lan5  vlan 5   10.1.0.1     the same addresses in the initial namespace and in a,
             +- a     lan6  vlan 6   10.1.0.1     and the same in their peers
    card0:1 -+- p     lan5  vlan 5   10.1.0.2
             +- q     lan6  vlan 6   10.1.0.2

Each row ran unaccelerated, lost its datagrams, or delivered them into the wrong namespace. (The rows about
/dev/exanicN, captures and interface numbers are in ``suites/driver/test_access.py``.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from suites.guest import exasock, iproute
from suites.oracle import Oracle
from suites.outside import Outside
from suites.place import Placed
from suites.session import KERNEL, Programs, Session, SocketKind
from suites.topology import INITIAL, Device, Namespace, Topology
from suites.traffic import PORT, Traffic

Place = Callable[[Topology], Placed]


def lan(name: str, port: int, vid: int, host: int) -> Namespace:
    device = Device("vlan", f"lan{vid}", f"card0:{port}", vid=vid, addresses=(f"10.1.0.{host}/24",))
    return Namespace(name, (device,))


TWICE = Topology(
    "the same addresses twice",
    (lan(INITIAL, 0, 5, 1), lan("p", 1, 5, 2), lan("a", 0, 6, 1), lan("q", 1, 6, 2)),
)


class Row:
    """The namespaces, and what the rows ask of them."""

    def __init__(self, session: Session, standing: Placed, traffic: Traffic, kind: SocketKind) -> None:
        self.session, self.traffic, self.kind = session, traffic, kind
        self.initial, self.p = standing[INITIAL], standing["p"]
        self.a, self.q = standing["a"], standing["q"]
        self.standing = standing

    def fast(self, *namespaces: Namespace) -> None:
        """Servers in these have answered past the kernel, if their sockets are of the kind that does."""
        for namespace in namespaces if self.kind is not KERNEL else ():
            told: list[dict[str, Any]] = self.session.agent.call(
                exasock.accelerated, netns=namespace.netns, everything=False
            )
            assert sum(one["tx_fast"] for one in told) > 0, (namespace.name, told)


@pytest.fixture
def row(place: Place, session: Session, traffic: Traffic, sockets: SocketKind) -> Row:
    return Row(session, place(TWICE), traffic, sockets)


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_initial_namespace(row: Row, kind: str) -> None:
    """(vendor: accelerated, correct)"""
    row.traffic.serve(kind, row.initial, row.p)
    row.traffic.exactly_once(kind, [(row.initial, row.p), (row.p, row.initial)], count=20)
    if kind == "udp":
        row.fast(row.initial, row.p)


def test_udp_server_elsewhere(row: Row) -> None:
    """N1, N2 (vendor: says accelerated, receives, replies silently lost)"""
    row.traffic.serve("udp", row.a)
    row.traffic.exactly_once("udp", [(row.q, row.a)], count=20)
    row.fast(row.a)


def test_udp_server_on_every_address_elsewhere(row: Row) -> None:
    """N2 (vendor: receives; send fails with Network is unreachable)"""
    row.traffic.serve("udp", row.a, address="0.0.0.0")
    flow = row.traffic.flow("udp", row.q, row.a)
    row.traffic.exchange([flow], count=20).check()
    row.fast(row.a)


def test_udp_client_elsewhere(row: Row) -> None:
    """N2 (vendor: says accelerated; sends silently lost)"""
    row.traffic.serve("udp", row.q)
    row.traffic.exactly_once("udp", [(row.a, row.q)], count=20)


def test_tcp_elsewhere(row: Row) -> None:
    """N2 (vendor: the client silently unaccelerated; the server's peer is refused after 7 s)"""
    row.traffic.serve("tcp", row.a, row.q)
    row.traffic.exactly_once("tcp", [(row.a, row.q), (row.q, row.a)], count=20)


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_same_addresses_at_once(row: Row, wire: Outside, kind: str) -> None:
    """N3, N4 (vendor: frames with the other namespace's neighbour's MAC; TCP connects time out; of two
    sockets with one address and port one receives and never replies)"""
    everyone = (row.initial, row.p, row.a, row.q)
    row.traffic.serve(kind, *everyone)
    pairs = [(row.initial, row.p), (row.a, row.q)]
    both = pairs + [(two, one) for one, two in pairs]
    row.traffic.exactly_once(kind, both, count=20, source_port=4321)
    if kind == "udp":
        row.fast(*everyone)
    oracle: Oracle = row.standing.oracle()
    for flow in row.traffic.flows:
        oracle.flow(flow.number, flow.source, *flow.targets)
    for end in ("card0:0", "card0:1"):
        assert oracle.leaks(end, wire.captured(end)) == []


def test_peer_not_yet_resolved(row: Row) -> None:
    """N2, N3 (vendor: the first datagram is delivered into the wrong namespace)"""
    row.traffic.serve("udp", row.p, row.q)
    row.traffic.exactly_once("udp", [(row.initial, row.p)], count=5)
    for namespace in (row.a, row.q):
        line = f"neigh flush dev {namespace.device().name}"
        row.session.agent.call(iproute.run, netns=namespace.netns, lines=[line])
    row.traffic.exactly_once("udp", [(row.a, row.q)], count=5)


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_plain_socket_beside_an_accelerated_one(row: Row, kind: str) -> None:
    """N3 (vendor: an accelerated socket in the initial namespace starves a plain one with its address and
    port in another)"""
    plain = Traffic(Programs(row.session.agent, KERNEL))
    try:
        row.traffic.serve(kind, row.initial)
        plain.serve(kind, row.a)
        plain.exactly_once(kind, [(row.q, row.a)], count=20)
        row.traffic.exactly_once(kind, [(row.p, row.initial)], count=20)
        plain.exactly_once(kind, [(row.q, row.a)], count=20)
    finally:
        plain.stop()
        plain.programs.close()


def test_two_ports_in_two_other_namespaces(place: Place, traffic: Traffic) -> None:
    """N3 (vendor: nothing gets through)"""
    ports = tuple(
        Namespace(name, (Device("port", "eth0", f"card0:{port}", addresses=(f"10.1.0.{port + 1}/24",)),))
        for port, name in enumerate("ab")
    )
    standing = place(Topology("a port each", ports))
    traffic.serve("udp", *ports)
    one, two = standing["a"], standing["b"]
    traffic.exactly_once("udp", [(one, two), (two, one)], count=20)


@pytest.mark.accelerated
def test_exasock_stat_in_a_namespace(row: Row) -> None:
    """N6 (vendor: fails in a namespace; in the initial one it lists all namespaces' sockets)"""
    row.traffic.serve("udp", row.initial)
    row.traffic.serve("udp", row.a, port=PORT + 1)
    row.traffic.exactly_once("udp", [(row.p, row.initial)], count=1)
    row.traffic.exchange([row.traffic.flow("udp", row.q, row.a)], count=1, port=PORT + 1)
    here = row.session.agent.exec(["exasock-stat"]).stdout
    there = row.session.agent.exec(["exasock-stat"], netns="a").stdout
    assert str(PORT) in here and str(PORT + 1) not in here
    assert str(PORT + 1) in there

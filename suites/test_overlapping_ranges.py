"""The same addresses, ports and even MAC addresses in every namespace: each record reaches just one of them.

    card0:0 -+- n1    eth0  vlan 101   10.0.0.1/24   02:00:00:00:00:01     same MAC in every VLAN
             +- n2    eth0  vlan 102   10.0.0.1/24   02:00:00:00:00:01
             +- ...
    card0:1 -+- p1    eth0  vlan 101   10.0.0.2/24   02:00:00:00:00:02
             +- ...
    switch sw0: card0:0 === card0:1 === tester:t0 (floods with forged combinations)

Also: the two ports of the card, untagged, in two namespaces with the same address and the same ifindex; and
macvlans of one port, where the MAC address alone tells the namespaces apart. What is sent is counted at both
ends (``Traffic.exactly_once``); what left each port is checked by the oracle of the wire.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from suites import tiers
from suites.guest import records
from suites.outside import BROADCAST, Outside
from suites.place import Placed
from suites.topology import Device, Namespace, Topology
from suites.traffic import PORT, Traffic

Place = Callable[[Topology], Placed]
FIRST_VID = 101


def alike(prefix: str, port: str, count: int, host: int) -> tuple[Namespace, ...]:
    """Namespaces with everything the same but the VLAN."""
    address = (f"10.0.0.{host}/24",)
    mac = f"02:00:00:00:00:{host:02x}"
    return tuple(
        Namespace(
            f"{prefix}{number + 1}",
            (Device("vlan", "eth0", port, vid=FIRST_VID + number, mac=mac, addresses=address),),
        )
        for number in range(count)
    )


def macvlans(count: int) -> tuple[Namespace, ...]:
    """Namespaces with the same device name on one port, told apart by their MAC address alone."""
    return tuple(
        Namespace(
            f"m{number + 1}",
            (
                Device(
                    "macvlan",
                    "eth0",
                    "card0:0",
                    mac=f"02:00:00:00:01:{number + 1:02x}",
                    mode="private",
                    addresses=(f"10.0.0.{number + 1}/24",),
                ),
            ),
        )
        for number in range(count)
    )


def no_leaks(standing: Placed, wire: Outside, traffic: Traffic) -> None:
    oracle = standing.oracle()
    for flow in traffic.flows:
        oracle.flow(flow.number, flow.source, *flow.targets)
    assert [leak for end in ("card0:0", "card0:1") for leak in oracle.leaks(end, wire.captured(end))] == []


@pytest.mark.parametrize("count", [2, 16, 128])
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_same_everything_in_every_vlan(
    place: Place, traffic: Traffic, wire: Outside, count: int, kind: str
) -> None:
    """N1, N3, N4: same addresses, ports, MACs, device names and ifindexes in every namespace: each datagram
    and stream reaches the one of its VLAN, counted once, and no frame leaves in another VLAN or port."""
    ours, theirs = alike("n", "card0:0", count, 1), alike("p", "card0:1", count, 2)
    standing = place(Topology(f"overlapping {count}", ours + theirs))
    traffic.serve(kind, *ours, *theirs)
    pairs = list(zip(ours, theirs, strict=True))
    both = pairs + [(two, one) for one, two in pairs]
    traffic.exactly_once(kind, both, count=4, seconds=6)
    no_leaks(standing, wire, traffic)


@pytest.mark.patience("patient", "shipped", "impatient")
def test_same_source_ports_too(place: Place, traffic: Traffic) -> None:
    """N4: the whole five-tuple is the same in every namespace, TCP and UDP, and still nothing meets."""
    ours, theirs = alike("n", "card0:0", 16, 1), alike("p", "card0:1", 16, 2)
    place(Topology("same five-tuple", ours + theirs))
    pairs = list(zip(ours, theirs, strict=True))
    for kind in ("udp", "tcp"):
        traffic.serve(kind, *theirs)
        traffic.exactly_once(kind, pairs, count=8, source_port=4321)


def test_multicast_same_group_everywhere(place: Place, traffic: Traffic, wire: Outside) -> None:
    """N3: the same group joined in every namespace: a datagram reaches the member in its VLAN only."""
    ours, theirs = alike("n", "card0:0", 16, 1), alike("p", "card0:1", 16, 2)
    standing = place(Topology("same group", ours + theirs))
    traffic.serve("multicast", *theirs, group="239.1.1.1")
    flows = [
        traffic.flow("multicast", one, two, to="239.1.1.1") for one, two in zip(ours, theirs, strict=True)
    ]
    traffic.exchange(flows, count=4).check()
    no_leaks(standing, wire, traffic)


def test_both_ports_with_the_same_address(place: Place, traffic: Traffic, wire: Outside) -> None:
    """N3: two ports of one card in two namespaces, same device name, same address: the tester's datagrams
    reach the one whose port they arrive at."""
    one = Namespace("a", (Device("port", "eth0", "card0:0", addresses=("10.0.0.1/24",)),))
    two = Namespace("b", (Device("port", "eth0", "card0:1", addresses=("10.0.0.1/24",)),))
    wiring = (
        {"kind": "switch", "name": "s0", "ports": [{"end": "card0:0", "pvid": 7}, {"end": "tester:t0"}]},
        {"kind": "switch", "name": "s1", "ports": [{"end": "card0:1", "pvid": 8}]},
    )
    standing = place(Topology("same address on both ports", (one, two), wiring))
    traffic.serve("udp", one, two)
    station = wire.station(1, "10.0.0.9", 7)
    mac = wire.resolve(station, "10.0.0.1")
    assert mac == standing.mac(one)
    ask = station.ether(mac) / IP(src=station.ip, dst="10.0.0.1") / UDP(sport=9, dport=PORT)
    reply = wire.ask("its echo", ask / records.encode(77, 0, 40), lambda frame: frame.dport == 9)
    assert reply.record is not None and reply.record.tag == traffic.tag(one)
    assert {name: saw["total"] for name, saw in traffic.seen().items()} == {
        f"a/udp/{PORT}/": 1,
        f"b/udp/{PORT}/": 0,
    }


@pytest.mark.parametrize("count", tiers.beyond([2], [2, 32], "2 with more of them"))
def test_macvlans_of_one_port(place: Place, traffic: Traffic, wire: Outside, count: int) -> None:
    """N3: macvlans of one port share VLAN and port; the destination MAC gives the namespace."""
    ours = macvlans(count)
    peer = Namespace("peer", (Device("port", "eth0", "card0:1", addresses=("10.0.0.200/24",)),))
    standing = place(Topology(f"{count} macvlans", (*ours, peer)))
    traffic.serve("udp", *ours, peer)
    pairs = [(one, peer) for one in ours] + [(peer, one) for one in ours]
    traffic.exactly_once("udp", pairs, count=8)
    no_leaks(standing, wire, traffic)


@pytest.mark.past(udp_sent=0, why="each answer is the first to its neighbour, who is not resolved yet")
def test_same_address_behind_macvlans(place: Place, traffic: Traffic, wire: Outside) -> None:
    """N3, N4: even the same address behind macvlans of one port: the frame's MAC address decides alone."""
    ours = tuple(
        Namespace(one.name, (Device("macvlan", "eth0", "card0:0", mac=one.device().mac, mode="private",
                                    addresses=("10.0.0.1/24",)),))
        for one in macvlans(4)
    )  # fmt: skip
    place(Topology("same address, macvlans", ours))
    traffic.serve("udp", *ours)
    station = wire.station(1, "10.0.0.9")
    for number, one in enumerate(ours):
        mac = one.device().mac
        assert mac is not None
        head = station.ether(mac) / IP(src=station.ip, dst="10.0.0.1") / UDP(sport=9, dport=PORT)
        reply = wire.ask("an echo", head / records.encode(60 + number, 0, 40), lambda frame: frame.dport == 9)
        assert reply.record is not None
        assert (reply.src, reply.record.tag) == (mac, traffic.tag(one))
    assert all(saw["total"] == 1 for saw in traffic.seen().values())


@pytest.mark.parametrize("count", [600])
def test_forged_combinations_from_outside(place: Place, traffic: Traffic, wire: Outside, count: int) -> None:
    """N3: floods of right and wrong VLANs, MACs, addresses and ports: what a namespace must hear it hears
    once, what it must not it never does, and the answers leave only where the question came from."""
    ours = alike("n", "card0:0", 8, 1)
    standing = place(Topology("forged", ours))
    traffic.serve("udp", *ours)
    draw = random.Random(2)
    stations = [wire.station(number, "10.0.0.9", FIRST_VID + number) for number in range(8)]
    due: Counter[str] = Counter()
    for number in range(count):
        vid = draw.choice([*range(FIRST_VID, FIRST_VID + 8), FIRST_VID + 8, 4094, None])
        dst = draw.choice(["02:00:00:00:00:01"] * 3 + ["02:00:00:00:00:05", BROADCAST])
        ip, port = draw.choice(["10.0.0.1"] * 3 + ["10.0.0.7"]), draw.choice([PORT, PORT, PORT + 1])
        head = Ether(src=stations[0].mac, dst=dst)
        if vid is not None:
            head = head / Dot1Q(vlan=vid)
            head.src = stations[(vid - FIRST_VID) % 8].mac
        wire.send(
            head / IP(src="10.0.0.9", dst=ip) / UDP(sport=9, dport=port) / records.encode(9000, number, 40)
        )
        meant = vid is not None and vid - FIRST_VID < 8 and ip == "10.0.0.1" and port == PORT
        # A frame to everybody's MAC address that carries one host's IP is a datagram like any other (Linux).
        if meant and dst != "02:00:00:00:00:05":
            due[f"n{vid - FIRST_VID + 1}/udp/{PORT}/"] += 1
    last = (
        stations[7].ether("02:00:00:00:00:01")
        / IP(src="10.0.0.9", dst="10.0.0.1")
        / UDP(sport=10, dport=PORT)
    )
    wire.ask("the last echo", last / records.encode(9001, 0, 40), lambda frame: frame.dport == 10)
    due[f"n8/udp/{PORT}/"] += 1
    saw = traffic.seen()
    assert {name: one["total"] for name, one in saw.items()} == due
    assert all(one["total"] == one["unique"] for one in saw.values())
    no_leaks(standing, wire, traffic)

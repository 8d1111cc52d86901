"""One namespace at a time: the initial one and another, over a port, a VLAN and a macvlan.

    card0:0 --- init | a   eth1 (port)  or  lan0 (vlan 5)  or  lan0 (macvlan)   10.1.0.1/24
    card0:1 --- peer       eth0 (port)                                          10.1.0.2/24
                           with lan0 (vlan 5) on it in the VLAN case
    switch sw0: card0:0 === card0:1 === tester:t0 (scapy)

From inside, clients count the answers of echo servers; from outside, scapy sees the right MAC address, VLAN
and port, and the oracle of the wire sees nothing else.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP

from lab.guest.client import RemoteError
from suites import tiers
from suites.guest import namespaces, records
from suites.outside import Outside
from suites.place import Placed
from suites.session import Session
from suites.topology import INITIAL, Device, Namespace, Topology
from suites.traffic import PORT, Traffic

Place = Callable[[Topology], Placed]
LINKS = ("port", "vlan", "macvlan")
VID = 5


def subject(name: str, link: str, address: str = "10.1.0.1/24", port: str = "card0:0") -> Namespace:
    """A namespace with one device of this kind on a port."""
    if link == "port":
        device = Device("port", "lan0", port, addresses=(address,))
    elif link == "vlan":
        device = Device("vlan", "lan0", port, vid=VID, addresses=(address,))
    else:
        device = Device("macvlan", "lan0", port, mac="02:00:00:00:aa:01", addresses=(address,))
    return Namespace(name, (device,))


def peer(link: str) -> Namespace:
    """The other side, on the card's other port, in the same VLAN."""
    return subject("peer", "vlan" if link == "vlan" else "port", "10.1.0.2/24", "card0:1")


@pytest.fixture(
    params=tiers.beyond(
        [(INITIAL, "port"), ("a", "vlan"), ("a", "macvlan")],
        [(where, link) for where in (INITIAL, "a") for link in LINKS],
        "each kind of device is in core once, the initial namespace once",
    ),
    ids="-".join,
)
def pair(request: pytest.FixtureRequest, place: Place) -> tuple[Placed, Namespace, Namespace]:
    """A subject (the initial namespace or another, over one kind of device) and its peer, standing."""
    where, link = request.param
    standing = place(Topology(f"{where} over {link}", (subject(where, link), peer(link))))
    return standing, standing[where], standing["peer"]


def no_leaks(standing: Placed, wire: Outside, traffic: Traffic) -> None:
    """Nothing left either port that the topology cannot have sent."""
    oracle = standing.oracle()
    for flow in traffic.flows:
        oracle.flow(flow.number, flow.source, *flow.targets)
    for end in standing.topology.ports():
        assert oracle.leaks(end, wire.captured(end)) == []


@pytest.mark.parametrize("kind", [pytest.param("udp", marks=pytest.mark.past(udp_received=0.01)), "tcp"])
def test_echo_both_ways(
    pair: tuple[Placed, Namespace, Namespace], traffic: Traffic, wire: Outside, kind: str
) -> None:
    """N2, N3: a namespace's own device carries its UDP and TCP, each record once, and nothing else."""
    standing, one, other = pair
    traffic.serve(kind, one, other)
    traffic.exactly_once(kind, [(one, other), (other, one)], count=80)
    no_leaks(standing, wire, traffic)


@pytest.mark.parametrize("size", [1472, 200])
def test_sizes(pair: tuple[Placed, Namespace, Namespace], traffic: Traffic, size: int) -> None:
    """Datagrams that fill a frame, and shorter ones of several chunks, arrive unchanged."""
    _standing, one, other = pair
    traffic.serve("udp", other)
    traffic.exactly_once("udp", [(one, other)], count=10, size=size)


def test_multicast_reaches_the_member(pair: tuple[Placed, Namespace, Namespace], traffic: Traffic) -> None:
    """N3: a multicast datagram reaches the member in the namespace of the device it arrives on, once."""
    _standing, one, other = pair
    traffic.serve("multicast", one, group="239.7.7.7")
    flow = traffic.flow("multicast", other, one, to="239.7.7.7")
    traffic.exchange([flow], count=5).check()


@pytest.mark.by_kernel("ICMP is the kernel's")
def test_icmp_echo(pair: tuple[Placed, Namespace, Namespace], traffic: Traffic) -> None:
    """N2: ARP and ICMP echo work in both directions over the namespace's own device."""
    _standing, one, other = pair
    traffic.ping([(one, other.ip), (other, one.ip)], count=3)


def test_scapy_sees_mac_vlan_and_port(
    pair: tuple[Placed, Namespace, Namespace], traffic: Traffic, wire: Outside
) -> None:
    """N3: from outside, the namespace answers ARP, ping and UDP with its device's MAC, in its VLAN, through
    its port, and through no other."""
    standing, one, _other = pair
    device = one.device()
    station = wire.station(9, "10.1.0.9", device.vid)
    traffic.serve("udp", one)
    mac = standing.mac(one)
    assert wire.resolve(station, one.ip) == mac
    wire.ping(station, one.ip, mac)
    payload = records.encode(4000, 1, 40)
    ask = station.ether(mac) / IP(src=station.ip, dst=one.ip) / UDP(sport=4000, dport=PORT) / payload
    reply = wire.ask("a UDP echo", ask, lambda frame: frame.dport == 4000)
    assert (reply.src, reply.tags, reply.dst) == (mac, station.tags, station.mac)
    assert reply.record is not None and reply.record.tag == traffic.tag(one)
    sent = [frame for frame in wire.sent("card0:0") if frame.record]
    assert [(frame.src, frame.tags) for frame in sent] == [(mac, station.tags)]
    assert not [frame for frame in wire.sent("card0:1") if frame.record]


@pytest.mark.past(udp_sent=0, why="of the one or two answers the first goes to who is not resolved yet")
def test_scapy_in_another_vlan_is_not_heard(
    pair: tuple[Placed, Namespace, Namespace], traffic: Traffic, wire: Outside
) -> None:
    """N3: the same packet in any other VLAN is not the namespace's: no answer, no delivery. (The initial one
    owns the untagged port as well, so by the kernel's weak host model it hears that too.)"""
    standing, one, _other = pair
    right = one.device().vid
    heard = {right, None} if one.netns is None else {right}
    traffic.serve("udp", one)
    mac = standing.mac(one)
    for vid in sorted({None, VID, VID + 1}, key=lambda vid: (vid == right, vid or 0)):
        station = wire.station(10 + (vid or 0), "10.1.0.9", vid)
        payload = records.encode(5000 + (vid or 0), 0, 40)
        wire.send(station.ether(mac) / IP(src=station.ip, dst=one.ip) / UDP(sport=5, dport=PORT) / payload)
    wire.expect("an echo in the right VLAN", lambda frame: frame.dport == 5 and frame.tags == station.tags)
    (saw,) = traffic.seen().values()
    assert set(saw["flows"]) == {str(5000 + (vid or 0)) for vid in heard}


@pytest.mark.patience("patient", "shipped", "impatient")
@pytest.mark.parametrize("rounds", [3])
def test_port_moves_with_its_traffic(place: Place, session: Session, traffic: Traffic, rounds: int) -> None:
    """N8: a port that moves into a namespace and back carries the traffic of where it is; where it was, the
    socket gets the kernel's errors and nothing through the moved device."""
    lan0 = Device("port", "lan0", "card0:0", addresses=("10.1.0.1/24",))
    standing = place(Topology("moving port", (Namespace("a", (lan0,)), peer("port"))))
    a, other = standing["a"], standing["peer"]
    traffic.serve("udp", other)
    for _ in range(rounds):
        traffic.exactly_once("udp", [(a, other)], count=5)
        session.agent.call(namespaces.give_back, name="a", device="lan0")
        assert traffic.attempt(a, "udp", sendto=(other.ip, PORT)) == ("send", "ENETUNREACH")
        here = Namespace(INITIAL, (lan0,))
        moved = Placed(session, Topology("port at home", (here,)))
        traffic.exactly_once("udp", [(here, other)], count=5)
        moved.destroy()
        spec = {
            "kind": "port",
            "name": "lan0",
            "on": session.devices["card0:0"],
            "addresses": ["10.1.0.1/24"],
        }
        session.agent.call(namespaces.lend, name="a", device=spec)
    traffic.exactly_once("udp", [(a, other)], count=5)


def test_port_comes_home_when_its_namespace_ends(place: Place, session: Session, traffic: Traffic) -> None:
    """N7, N8: `ip netns del` with the port still inside brings it home, under its own name if that is free,
    and it works again."""
    session.agent.exec(["ip", "netns", "add", "b"])
    device = session.devices["card0:0"]
    session.agent.exec(["ip", "link", "set", device, "netns", "b"])
    session.agent.exec(["ip", "netns", "del", "b"])
    session.agent.call(namespaces.await_device, device=device)
    session.agent.call(namespaces.change, name=None, device=device, up=True)
    standing = place(Topology("home again", (subject(INITIAL, "port"), peer("port"))))
    traffic.serve("udp", standing["peer"])
    traffic.exactly_once("udp", [(standing[INITIAL], standing["peer"])], count=5)


WRONG: dict[str, tuple[dict[str, Any], tuple[str | None, str | None]]] = {
    "bind to an address of nobody": ({"bind": ("10.1.0.77", 1)}, ("bind", "EADDRNOTAVAIL")),
    "bind to another namespace's address": ({"bind": ("10.1.0.2", 1)}, ("bind", "EADDRNOTAVAIL")),
    "no route": ({"sendto": ("192.0.2.1", 1)}, ("send", "ENETUNREACH")),
    "connect without a route": ({"connect": ("192.0.2.1", 1)}, ("connect", "ENETUNREACH")),
    "broadcast without asking": ({"sendto": ("10.1.0.255", 1)}, ("send", "EACCES")),
    "a device of another namespace": ({"device": "eth0", "bind": ("10.1.0.1", 1)}, ("device", "ENODEV")),
    "a port in use": ({"bind": ("10.1.0.1", PORT)}, ("bind", "EADDRINUSE")),
    "join where no interface is": ({"join": ("239.7.7.7", "10.1.0.2")}, ("join", "ENODEV")),
    "join what is no group": ({"join": ("10.1.0.9", "10.1.0.1")}, ("join", "EINVAL")),
}


@pytest.mark.by_kernel("what is refused sends nothing")
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_configurations_fail_as_the_kernel_says(place: Place, traffic: Traffic, wrong: str) -> None:
    """N2, N10: addresses, routes, devices and port conflicts are looked up in the socket's namespace only;
    what is not there fails with the kernel's errno at the kernel's step."""
    steps, expected = WRONG[wrong]
    other = Namespace("peer", (Device("port", "eth0", "card0:1", addresses=("10.1.0.2/24",)),))
    standing = place(Topology("wrong", (subject("a", "vlan"), other)))
    traffic.serve("udp", standing["a"])
    assert traffic.attempt(standing["a"], "udp", **steps) == expected
    if "port in use" in wrong:
        assert traffic.attempt(other, "udp", bind=("10.1.0.2", PORT)) == (None, None)


@pytest.mark.by_kernel("no connection is established")
def test_nobody_listens(place: Place, traffic: Traffic) -> None:
    """N10: TCP to a port nobody listens on is refused by the other namespace's kernel; to a host that is not
    there it fails as unreachable."""
    standing = place(Topology("nobody", (subject("a", "port"), peer("port"))))
    a, other = standing["a"], standing["peer"]
    assert traffic.attempt(a, "tcp", connect=(other.ip, 1)) == ("connect", "ECONNREFUSED")
    assert traffic.attempt(a, "tcp", connect=("10.1.0.99", 1), seconds=30) == ("connect", "EHOSTUNREACH")


def test_a_failed_creation_leaves_nothing(session: Session, healthy: None) -> None:
    """A namespace that cannot be made as described is refused with the kernel's errno, and nothing stays."""
    device: dict[str, Any] = {"kind": "vlan", "name": "lan0", "on": session.devices["card0:0"], "vid": 5}
    spec = {"name": "bad", "devices": [device | {"addresses": ["10.0.0.1/24", "10.0.0.1/24"]}]}
    with pytest.raises(RemoteError) as caught:
        session.agent.call(namespaces.create, specs=[spec])
    assert caught.value.errno == errno.EEXIST

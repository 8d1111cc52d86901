"""The oracle of the wire: what it lets pass, and every kind of leak it must name."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from suites.capture import Captured, dissect
from suites.guest import records
from suites.oracle import Oracle
from suites.outside import Station
from suites.topology import Topology, vlans

MAC = "02:00:00:00:00:01"
TWO = Topology("two", tuple(vlans(2, "card0:0")))


def oracle() -> Oracle:
    """Two namespaces that differ in their VLAN only (101 and 102); flow 1 is the first one's."""
    made = Oracle.of(TWO, {("n1", "eth0"): MAC, ("n2", "eth0"): MAC})
    made.flow(1, TWO["n1"])
    return made


def frame(vid: int | None = 101, src: str = MAC, ip: str = "10.0.0.1", flow: int = 1) -> Packet:
    head = Ether(src=src, dst="02:00:00:00:00:99")
    if vid is not None:
        head = head / Dot1Q(vlan=vid)
    return head / IP(src=ip, dst="10.0.0.2") / UDP(sport=1, dport=2) / records.encode(flow, 0, 40)


@pytest.mark.parametrize(
    ("packet", "end", "said"),
    [
        (frame(), "card0:0", None),
        (frame(vid=102, flow=2), "card0:0", None),
        (Ether(src=MAC) / Dot1Q(vlan=101) / ARP(psrc="10.0.0.1"), "card0:0", None),
        (frame(), "card0:1", "no device"),
        (frame(vid=103), "card0:0", "no device"),
        (frame(vid=None), "card0:0", "no device"),
        (frame(src="02:00:00:00:00:02"), "card0:0", "no device"),
        (frame(ip="10.0.0.7"), "card0:0", "does not have the address"),
        (frame(vid=102), "card0:0", "no part in flow 1"),
        (Ether(src=MAC, type=0x88B5) / b"x", "card0:0", "no device"),
        (Ether(src=MAC) / Dot1Q(vlan=101, type=0x88B5) / b"x", "card0:0", "no business"),
        (Ether(src=MAC) / Dot1Q(vlan=101) / ARP(psrc="10.0.0.9"), "card0:0", "does not have the address"),
    ],
)
def test_objections(packet: Packet, end: str, said: str | None) -> None:
    captured = Captured(dissect(bytes(packet)), True, 0, False)
    leaks = oracle().leaks(end, [captured])
    assert (leaks == []) if said is None else (said in leaks[0])


def test_namespaces_that_look_the_same_on_the_wire_are_refused() -> None:
    alike = Topology("alike", (*vlans(1, "card0:0"), *vlans(1, "card0:1", prefix="m")))
    Oracle.of(alike, {("n1", "eth0"): MAC, ("m1", "eth0"): MAC})
    same = Topology("same", tuple(vlans(2, "card0:0")))
    made = Oracle.of(same, {("n1", "eth0"): MAC, ("n2", "eth0"): MAC})
    assert made.owner("card0:0", dissect(bytes(frame(vid=102)))) == "n2"


@pytest.mark.parametrize("size", range(0, 80, 3))
def test_dissecting_survives_any_truncation(size: int) -> None:
    dissect(bytes(frame())[:size])
    dissect(bytes(Ether() / IP() / TCP() / b"x")[:size])


def test_a_station_answers_arp_and_ping_as_a_kernel_checks_it() -> None:
    station = Station("02:7e:57:00:00:01", "10.0.0.9", 101)
    head = Ether(src=MAC, dst=station.mac) / Dot1Q(vlan=101)
    request = dissect(bytes(head / ARP(op=1, hwsrc=MAC, psrc="10.0.0.1", pdst="10.0.0.9")))
    answer = station.answer(request)
    assert answer is not None
    reply = Ether(answer)
    assert (reply[ARP].op, reply[ARP].hwsrc, reply[ARP].psrc, reply[ARP].pdst) == (
        2,
        station.mac,
        "10.0.0.9",
        "10.0.0.1",
    )
    ping = head / IP(src="10.0.0.1", dst="10.0.0.9") / ICMP(id=7, seq=9) / b"payload"
    answer = station.answer(dissect(bytes(ping)))
    assert answer is not None
    pong = Ether(answer)
    assert (pong[ICMP].type, pong[ICMP].id, pong[ICMP].seq, bytes(pong[ICMP].payload)) == (
        0,
        7,
        9,
        b"payload",
    )
    correct = Ether(bytes(pong))
    del correct[ICMP].chksum
    assert Ether(bytes(correct))[ICMP].chksum == pong[ICMP].chksum

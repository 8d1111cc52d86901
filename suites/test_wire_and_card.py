"""The wire and the card misbehave on purpose; namespaces behave as over any network card.

card0:0 --- a     eth0 (port)  10.1.0.1/24
card0:1 --- peer  eth0 (port)  10.1.0.2/24
switch sw0: card0:0 === card0:1 === tester:t0 (scapy)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket
from scapy.layers.inet import IP, UDP
from scapy.utils import PcapNgReader

from lab.deadline import Deadline, scaled
from suites import capture
from suites.guest import health, namespaces, records
from suites.outside import Outside
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology
from suites.traffic import PORT, Traffic

Place = Callable[[Topology], Placed]
Defer = Callable[..., None]
PAIR = Topology(
    "two ports",
    (
        Namespace("a", (Device("port", "eth0", "card0:0", addresses=("10.1.0.1/24",)),)),
        Namespace("peer", (Device("port", "eth0", "card0:1", addresses=("10.1.0.2/24",)),)),
    ),
)


@pytest.fixture
def pair(place: Place, traffic: Traffic) -> tuple[Placed, Namespace, Namespace]:
    """Two namespaces with a port each, UDP servers in both, neighbours resolved."""
    standing = place(PAIR)
    a, peer = standing["a"], standing["peer"]
    traffic.serve("udp", a, peer)
    traffic.ping([(a, peer.ip), (peer, a.ip)])
    return standing, a, peer


def ask(wire: Outside, standing: Placed, count: int, port: int = PORT) -> Callable[[], None]:
    """``count`` datagrams of a station to namespace ``a``, ready to be sent."""
    station = wire.station(1, "10.1.0.9")
    mac = wire.resolve(station, "10.1.0.1")
    head = station.ether(mac) / IP(src=station.ip, dst="10.1.0.1") / UDP(sport=9, dport=port)
    frames = [bytes(head / records.encode(500, number, 60)) for number in range(count)]

    def send() -> None:
        for frame in frames:
            wire.send(frame)

    return send


@pytest.mark.parametrize("end", ["card0:0", "card0:1"])
def test_link_down_and_up(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, defer: Defer, end: str
) -> None:
    """A pulled cable is no carrier in the namespace that holds the port, and only there; plugged in again,
    traffic goes on."""
    standing, a, peer = pair
    pulled, other = (a, peer) if end == "card0:0" else (peer, a)
    defer(session.control.link, end, True)
    session.control.link(end, False)
    agent = session.agent
    agent.call(namespaces.await_carrier, name=pulled.name, device="eth0", carrier=False, seconds=scaled(2))
    assert standing.links(other)["eth0"]["carrier"]
    session.control.link(end, True)
    agent.call(namespaces.await_carrier, name=pulled.name, device="eth0", carrier=True, seconds=scaled(2))
    traffic.exactly_once("udp", [(a, peer), (peer, a)], count=5)


def test_loss_is_what_the_rule_says(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, wire: Outside, defer: Defer
) -> None:
    """A rule that loses frames 0, 3 and 7 loses the datagrams 0, 3 and 7, and nothing else."""
    standing, _a, _peer = pair
    send = ask(wire, standing, 10)
    defer(session.control.rules, "tester:t0", [])
    session.control.rules("tester:t0", [{"kind": "loss", "direction": "tx", "match": {"frames": [0, 3, 7]}}])
    send()
    wire.expect("the last echo", lambda frame: frame.record is not None and frame.record.sequence == 9)
    answered = {frame.record.sequence for frame in wire.kept if frame.record and frame.record.tag}
    assert answered == {1, 2, 4, 5, 6, 8, 9}


def test_duplicates_arrive_twice(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, wire: Outside, defer: Defer
) -> None:
    """What the wire duplicates, UDP delivers twice: the counting sees it."""
    standing, a, _peer = pair
    send = ask(wire, standing, 5)
    defer(session.control.rules, "card0:0", [])
    match = {"contains": records.MAGIC.hex()}
    session.control.rules("card0:0", [{"kind": "duplicate", "direction": "rx", "match": match}])
    traffic.seen()
    send()
    for number in range(10):
        wire.expect(
            f"echo {number + 1} of 10", lambda frame: frame.record is not None and frame.record.tag > 0
        )
    saw = traffic.seen()[f"{a.name}/udp/{PORT}/"]
    assert (saw["total"], saw["unique"]) == (10, 5)


@pytest.mark.card("emulated")
def test_corrupted_frames_are_dropped_and_counted(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, wire: Outside, defer: Defer
) -> None:
    """A frame with a wrong FCS reaches no socket; the port counts it, and the next good one is delivered."""
    standing, a, _peer = pair
    send = ask(wire, standing, 5)
    defer(session.control.rules, "card0:0", [])
    before = session.control.counters()["card0:0"]
    rule = {"kind": "corrupt", "direction": "rx", "match": {"contains": records.MAGIC.hex()}, "count": 4}
    session.control.rules("card0:0", [rule])
    traffic.seen()
    send()
    wire.expect("the fifth's echo", lambda frame: frame.record is not None and frame.record.sequence == 4)
    saw = traffic.seen()[f"{a.name}/udp/{PORT}/"]
    assert (saw["total"], saw["broken"]) == (1, 0)
    assert grown(before, session.control.counters()["card0:0"], "bad", "crc", "error") >= 4


@pytest.mark.card("emulated")
def test_damage_that_the_card_cannot_see(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, wire: Outside, defer: Defer
) -> None:
    """N9: a frame that was damaged before its FCS was made is judged by the checksums of IP and UDP, by
    whoever takes it: no socket hears of it, and the next good one is delivered."""
    standing, a, _peer = pair
    damaged = 30
    send = ask(wire, standing, damaged + 1)
    defer(session.control.rules, "card0:0", [])
    rule = {"kind": "corrupt", "fix_fcs": True, "direction": "rx", "count": damaged}
    rule["match"] = {"contains": records.MAGIC.hex()}
    session.control.rules("card0:0", [rule])
    traffic.seen()
    send()
    wire.expect(
        "the good one's echo", lambda frame: frame.record is not None and frame.record.sequence == damaged
    )
    counters = session.control.counters()["card0:0"]
    assert counters["rules_rx"]["corrupt"] == damaged
    saw = traffic.seen()[f"{a.name}/udp/{PORT}/"]
    assert (saw["total"], saw["unique"], saw["broken"], saw["foreign"]) == (1, 1, 0, 0)


def grown(before: dict[str, Any], after: dict[str, Any], *words: str) -> int:
    """How much the counters grew whose names contain one of the words."""
    return sum(
        after[name] - before.get(name, 0)
        for name in after
        if isinstance(after[name], int) and any(word in name for word in words)
    )


@pytest.mark.card("emulated")
@pytest.mark.parametrize("status", ["bad_crc", "aborted", "overflow"])
def test_bad_frames_reported_by_the_card(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, wire: Outside, status: str
) -> None:
    """Frames the card marks as bad are no datagrams; those around them are delivered, once and intact."""
    standing, a, peer = pair
    send = ask(wire, standing, 6)
    session.control.fault("card0", "bad_frame", status=status, count=3, port=0)
    traffic.seen()
    send()
    wire.expect("the last echo", lambda frame: frame.record is not None and frame.record.sequence == 5)
    saw = traffic.seen()[f"{a.name}/udp/{PORT}/"]
    assert (saw["total"], saw["broken"]) == (3, 0)
    traffic.exactly_once("udp", [(a, peer), (peer, a)], count=5)


@pytest.mark.patience("patient", "shipped", "impatient")
def test_reordering_and_delay(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, defer: Defer
) -> None:
    """TCP over a wire that loses, repeats, delays and reorders by a seed: every record once, in order."""
    _standing, a, peer = pair
    traffic.serve("tcp", peer)
    defer(session.control.rules, "card0:0", [])
    rules = [
        {"kind": "loss", "probability": 0.02},
        {"kind": "duplicate", "probability": 0.05},
        {"kind": "reorder", "probability": 0.1, "gap": 2},
        {"kind": "delay", "probability": 0.2, "delay_us": 500, "jitter_us": 2000},
    ]
    session.control.rules("card0:0", rules)
    traffic.exactly_once("tcp", [(a, peer)], count=200, seconds=12)


def lapped(session: Session, namespace: Namespace) -> int:
    """How often the driver of its port was overtaken by the card."""
    told = session.agent.exec(["ethtool", "-S", namespace.device().name], netns=namespace.netns).stdout
    (line,) = [one for one in told.splitlines() if "rx_lapped" in one]
    return int(line.split(":")[1])


@pytest.mark.card("emulated")
def test_lapped_ring_is_counted_and_survived(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic
) -> None:
    """The card writes more than the ring holds before the driver looks: frames are lost and counted, the
    driver finds its place again, and what comes then is delivered."""
    _standing, a, peer = pair
    before = lapped(session, a)
    # Many rings: the driver reads on while the card writes.
    session.control.fault("card0", "lap", port=0, chunks=100_000)
    Deadline("the lap is counted", scaled(3)).wait_until(lambda: lapped(session, a) > before)
    traffic.ping([(a, peer.ip)])
    traffic.exactly_once("udp", [(a, peer), (peer, a)], count=10)


@pytest.mark.card("emulated")
@pytest.mark.parametrize("fault", [{"delay_s": 0.002}, {"repeat": 3}])
def test_late_and_repeated_interrupts(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, defer: Defer, fault: Any
) -> None:
    """Interrupts that come late, or several times, cost time and nothing else."""
    _standing, a, peer = pair
    defer(session.control.fault, "card0", "interrupts")
    session.control.fault("card0", "interrupts", **fault)
    traffic.exactly_once("udp", [(a, peer), (peer, a)], count=20)


@pytest.mark.card("emulated")
@pytest.mark.soils("the card was pulled, and came back with its devices under new names")
@pytest.mark.expects(r"exanic|eth\d|lan\d|pci|card0", "bad_accesses", "dma_faults")
def test_surprise_removal_and_return(session: Session, traffic: Traffic, defer: Defer) -> None:
    """N8: the card vanishes under live sockets and traffic: the guest lives, nothing hangs, sends go nowhere.
    When it is back and the driver is bound again, its ports work."""
    standing = Placed(session, PAIR)
    a, peer = standing["a"], standing["peer"]
    traffic.serve("udp", peer)
    traffic.exactly_once("udp", [(a, peer)], count=3)
    defer(session.control.fault, "card0", "gone", on=False)
    session.control.fault("card0", "gone", on=True)
    report = traffic.exchange([traffic.flow("udp", a, peer)], count=3, seconds=0.2)
    assert report.answered == 0
    assert session.agent.exec(["ip", "-br", "link"], netns="a").code == 0
    assert session.agent.call(health.taints) == session.baseline["taints"]
    traffic.stop()
    pci = session.baseline["ports"][0]["pci"]
    unbind, bind = "/sys/bus/pci/drivers/exanic/unbind", "/sys/bus/pci/drivers/exanic/bind"
    session.agent.exec(["tee", unbind], input=pci)
    session.control.fault("card0", "gone", on=False)
    session.agent.exec(["tee", bind], input=pci, timeout=scaled(6))
    session.agent.call(namespaces.destroy, names=["a", "peer"], timeout=scaled(6))
    session.devices = session.find_devices()
    again = Placed(session, PAIR)
    traffic.serve("udp", again["peer"])
    traffic.exactly_once("udp", [(again["a"], again["peer"])], count=3)


def test_mtu_9000(place: Place, traffic: Traffic) -> None:
    """Jumbo frames: datagrams of 8,900 bytes in one frame each, both ways, unchanged."""
    jumbo = tuple(
        Namespace(
            one.name, (Device("port", "eth0", one.device().on, mtu=9000, addresses=one.device().addresses),)
        )
        for one in PAIR.namespaces
    )
    standing = place(Topology("jumbo", jumbo))
    a, peer = standing["a"], standing["peer"]
    traffic.serve("udp", a, peer)
    traffic.exactly_once("udp", [(a, peer), (peer, a)], count=20, size=8900)


def test_captures_hold_exactly_what_was_sent(
    pair: tuple[Placed, Namespace, Namespace],
    session: Session,
    traffic: Traffic,
    wire: Outside,
    tmp_path: Path,
) -> None:
    """The capture of a port opens with python-pcapng and with scapy, and holds each datagram once, in order,
    as it was sent, with the direction it went."""
    _standing, a, peer = pair
    traffic.exactly_once("udp", [(a, peer)], count=25)
    session.control.flush()
    path = tmp_path / "port.pcapng"
    path.write_bytes(capture.since(session.lab.paths.capture / "card0-0.pcapng", wire.began))
    with path.open("rb") as file:
        packets = [one for one in FileScanner(file) if isinstance(one, EnhancedPacket)]
    ours = [one for one in packets if records.MAGIC in one.packet_data]
    directions = Counter(one.options["epb_flags"].inout for one in ours)
    assert directions == {"outbound": 25, "inbound": 25}
    with PcapNgReader(str(path)) as reader:
        again = [bytes(packet) for packet in reader]
    assert [bytes(one.packet_data) for one in packets] == again
    sent = [one.frame.record for one in wire.captured("card0:0") if one.sent]
    assert [record.sequence for record in sent if record] == list(range(25))


def test_rewiring_takes_effect_at_once(
    pair: tuple[Placed, Namespace, Namespace], session: Session, traffic: Traffic, wire: Outside, defer: Defer
) -> None:
    """A cable between the ports instead of the switch: the same traffic, and the tester sees none of it."""
    _standing, a, peer = pair
    defer(session.control.wire, session.control.status()["wiring"])
    session.control.wire([{"kind": "cable", "ends": ["card0:0", "card0:1"]}])
    for one in (a, peer):
        session.agent.call(namespaces.await_carrier, name=one.name, device="eth0", carrier=True)
    seen = len(wire.kept)
    traffic.exactly_once("udp", [(a, peer), (peer, a)], count=5)
    assert not [frame for frame in wire.kept[seen:] if frame.record]

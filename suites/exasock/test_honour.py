"""Honour or yield (B7): what the kernel would do with a datagram or a segment is done, or the kernel does it.

    card0:0 --- a      lan0 (port)   10.1.0.1/24
    card0:1 --- peer   lan0 (port)   10.1.0.2/24

The table is datapath/exasock/honour.toml. Its options are tried here one by one, on accelerated sockets and
on the kernel's; so is what looks on and has no test elsewhere.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether

from lab.deadline import Deadline, scaled
from suites import capture
from suites.exasock import guest_looking, guest_tcp, honour
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.exasock.live import ONE, OTHER, Live, lively
from suites.exasock.steps import Steps, data, do, look, opened
from suites.exasock.tcp_pair import SIDES, Tcp
from suites.guest import bpf
from suites.outside import Outside
from suites.place import Placed
from suites.session import KERNEL
from suites.topology import Topology

Place = Callable[[Topology], Placed]
Defer = Callable[..., None]
Json = dict[str, Any]
BOTH = (KERNEL, SPINNING)
TRIED = 7011
EXCHANGED = 3
#: Where the option is among the steps of by_option(), after those of opened().
OPTION_AT = 5
PROTOCOLS = {"SOL_SOCKET": 1, "IPPROTO_IP": 0, "IPPROTO_UDP": 17, "IPPROTO_TCP": 6}
#: Numbers of the options that are tried (asm-generic/socket.h, linux/in.h, udp.h, tcp.h).
NUMBERS = {
    level.name: {
        name: int(number)
        for name, number in re.findall(
            r"^#define\s+(\w+)\s+(\d+)\b",
            (honour.ROOT / "out/images/builder/root/usr/include" / level.file).read_text(),
            re.MULTILINE,
        )
    }
    for level in honour.levels()
}
#: Control messages: times of 64 bits, and IP_CHECKSUM.
VARYING = ((1, 63), (1, 64), (1, 65), (0, 23))
#: Packet sockets of these see no datagram: ARP, LLDP, PTP.
OTHERS = (0x0806, 0x88CC, 0x88F7)
IPV4 = 0x0800


@pytest.fixture(params=[SPINNING], ids=lambda kind: kind.name)
def live(request: pytest.FixtureRequest, place: Place, compared: Compared) -> Iterator[Live]:
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    compared.session.agent.load(bpf, guest_looking)
    yield from lively(request.param, compared, standing)


@pytest.fixture
def programs(live: Live, defer: Defer) -> Callable[..., None]:
    """Attach a BPF program by a function of ``suites.guest.bpf``; detached afterwards."""
    defer(live.agent.call, bpf.detach_all)

    def attach(function: Callable[..., None], **given: Any) -> None:
        live.agent.call(function, timeout=scaled(20), **given)

    return attach


# --- options ------------------------------------------------------------------------------------------------


def tried(protocol: str) -> list[tuple[honour.Row, str]]:
    """What is to be set on such a socket."""
    return [
        (row, name)
        for row in honour.rows()
        if row.kind == "option" and row.attempt is not None and getattr(row, protocol) != "-"
        for name in row.names
        if name in NUMBERS[row.level]
    ]


def set_on(label: str, row: honour.Row, name: str) -> Json:
    assert row.attempt is not None
    return do(
        "option", label, level=PROTOCOLS[row.level], number=NUMBERS[row.level][name], hex=row.attempt.hex()
    )


def by_option(live: Live, row: honour.Row, name: str) -> tuple[list[Json], Json]:
    """A socket with the option sends and receives a few: what it was told, and the counters."""
    steps: Steps = [*opened("o", live.standing["a"], TRIED), set_on("o", row, name), look("o"), look("b")]
    for number in range(EXCHANGED):
        steps += [
            do("sendto", "o", data=data(number), to=["10.1.0.2", OTHER]),
            do("recvmsg", "b"),
            do("sendto", "b", data=data(number + 50), to=["10.1.0.1", TRIED]),
            do("recvmsg", "o"),
        ]
    told = live.do(*steps)
    counted = live.counters("a", TRIED)
    live.do(do("close", "o"))
    return told, counted


def objections(row: honour.Row, name: str, counted: Json) -> list[str]:
    """Did they go the way that the table says?"""
    found = []
    for way, fast in (("tx", "tx_fast"), ("rx", "claimed")):
        reason = row.reason("udp", way)
        reasons = counted[f"{way}_kernel"]
        if (reason is None) != (counted[fast] == EXCHANGED) or (reason and not reasons.get(reason)):
            found.append(f"{name}: {way} {reason or 'fast'}, but {counted[fast]} were fast, and {reasons}")
        if reason and counted[fast]:
            found.append(f"{name}: {way} {reason}, but {counted[fast]} were fast")
    return found


def comparable(results: list[Json]) -> list[Json]:
    """Without what differs from run to run: times, and sums over the identification."""

    def kept(message: Any) -> Any:
        return message[:2] if isinstance(message, list) and tuple(message[:2]) in VARYING else message

    return [
        {"ok": [[kept(one) for one in part] if isinstance(part, list) else part for part in told["ok"]]}
        if isinstance(told.get("ok"), list)
        else told
        for told in results
    ]


def test_options(place: Place, compared: Compared) -> None:
    """B7, N10: each option of the table that can be tried, on a socket of datagrams: it is told and receives
    what a kernel socket is, and its datagrams go the way that the table says."""
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    told: dict[str, list[list[Json]]] = {}
    found: list[str] = []
    for kind in BOTH:
        with contextmanager(lively)(kind, compared, standing) as live:
            for row, name in tried("udp"):
                results, counted = by_option(live, row, name)
                told.setdefault(name, []).append(comparable(results))
                if kind is SPINNING and "errno" not in results[OPTION_AT]:
                    found += objections(row, name, counted)
    found += [
        f"{name}: {kernel}, but accelerated {fast}" for name, (kernel, fast) in told.items() if kernel != fast
    ]
    assert len(told) > 40 and not found, "\n".join(found)


def test_cork(place: Place, compared: Compared) -> None:
    """B7: what UDP_CORK gathers is one datagram, as natively, and the next one is fast again."""
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    for kind in BOTH:
        with contextmanager(lively)(kind, compared, standing) as live:
            cork = {"level": 17, "number": 1}
            told = live.works(
                do("option", "a", hex="01000000", **cork),
                *[do("sendto", "a", data=data(1, 10), to=["10.1.0.2", OTHER])] * 2,
                do("option", "a", hex="00000000", **cork),
                do("recv_into", "b"),
            )
            assert told[-1][0] == 20
            live.do(look("a"), look("b"))
            live.recovers()


STAMPS = {
    "by chance": 0x10,  # SOFTWARE, without RX_SOFTWARE
    "of cards alone": 0x44,  # RAW_HARDWARE, RX_HARDWARE
    "filtered": 0x20018,  # OPT_RX_FILTER, SOFTWARE, RX_SOFTWARE
    "of both": 0x5C,
}


def test_stamp_flags(place: Place, compared: Compared) -> None:
    """B7, N10: SO_TIMESTAMPING by flags: control messages tell what those of a kernel socket tell."""
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    told: list[dict[str, Any]] = []
    for kind in BOTH:
        told.append({})
        with contextmanager(lively)(kind, compared, standing) as live:
            for name, flags in STAMPS.items():
                told[-1][name] = live.do(
                    *opened("o", standing["a"], TRIED),
                    do("option", "o", level=1, number=37, hex=struct.pack("=I", flags).hex()),
                    look("o"),
                    do("sendto", "b", data=data(1), to=["10.1.0.1", TRIED]),
                    do("recvmsg", "o"),
                    do("close", "o"),
                )
    assert told[0] == told[1]


def test_stamp_of_the_last(place: Place, compared: Compared) -> None:
    """B7, N10: SIOCGSTAMP and SIOCGSTAMPNS tell of the datagram that was read last; the first question is
    answered with now, and before anything came there is no answer."""
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    results = []
    for kind in BOTH:
        with contextmanager(lively)(kind, compared, standing) as live:
            send = do("sendto", "b", data=data(1), to=["10.1.0.1", TRIED])
            receive = [look("o"), send, do("recvfrom", "o")]
            steps: Steps = [do("open", "n", netns="a"), do("now", "n"), do("stamp", "n"), do("close", "n")]
            steps += [*opened("o", standing["a"], TRIED), *receive, do("stamp", "o")]
            for ns in (False, True, True):
                steps += [do("now", "o"), *receive, do("stamp", "o", ns=ns)]
            results.append(live.do(*steps))
            counted = live.counters("a", TRIED)
            live.do(do("close", "o"))
    assert results[0] == results[1], counted
    assert [one for one in results[1] if one.get("ok") is True] == [{"ok": True}] * 4, results[1]
    assert counted["claimed"] == 1 and counted["rx_kernel"] == {"option": 3}, counted


# --- VLANs --------------------------------------------------------------------------------------------------


def tags(wire: Outside, end: str, mark: int, protocol: int = capture.UDP) -> list[int]:
    """The whole tags (802.1Q TCI) of what the card sent since ``mark``."""
    sent = [frame for frame in wire.sent(end)[mark:] if frame.protocol == protocol]
    return [int.from_bytes(frame.data[14:16], "big") for frame in sent]


def test_vlan_priority(place: Place, compared: Compared) -> None:
    """B7, N10: a tag's priority is the one that the VLAN device's egress map gives the socket's priority, 0
    included, as it is at that moment; and datagrams of such a device are fast."""
    standing = place(Topology("two VLANs", (subject("a", "vlan"), peer("vlan"))))
    wire = compared.wire
    for kind in BOTH:
        with contextmanager(lively)(kind, compared, standing) as live:
            mark = len(wire.sent("card0:0"))
            send = [do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER]), do("recvfrom", "b")]

            def work(live: Live = live, send: Steps = send) -> None:
                live.works(*send)
                live.change("a", "link set dev lan0 type vlan egress-qos-map 0:5 3:2")
                live.works(*send, do("set", "a", name="priority", value=3), *send)
                live.change("a", "link set dev lan0 type vlan egress-qos-map 0:0 3:7")
                live.works(*send, do("set", "a", name="priority", value=0), *send)

            live.fast("a", ONE, work, sent=5)
            assert [one >> 13 for one in tags(wire, "card0:0", mark)] == [0, 5, 2, 7, 0]
            live.change("a", "link set dev lan0 type vlan egress-qos-map 3:0")


@pytest.mark.parametrize("side", ["client"])
def test_vlan_priority_of_a_connection(place: Place, compared: Compared, side: str, defer: Defer) -> None:
    """B7: a taken connection's segments have the priority that its handshake had."""
    standing = place(Topology("two VLANs", (subject("a", "vlan"), peer("vlan"))))
    acquaint(compared, standing, standing["a"], standing["peer"])
    tcp = Tcp(compared.session, compared, standing, SIDES[side])
    compared.soiled = True
    live = Live(compared, SPINNING, standing)
    live.change("a", "link set dev lan0 type vlan egress-qos-map 0:5")
    tcp.open()
    tcp.warm()
    tcp.fast()
    tcp.close()
    compared.soiled = False
    assert {one >> 13 for one in tags(compared.wire, "card0:0", 0, capture.TCP)} == {5}


# --- headers ------------------------------------------------------------------------------------------------


def test_default_ttl(live: Live) -> None:
    """B7: net.ipv4.ip_default_ttl counts for the next datagram."""
    wire = live.compared.wire
    mark = len(wire.sent("card0:0"))
    send = [do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER]), do("recvfrom", "b")]

    def work() -> None:
        for ttl in (33, 64):
            live.agent.exec(["sysctl", "-qw", f"net.ipv4.ip_default_ttl={ttl}"], netns="a")
            live.works(*send)

    live.fast("a", ONE, work, sent=2)
    sent = [frame for frame in wire.sent("card0:0")[mark:] if frame.dport == OTHER]
    assert [frame.data[22] for frame in sent] == [33, 64]


# --- who looks on -------------------------------------------------------------------------------------------


def received(live: Live, work: Callable[[], None], claimed: int) -> None:
    """So many of what ``work`` has socket a receive overtake the kernel."""
    before = live.counters("a", ONE)
    work()
    after = live.counters("a", ONE)
    assert after["claimed"] - before["claimed"] == claimed, after["rx_kernel"]


def test_packet_sockets(live: Live, defer: Defer) -> None:
    """B7: packet sockets that can see no IPv4 (LLDP, PTP, ARP) do not end anything; one that can does, and so
    do more than are looked at for each frame."""
    defer(live.agent.call, guest_looking.release)

    def add(*protocols: int) -> None:
        live.agent.call(guest_looking.packet_sockets, netns="a", device="lan0", protocols=list(protocols))

    add(*OTHERS)
    received(live, lambda: live.fast("a", ONE, lambda: live.exchange(first=10), sent=4), claimed=4)
    add(IPV4)
    live.slow("a", ONE, lambda: live.exchange(first=20), "tap", way="rx")
    live.agent.call(guest_looking.release)
    live.recovers()
    add(*OTHERS * 3)
    live.slow("a", ONE, lambda: live.exchange(first=30), "tap", way="rx")
    live.agent.call(guest_looking.release)
    live.recovers()


def test_queueing_discipline(live: Live) -> None:
    """B7: fq, which paces, has everything that is sent, for a reason of its own."""
    live.agent.exec(["tc", "qdisc", "replace", "dev", "lan0", "root", "fq"], netns="a")
    live.slow("a", ONE, lambda: live.exchange(first=10), "qdisc")
    live.agent.exec(["tc", "qdisc", "del", "dev", "lan0", "root"], netns="a")
    live.recovers()


@pytest.mark.parametrize("live", BOTH, ids=lambda kind: kind.name, indirect=True)
def test_source_that_a_program_writes(live: Live, programs: Callable[..., None]) -> None:
    """B7, N10: a program that gives what is received another source is obeyed by each call."""
    programs(bpf.write_source, address="192.0.2.9", port=4242)
    send = do("sendto", "b", data=data(1), to=["10.1.0.1", ONE])
    told = live.works(send, do("recvfrom", "a"), send, do("recvmsg", "a"), send, do("recvmmsg", "a", many=1))
    assert [one[-1] for one in (told[1], told[3], told[5][0])] == [["192.0.2.9", 4242]] * 3


@pytest.mark.parametrize(
    ("hook", "way"), [("socket_sendmsg", "tx"), ("socket_recvmsg", "rx"), ("socket_sock_rcv_skb", "rx")]
)
def test_security_program(live: Live, programs: Callable[..., None], hook: str, way: str) -> None:
    """B7: a BPF program on a security hook of sending or receiving is asked, while it is there."""
    programs(bpf.permit, hook=hook)
    live.slow("a", ONE, lambda: live.exchange(first=10), "policy", way=way)
    live.agent.call(bpf.detach_all)
    live.recovers()


def test_a_socket_in_a_sockmap(live: Live) -> None:
    """B7: what is sent and received by a socket that is put into a sockmap after it was attached is the
    kernel's, `foreign`; when it is taken out the socket overtakes again."""
    live.worker.load(bpf, guest_looking)
    live.worker.call(guest_looking.map_socket, program="p", s="a", there=True)
    live.slow("a", ONE, lambda: live.exchange(first=10), "foreign")
    live.slow("a", ONE, lambda: live.exchange(first=20), "foreign", way="rx")
    live.worker.call(guest_looking.map_socket, program="p", s="a", there=False)
    live.recovers()


# --- connections --------------------------------------------------------------------------------------------


def segments(wire: Outside, sent: bool) -> list[tuple[int, Any]]:
    """When, and what: segments of TCP at card0:0, sent or received by the card."""
    return [
        (one.time, Ether(one.frame.data)[TCP])
        for one in wire.captured("card0:0")
        if one.frame.protocol == capture.TCP and one.sent == sent
    ]


def lost_tail(tcp: Tcp, wire: Outside, defer: Defer) -> float:
    """Three messages are lost: seconds from the last one until it, or what it is a part of, is sent again."""
    control = tcp.session.control
    control.rules("card0:0", [{"kind": "loss", "probability": 1, "direction": "tx"}])
    mark = len(segments(wire, True))
    tcp.client.call(guest_tcp.call, label="c", op="sends", hex="41" * 64, times=3)
    again = Deadline("it is sent again", scaled(2))
    while True:
        found = [(time, one) for time, one in segments(wire, True)[mark:] if len(one.payload)]
        ends = [one.seq + len(one.payload) for _, one in found]
        if len(found) > 1 and ends[-1] <= max(ends[:-1]):
            break
        again.check()
    control.rules("card0:0", [])
    first = min(number for number, end in enumerate(ends) if end == max(ends))
    repeated = next(number for number in range(1, len(ends)) if ends[number] <= max(ends[:number]))
    got = tcp.server.call(guest_tcp.call, label="c", op="recv", count=192, flags=0x100, timeout=scaled(5))
    assert len(got) == 2 * 192
    return (found[repeated][0] - found[first][0]) / 1e9


@pytest.mark.parametrize("any_tcp", ["kernel", "client"], indirect=True)
def test_a_lost_tail(any_tcp: Tcp, wire: Outside, defer: Defer) -> None:
    """B7: the end of a burst that was lost is probed for when the kernel would: after twice the round trip,
    not a delayed acknowledgment's time later."""
    tcp = any_tcp
    defer(tcp.session.control.rules, "card0:0", [])
    tcp.open()
    found = []
    for _ in range(5):
        tcp.warm() if tcp.accelerated_ends() else tcp.rally(20)
        tcp.rally(10)
        found.append(lost_tail(tcp, wire, defer))
    assert min(found) < 0.1, found


@pytest.mark.parametrize("tcp", ["client"], indirect=True)
def test_the_stamp_that_is_echoed(tcp: Tcp, wire: Outside) -> None:
    """B7: an acknowledgment of several segments echoes the time stamp of the first of them (RFC 7323)."""
    tcp.open()
    tcp.warm()
    tried = Deadline("several segments with different stamps are acknowledged at once", scaled(4))
    told: set[bool] = set()
    while not told:
        tcp.rally(10)
        mark = len(wire.captured("card0:0"))
        tcp.client.call(guest_tcp.start, label="c", name="r", receive=[5, 192])
        tcp.server.call(guest_tcp.start, label="c", name="s", send=[5, 192], sizes=[64])
        for worker, name in ((tcp.client, "r"), (tcp.server, "s")):
            worker.call(guest_tcp.finish, name=name, timeout=scaled(10))
        told = echoes(wire.captured("card0:0")[mark:])
        tried.check()
    assert told == {True}
    tcp.fast()


def echoes(frames: list[capture.Captured]) -> set[bool]:
    """Of each acknowledgment for several segments with different stamps: is it the first one's?"""
    found, waiting = set(), []
    for one in frames:
        if one.frame.protocol != capture.TCP:
            continue
        segment = Ether(one.frame.data)[TCP]
        stamp = dict(segment.options).get("Timestamp")
        if stamp is None:
            continue
        if not one.sent and len(segment.payload):
            waiting.append((segment.seq + len(segment.payload), stamp[0]))
        elif one.sent:
            covered = [value for end, value in waiting if end <= segment.ack]
            waiting = [(end, value) for end, value in waiting if end > segment.ack]
            if len(set(covered)) > 1:
                found.add(stamp[1] == covered[0])
    return found


# --- settings -----------------------------------------------------------------------------------------------


def test_every_setting_has_a_row(compared: Compared) -> None:
    """B7: each setting of the guest's kernel below net.ipv4 and net.core is in the table."""
    agent = compared.session.agent
    agent.load(bpf, guest_looking)
    names = agent.call(guest_looking.settings, folders=["ipv4", "core"])
    rows = honour.rows()
    missing = [name for name in names if honour.setting(name, rows) is None]
    assert len(names) > 200 and not missing, missing

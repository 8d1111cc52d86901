"""TCP, in turns the kernel's and the process's: every byte once and in order, whatever happens meanwhile.

    card0:0 --- a      lan0 (port)   10.1.0.1/24      clients
    card0:1 --- peer   lan0 (port)   10.1.0.2/24      servers

Accelerated on one side, the other and both; the kernel's own TCP is the oracle.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from lab.deadline import Deadline, scaled
from lab.guest.client import Agent
from suites import capture, tiers
from suites.capture import Captured
from suites.exasock import guest_streams, guest_tcp
from suites.exasock.compare import Compared
from suites.exasock.conftest import Examined
from suites.exasock.ends import acquaint, peer, subject
from suites.exasock.live import steer
from suites.exasock.tcp_pair import PORT, SIDES, Tcp, differential
from suites.guest import exasock, iproute, namespaces, streams
from suites.place import Placed
from suites.session import KERNEL, Session
from suites.topology import Device, Namespace, Topology

pytestmark = pytest.mark.usefixtures("examined")
Place = Callable[[Topology], Placed]
Defer = Callable[..., None]
Json = dict[str, Any]
MB = 1 << 20


@pytest.fixture
def hold_all(session: Session, compared: Compared) -> None:
    session.agent.load(streams)


# --- bytes --------------------------------------------------------------------------------------------------


def test_messages_by_turns(tcp: Tcp) -> None:
    """Every message of a rally past the stack, after the first few."""
    tcp.open()
    tcp.warm()
    before = {name: tcp.total(name) for name in ("tx_segments", "rx_segments")}
    tcp.rally(200, seed=4)
    tcp.fast()
    for name, count in before.items():
        assert tcp.total(name) - count >= 180 * tcp.accelerated_ends() / 2, tcp.attached()


def test_bytes_both_ways_at_once(tcp: Tcp) -> None:
    """Megabytes in pieces of all sizes, by every call there is, both ways at once: each byte in its place."""
    tcp.open()
    tcp.warm()
    tcp.transfer(2 * MB, 2 * MB)
    tcp.transfer(MB, 0 + 1, seed=20)
    tcp.transfer(1, MB, seed=30)
    tcp.fast()


def test_small_pieces_with_nagle(tcp: Tcp) -> None:
    """Nagle's rule is kept, and nothing waits for ever by it."""
    tcp.open(nodelay=False)
    tcp.warm()
    tcp.rally(40, sizes=(1, 64, 1448, 3000))
    tcp.transfer(100_000, 100_000, sizes=[1, 50, 1447, 1449])
    tcp.fast()


IMPAIRMENTS: dict[str, list[Json]] = {
    "loss": [{"kind": "loss", "probability": 0.02}],
    "duplication": [{"kind": "duplicate", "probability": 0.05}],
    "reordering": [{"kind": "reorder", "probability": 0.05, "gap": 2}],
    "delay": [{"kind": "delay", "probability": 0.2, "delay_us": 500, "jitter_us": 2000}],
    "corruption": [{"kind": "corrupt", "probability": 0.02}],
    "corruption with a right FCS": [{"kind": "corrupt", "probability": 0.02, "fix_fcs": True}],
    "everything": [
        {"kind": "loss", "probability": 0.01},
        {"kind": "duplicate", "probability": 0.02},
        {"kind": "reorder", "probability": 0.02, "gap": 2},
        {"kind": "delay", "probability": 0.1, "delay_us": 300, "jitter_us": 1000},
    ],
}


@pytest.mark.expects("bad", "crc", "error", "drop")
@pytest.mark.parametrize(
    "impairment", tiers.beyond(["everything"], IMPAIRMENTS, "all of them at once are in core")
)
def test_a_wire_that_misbehaves(tcp: Tcp, defer: Defer, impairment: str) -> None:
    """Loss, duplication, reordering, delay and corruption, both ways: the kernel repairs what it must, and
    every byte is in its place."""
    control = tcp.session.control
    tcp.open()
    tcp.warm()
    for end in ("card0:0", "card0:1"):
        defer(control.rules, end, [])
        control.rules(end, IMPAIRMENTS[impairment])
    tcp.rally(100, seed=5, sizes=(64, 1448, 4000))
    tcp.transfer(300_000, 300_000, seed=40)
    for end in ("card0:0", "card0:1"):
        control.rules(end, [])
    tcp.rally(40, seed=6)
    tcp.fast()


@pytest.mark.parametrize("before", [1000, 3_000_000])
def test_sequence_numbers_wrap(tcp: Tcp, examined: Examined, before: int) -> None:
    """N10: sequence numbers of both directions pass zero in the middle, taken or at home."""
    examined.restored = True
    at = {"a": (1 << 32) - before, "peer": (1 << 32) - before - 777}
    ends = {"a": ["10.1.0.1", 7600], "peer": ["10.1.0.2", PORT]}
    for worker, here, there in ((tcp.client, "a", "peer"), (tcp.server, "peer", "a")):
        worker.call(
            guest_tcp.restore, label="c", netns=here, local=ends[here], peer=ends[there], send=at[here],
            receive=at[there],
        )  # fmt: skip
    tcp.rally(4)
    tcp.transfer(2 * before if before > MB else 50_000, 2 * before if before > MB else 50_000, seed=50)
    tcp.warm()
    tcp.fast()


@pytest.mark.parametrize("edge", [False, True], ids=["level", "edge"])
def test_epoll(tcp: Tcp, edge: bool) -> None:
    """A receiver that waits in an epoll set gets every byte."""
    tcp.open()
    tcp.warm()
    size = 200_000
    given: Json = {"label": "c", "name": "e", "count": size, "edge": edge, "seed": 60}
    tcp.server.call(guest_tcp.start_epoll, **given)
    tcp.client.call(guest_tcp.start, label="c", name="s", send=[60, size])
    assert tcp.server.call(guest_tcp.finish, name="e", timeout=scaled(10)) == {"differs": None}
    assert tcp.client.call(guest_tcp.finish, name="s", timeout=scaled(10))["sent"] == size


# --- calls, and the end of a connection ---------------------------------------------------------------------


def settled(tcp: Tcp, label: str, op: str, wanted: Any, **given: Any) -> Any:
    """Ask the server's end until the answer is what it must become."""
    deadline = Deadline(f"{op} tells {wanted}", scaled(2))
    while (told := tcp.server.call(guest_tcp.call, label=label, op=op, **given)) != wanted:
        deadline.check()
    return told


def test_calls_tell_what_the_kernels_tell(tcp: Tcp) -> None:
    """N10: values, errors and readiness, step by step, as from a kernel socket."""

    def work() -> list[Any]:
        tcp.open()
        tcp.warm() if tcp.kinds != (KERNEL, KERNEL) else tcp.rally(20)
        told: list[Any] = []

        def client(op: str, **given: Any) -> None:
            told.append(["client", op, tcp.client.call(guest_tcp.call, label="c", op=op, **given)])

        def server(op: str, **given: Any) -> None:
            told.append(["server", op, tcp.server.call(guest_tcp.call, label="c", op=op, **given)])

        server("recv", flags=socket.MSG_DONTWAIT)
        server("ready")
        client("send", hex="616263646566")
        server("recv", count=2, flags=socket.MSG_PEEK)
        server("recv", count=3)
        server("ready")
        server("recv", count=3, flags=socket.MSG_PEEK)
        server("inq")
        server("recvfrom")
        client("send", hex="3132")
        client("send", hex="333435")
        server("recv", count=5, flags=socket.MSG_WAITALL)
        client("send", hex="99")
        server("recvmsg")
        client("sendfile", seed=3, count=5000)
        server("recv", count=5000, flags=socket.MSG_WAITALL)
        client("cork")
        client("send", hex="41")
        client("send", hex="42")
        client("cork", on=0)
        server("recv", count=2, flags=socket.MSG_WAITALL)
        server("state")
        client("send", hex="4344")
        client("shutdown")
        server("recv", count=2, flags=socket.MSG_WAITALL)
        server("recv")
        server("ready")
        client("send", hex="45")
        server("send", hex="4647")
        client("recv")
        server("shutdown")
        client("recv")
        tcp.close()
        return told

    differential(tcp, work)


def test_end_of_data_after_all_data(any_tcp: Tcp) -> None:
    """Everything that was sent before close arrives, then the end, in both directions."""
    tcp = any_tcp
    for number in range(4):
        tcp.open(str(number), PORT + number)
        tcp.rally(20, str(number))
        tcp.client.call(guest_tcp.call, label=str(number), op="send", seed=9, count=30_000)
        tcp.client.call(guest_tcp.close, label=str(number))
        given: Json = {"label": str(number), "name": "r", "receive": [9, 30_001]}
        tcp.server.call(guest_tcp.start, **given)
        told = tcp.server.call(guest_tcp.finish, name="r", timeout=scaled(10))
        assert told["received"] == 30_000 and told["differs"] == 30_000, told


def test_reset_where_the_kernel_resets(any_tcp: Tcp) -> None:
    """A connection closed with data unread, or with no time to linger, ends in a reset."""
    tcp = any_tcp
    for number, linger in enumerate((False, True)):
        label = str(number)
        tcp.open(label, PORT + number)
        tcp.rally(40, label)
        if not linger:
            tcp.server.call(guest_tcp.call, label=label, op="send", hex="4142")
            wait = Deadline("it has arrived", scaled(1))
            while tcp.client.call(guest_tcp.call, label=label, op="inq") != 2:
                wait.check()
        tcp.client.call(guest_tcp.close, label=label, linger=linger)
        assert settled(tcp, label, "recv", {"errno": "ECONNRESET"}) == {"errno": "ECONNRESET"}


def test_half_closed(any_tcp: Tcp) -> None:
    """One direction ends, the other goes on with as much as it likes."""
    tcp = any_tcp
    tcp.open()
    tcp.rally(20)
    tcp.client.call(guest_tcp.shutdown, label="c")
    assert tcp.server.call(guest_tcp.call, label="c", op="recv") == ""
    tcp.server.call(guest_tcp.start, label="c", name="s", send=[8, 400_000])
    tcp.client.call(guest_tcp.start, label="c", name="r", receive=[8, 400_000])
    assert tcp.client.call(guest_tcp.finish, name="r", timeout=scaled(10))["differs"] is None
    assert tcp.server.call(guest_tcp.finish, name="s", timeout=scaled(10))["sent"] == 400_000


def test_killed_with_data_under_way(any_tcp: Tcp) -> None:
    """A killed sender: what its sends returned for arrives, then the end; nothing stays attached."""
    tcp = any_tcp
    tcp.open()
    tcp.rally(40)
    tcp.client.call(guest_tcp.call, label="c", op="send", seed=4, count=20_000)
    pid = tcp.client.hello.pid
    tcp.session.agent.exec(["kill", "-KILL", str(pid)])
    tcp.server.call(guest_tcp.start, label="c", name="r", receive=[4, 20_001])
    told = tcp.server.call(guest_tcp.finish, name="r", timeout=scaled(10))
    assert told["received"] == 20_000 and told["differs"] == 20_000, told
    tcp.session.end_programs(tcp.kinds[0])
    none_left = Deadline("no connection of the killed is attached", scaled(1))
    none_left.wait_until(lambda: not tcp.attached("a"), every=0.05)
    tcp.__post_init__()


# --- processes ----------------------------------------------------------------------------------------------


def test_a_child_and_a_copy(tcp: Tcp) -> None:
    """N1: a forked child and a duplicate speak by the same connection, in order with their elder."""
    tcp.open()
    tcp.warm()
    tcp.client.call(guest_tcp.duplicate, label="c", to="copy")
    tcp.client.call(guest_tcp.fork, label="c", seed=11, size=5000)
    tcp.server.call(guest_tcp.start, label="c", name="r", receive=[11, 5000])
    assert tcp.server.call(guest_tcp.finish, name="r", timeout=scaled(10))["differs"] is None
    tcp.client.call(guest_tcp.close, label="c")
    tcp.client.call(guest_tcp.start, label="copy", name="s", send=[12, 50_000])
    tcp.server.call(guest_tcp.start, label="c", name="r", receive=[12, 50_000])
    assert tcp.server.call(guest_tcp.finish, name="r", timeout=scaled(10))["differs"] is None
    assert tcp.client.call(guest_tcp.finish, name="s", timeout=scaled(10))["sent"] == 50_000


# --- what changes, and what looks on ------------------------------------------------------------------------


def hooked(agent: Agent, netns: str, there: bool) -> None:
    """A hook of netfilter."""
    if there:
        agent.exec(["nft", "add", "table", "ip", "t"], netns=netns)
        agent.exec(
            ["nft", "add", "chain", "ip", "t", "c", "{ type filter hook input priority 0; }"], netns=netns
        )
    else:
        agent.exec(["nft", "delete", "table", "ip", "t"], netns=netns)


def steered(agent: Agent, netns: str, there: bool) -> None:
    """What comes is passed on to other processors (RPS)."""
    steer(agent, netns, "3" if there else "0")


@pytest.mark.parametrize(
    ("seen_by", "reason"), [(hooked, "filter"), (steered, "stacked")], ids=["rule", "steered"]
)
def test_what_must_see_it_brings_it_home(
    tcp: Tcp, seen_by: Callable[[Agent, str, bool], None], reason: str
) -> None:
    """N9: a netfilter rule sees the connection, or the stack has it by a detour: it is the kernel's, for that
    reason, until that is gone."""
    agent = tcp.session.agent
    tcp.open()
    tcp.warm()
    for netns in ("a", "peer"):
        seen_by(agent, netns, True)
    before = tcp.total("takes")
    tcp.transfer(50_000, 50_000, seed=70)
    # Who had gone home already, being idle, is asked again: under way that reason comes first.
    told = Deadline("that is the reason", scaled(2))
    while reason not in tcp.reasons("a") | tcp.reasons("peer"):
        tcp.rally(20, seed=72)
        told.check()
    assert tcp.total("takes") == before
    for netns in ("a", "peer"):
        seen_by(agent, netns, False)
    moved = tcp.total("rx_bytes")
    again = Deadline("it is taken again", scaled(2))
    while tcp.total("takes") < before + tcp.accelerated_ends() or tcp.total("rx_bytes") == moved:
        tcp.rally(20, seed=71)
        again.check()


#: A ruleset; is its namespace's conntrack liberal; and is a connection taken all the same.
GIVEN_UP = {
    "rule": ("tcp dport 1 drop", False, True),
    "conntrack": ("ct state invalid drop", False, False),
    "liberal": ("ct state invalid drop", True, True),
}


@pytest.mark.parametrize("name", GIVEN_UP)
def test_hooks_that_were_given_up(tcp: Tcp, defer: Defer, name: str) -> None:
    """N9: a namespace whose administrator gave up its hooks: connections are taken past its rules, but not
    past a conntrack that would lose track of them; a liberal one finds nothing wrong with what comes."""
    rule, liberal, taken = GIVEN_UP[name]
    agent = tcp.session.agent
    for netns in ("a", "peer"):
        defer(agent.call, exasock.bypass_filters, netns=netns, value=0)
        agent.call(exasock.bypass_filters, netns=netns, value=1)
        hooked(agent, netns, True)
        agent.exec(["nft", "add", "rule", "ip", "t", "c", *rule.split()], netns=netns)
        if liberal:
            agent.exec(["sysctl", "-w", "net.netfilter.nf_conntrack_tcp_be_liberal=1"], netns=netns)
    tcp.open()
    if taken:
        tcp.warm()
    tcp.rally(100, seed=72, sizes=(64, 5000))
    tcp.transfer(60_000, 60_000, seed=73)
    tcp.rally(40, seed=74)
    if taken:
        tcp.fast()
    else:
        assert not tcp.total("takes") and "filter" in tcp.reasons("a") | tcp.reasons("peer"), tcp.attached()


def most_under_way(frames: list[Captured]) -> int:
    """Of the segments with data that a port sent, the most that were not acknowledged at a time."""
    most, acknowledged, ends = 0, 0, set[int]()
    for one in frames:
        if one.frame.protocol != capture.TCP:
            continue
        segment = Ether(one.frame.data)[TCP]
        if one.sent and len(segment.payload):
            ends.add(segment.seq + len(segment.payload))
        elif not one.sent:
            acknowledged = max(acknowledged, segment.ack)
        most = max(most, sum(end > acknowledged for end in ends))
    return most


@pytest.mark.parametrize("tcp", ["both"], indirect=True)
def test_the_congestion_window_grows(tcp: Tcp, defer: Defer) -> None:
    """A long wire and small messages one way: more and more are under way while the connection is taken, and
    the receiver acknowledges small segments too before their sender has to wait for it."""
    control, size, count = tcp.session.control, 64, 400
    for name, value in (("hold_us", 100_000), ("fresh_us", 1_000_000)):
        before = tcp.session.agent.call(exasock.parameter, name=name, value=value)
        defer(tcp.session.agent.call, exasock.parameter, name=name, value=before)
    tcp.open()
    tcp.warm()
    for end in ("card0:0", "card0:1"):
        defer(control.rules, end, [])
        control.rules(end, [{"kind": "delay", "probability": 1, "delay_us": 20_000}])
    mark = len(tcp.compared.wire.captured("card0:0"))
    takes = tcp.total("takes")
    tcp.server.call(guest_tcp.start, label="c", name="r", receive=[75, count * size])
    told = tcp.client.call(guest_tcp.pour, label="c", seed=75, count=count, size=size, timeout=scaled(10))
    assert told == {"sent": count * size}
    assert tcp.server.call(guest_tcp.finish, name="r", timeout=scaled(10))["differs"] is None
    assert tcp.total("takes") == takes, tcp.attached()
    assert most_under_way(tcp.compared.wire.captured("card0:0")[mark:]) > 16


def test_the_port_moves_away_and_back(tcp: Tcp, examined: Examined) -> None:
    """N8: the port goes to another namespace while bytes flow: the connection waits, as the kernel's would,
    and goes on when it is back."""
    agent, session = tcp.session.agent, tcp.session
    examined.gaps = True
    tcp.open()
    tcp.warm()
    tcp.begin(400_000, 400_000, seed=80)
    agent.call(namespaces.create, specs=[{"name": "third"}])
    try:
        spec = {
            "kind": "port", "name": "lan0", "on": session.devices["card0:0"], "addresses": ["10.1.0.1/24"],
        }  # fmt: skip
        agent.call(namespaces.give_back, name="a", device="lan0")
        # not the address: who has it answers for a connection that it does not know
        agent.call(namespaces.lend, name="third", device={**spec, "addresses": ["10.9.0.1/24"]})
        agent.call(namespaces.give_back, name="third", device="lan0")
        agent.call(namespaces.lend, name="a", device=spec)
    finally:
        agent.call(namespaces.destroy, names=["third"])
    agent.call(namespaces.await_carrier, name="a", device="lan0", carrier=True)
    acquaint(tcp.compared, tcp.standing, tcp.standing["a"], tcp.standing["peer"])
    tcp.end(400_000, 400_000)


def test_the_neighbour_changes(tcp: Tcp) -> None:
    """N2: with another MAC address known for the peer nothing goes to the old one any more."""
    tcp.open()
    tcp.warm()
    station = tcp.compared.wire.station(9, "10.1.0.2")
    mark = len(tcp.compared.wire.sent("card0:0"))
    line = f"neigh replace 10.1.0.2 lladdr {station.mac} dev lan0 nud permanent"
    tcp.session.agent.call(iproute.run, netns="a", lines=[line])
    tcp.client.call(guest_tcp.call, label="c", op="send", hex="4142")
    tcp.compared.wire.expect("the segment", lambda frame: frame.dst == station.mac)
    segments = [one for one in tcp.compared.wire.sent("card0:0")[mark:] if one.protocol == 6]
    sent = [one for one in segments if len(one.data) > 66]
    assert sent and all(one.dst == station.mac for one in sent), sent
    acquaint(tcp.compared, tcp.standing, tcp.standing["a"], tcp.standing["peer"])
    assert tcp.server.call(guest_tcp.call, label="c", op="recv", count=2, flags=socket.MSG_WAITALL) == "4142"
    tcp.warm()


# --- namespaces ---------------------------------------------------------------------------------------------


def overlapping(pairs: int) -> Topology:
    made = []
    for side, port, host in (("a", "card0:0", 1), ("b", "card0:1", 2)):
        for number in range(1, pairs + 1):
            device = Device("vlan", "lan0", port, vid=10 + number, addresses=(f"10.1.0.{host}/24",))
            made.append(Namespace(f"{side}{number}", (device,)))
    return Topology(f"{pairs} pairs with the same addresses", tuple(made))


@pytest.mark.parametrize("side", SIDES)
def test_overlapping_namespaces(
    session: Session, place: Place, compared: Compared, examined: Examined, side: str
) -> None:
    """N3, N4: in eight pairs of namespaces the same addresses, ports and numbers: each connection has its own
    bytes only, also while segments forged by the other pairs' numbers come by other VLANs."""
    session.agent.load(streams)
    examined.restored = True
    pairs = 8
    standing = place(overlapping(pairs))
    compared.soiled = True
    for number in range(1, pairs + 1):
        acquaint(compared, standing, standing[f"a{number}"], standing[f"b{number}"])
    tcp = Tcp(session, compared, standing, SIDES[side])
    labels = [str(number) for number in range(1, pairs + 1)]
    at = {"a": 1_000_000, "b": 5_000_000}
    for label in labels:
        for worker, here, there in ((tcp.client, "a", "b"), (tcp.server, "b", "a")):
            ends = {"a": ["10.1.0.1", 7600], "b": ["10.1.0.2", PORT]}
            worker.call(
                guest_tcp.restore, label=label, netns=here + label, local=ends[here], peer=ends[there],
                send=at[here], receive=at[there],
            )  # fmt: skip
    for label in labels:
        tcp.rally(40, label, seed=int(label))
    foreign = compared.wire.station(30, "10.1.0.1", 19)
    mac = standing.mac(standing["b1"])
    for label in labels:
        tcp.begin(60_000, 60_000, label, seed=100 + int(label))
    for flags in ("A", "PA", "R", "FA", "S"):
        for offset in range(0, 60_000, 3000):
            segment = TCP(sport=7600, dport=PORT, seq=at["a"] + offset, ack=at["b"], flags=flags, window=500)
            head = foreign.ether(mac) / IP(src="10.1.0.1", dst="10.1.0.2")
            compared.wire.send(head / segment / (b"forged" if flags == "PA" else b""))
    for label in labels:
        tcp.end(60_000, 60_000, label)
    taken = [one for one in tcp.attached() if one["takes"]]
    assert len(taken) >= pairs * tcp.accelerated_ends() // 2, [one["refused"] for one in tcp.attached()]
    tcp.close()
    compared.soiled = False


# --- by hand, without the library ---------------------------------------------------------------------------


@pytest.fixture
def hand(session: Session, place: Place, compared: Compared) -> Agent:
    """Two namespaces with a port each, and the agent's own process as the program."""
    session.agent.load(streams, guest_streams)
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    acquaint(compared, standing, standing["a"], standing["peer"])
    return session.agent


@pytest.mark.parametrize("seed", range(4))
def test_taken_and_brought_home_by_chance(hand: Agent, seed: int) -> None:
    """However often a connection changes hands, and whoever is not looking: every byte once, in order."""
    told = hand.call(
        guest_streams.by_turns, a="a", b="peer", port=7700 + seed, seed=seed, count=400, seconds=scaled(1),
        timeout=scaled(10),
    )  # fmt: skip
    assert told["right"] and told["messages"] == 400 and not told["rest"], told
    assert told["past"] > 50 and all(one["takes"] > 2 for one in told["attached"]), told


@pytest.mark.parametrize("seed", range(3))
def test_scribbled_words_hurt_nobody_else(tcp: Tcp, seed: int) -> None:
    """N6: whatever a process writes where it may write, the guest is well, another one's bytes are right."""
    tcp.open()
    tcp.warm()
    tcp.begin(300_000, 300_000, seed=90)
    tcp.session.agent.load(guest_streams)
    told = tcp.session.agent.call(
        guest_streams.scribble, a="a", b="peer", port=7750 + seed, seed=seed, count=300, timeout=scaled(10)
    )
    assert all(told["taken"]), told
    tcp.end(300_000, 300_000)

"""What users of TCP past the kernel have had trouble with elsewhere, each as a test that passes here.

    card0:0 --- a      lan0 (port)   10.1.0.1/24      clients, or the one who talks to a peer made by hand
    card0:1 --- peer   lan0 (port)   10.1.0.2/24      servers
    tester  --- 10.1.0.9                              the peer made by hand (``by_hand``)

``--connections N``, and ``make soak``: so many of them where they come and go.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab.deadline import Deadline, scaled
from lab.guest.client import Agent
from suites.exasock import guest_churn, guest_tcp
from suites.exasock.by_hand import ByHand
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import subject
from suites.exasock.program_pairs import BRIEFLY
from suites.exasock.tcp_pair import KINDS, PORT, Tcp, differential, made
from suites.guest import streams
from suites.place import Placed
from suites.session import KERNEL, Session, SocketKind
from suites.tcp_oracle import RST, SYN
from suites.topology import Topology

pytestmark = pytest.mark.usefixtures("examined")
Place = Callable[[Topology], Placed]
Defer = Callable[..., None]
Json = dict[str, Any]
WHOLE = socket.MSG_WAITALL
BRIEF = {
    name: (KERNEL if one is KERNEL else BRIEFLY, KERNEL if other is KERNEL else BRIEFLY)
    for name, (one, other) in KINDS.items()
}


@pytest.fixture(params=list(BRIEF))
def brief_tcp(
    request: pytest.FixtureRequest, session: Session, place: Place, compared: Compared
) -> Iterator[Tcp]:
    """The same of processes that do not look for long."""
    yield from made(session, place, compared, BRIEF[request.param])
    session.end_programs(BRIEFLY)


# --- one end against a peer made by hand --------------------------------------------------------------------


@dataclass
class Lone:
    """A program of one kind of sockets in namespace ``a``, and its peer outside."""

    session: Session
    kind: SocketKind
    worker: Agent
    peer: ByHand

    def call(self, op: str, **given: Any) -> Any:
        return self.worker.call(guest_tcp.call, label="c", op=op, **given)

    def accept(self, data: bytes = b"") -> None:
        """The peer connects, with data on the handshake's last segment."""
        self.worker.call(guest_tcp.listen, label="l", netns="a", address="10.1.0.1", port=PORT)
        self.peer.connect(data)
        self.worker.call(guest_tcp.accept, label="c", listener="l")
        self.worker.call(guest_tcp.close, label="l")

    def connect(self, unanswered: int = 0) -> None:
        """It connects to the peer, which does not answer the first so many SYNs."""
        given: Json = {"label": "c", "netns": "a", "address": self.peer.station.ip, "port": self.peer.port}
        pending = self.worker.submit(
            "call", module=guest_tcp.__name__, function="connect",
            kwargs={**given, "local": list(self.peer.to)},
        )  # fmt: skip
        for _ in range(unanswered + 1):
            self.peer.expect("a SYN", SYN, seconds=2)
        self.peer.seq += 100_000  # another connection than any before
        self.peer.say("SA")
        pending.result(scaled(2))

    def exchange(self, count: int = 1) -> None:
        """Messages by turns: right, each of them."""
        for number in range(count):
            there, back = bytes([number % 256]) * 64, bytes([255 - number % 256]) * 64
            self.peer.deliver(there)
            assert self.call("recv", count=64, flags=WHOLE) == there.hex()
            assert self.call("send", hex=back.hex()) == 64
            assert self.peer.hear(64) == back

    def stat(self) -> Json:
        told: list[Json] = self.session.agent.call(streams.attached, netns="a", everything=False)
        return told[0] if told else {}

    def taken(self) -> None:
        """Until it has been taken; the kernel's own: a few messages."""
        deadline = Deadline("the connection is taken", scaled(2))
        self.exchange(8)
        while self.kind is not KERNEL and not self.stat().get("taken"):
            self.exchange()
            deadline.check()


@pytest.fixture(params=(KERNEL, SPINNING), ids=lambda kind: kind.name)
def lone(
    request: pytest.FixtureRequest, session: Session, place: Place, compared: Compared
) -> Iterator[Lone]:
    session.agent.load(streams)
    standing = place(Topology("one namespace", (subject("a", "port"),)))
    worker = compared.programs(request.param).worker("program")
    worker.load(guest_tcp, guest_churn)
    station = compared.wire.station(9, "10.1.0.9")
    mac = standing.mac(standing["a"])
    compared.soiled = True
    peer = ByHand(compared.wire, station, mac, ("10.1.0.1", PORT))
    compared.wire.ping(station, "10.1.0.1", mac)
    # every stray segment has its answer, however many there are
    session.agent.exec(["sysctl", "-qw", "net.ipv4.tcp_invalid_ratelimit=0"], netns="a")
    yield Lone(session, request.param, worker, peer)
    worker.call(guest_churn.reset_all)
    compared.soiled = False


def test_data_with_the_last_segment_of_the_handshake(lone: Lone) -> None:
    """What comes with the handshake's last acknowledgment is read first; the connection is taken later."""
    lone.accept(b"first words")
    assert lone.call("recv", count=11, flags=WHOLE) == b"first words".hex()
    lone.taken()
    lone.exchange(3)


def test_an_acknowledgment_of_what_was_not_sent(lone: Lone) -> None:
    """An acknowledgment ahead of all that was sent acknowledges nothing, and hurts nothing."""
    lone.accept()
    lone.taken()
    for ahead in (1, 1000, 1 << 20, 1 << 30):
        lone.peer.say("A", ack=lone.peer.ack + ahead)
        lone.exchange(2)
    if lone.kind is not KERNEL:
        assert lone.stat()["gives"].get("badack"), lone.stat()
    lone.taken()


def test_a_stray_acknowledgment(lone: Lone) -> None:
    """One with an old sequence number is answered with the right ones, one of old bytes is not believed."""
    lone.accept()
    lone.taken()
    for back in (1, 64, 1000):
        lone.peer.say("A", seq=lone.peer.seq - back)
        answer = lone.peer.expect("the right numbers")
        assert (answer.seq, answer.ack) == (lone.peer.ack, lone.peer.seq & 0xFFFFFFFF)
        lone.exchange(2)
    for back in (64, 128):
        lone.peer.say("A", ack=lone.peer.ack - back)
        lone.exchange(2)
    lone.taken()


def test_old_data_again_and_again(lone: Lone) -> None:
    """Segments that came already, whole or in part, are not read twice."""
    lone.accept()
    lone.taken()
    before = lone.peer.seq
    lone.exchange(3)
    for start in (before, before + 64, before + 100, before - 64):
        lone.peer.say("PA", b"x" * 64, seq=start)
        lone.exchange(2)
    assert lone.call("inq") == 0


@pytest.mark.parametrize("acknowledged", [False, True], ids=["FIN-WAIT-1", "FIN-WAIT-2"])
def test_a_closed_connection_ends_without_its_peer(lone: Lone, acknowledged: bool) -> None:
    """The peer never acknowledges the FIN, or never sends its own: nothing is left after the kernel's times,
    in the kernel or attached."""
    run = lone.session.agent.exec
    settings = ("tcp_fin_timeout=1", "tcp_orphan_retries=1")
    run(["sysctl", "-qw", *(f"net.ipv4.{one}" for one in settings)], netns="a")
    lone.accept()
    lone.taken()
    lone.worker.call(guest_tcp.close, label="c")
    fin = lone.peer.expect("the FIN", 1)
    if acknowledged:
        lone.peer.say("A", ack=fin.seq + len(fin.payload) + 1)
    gone = Deadline("no socket is left", scaled(3))
    gone.wait_until(lambda: not run(["ss", "-Htan"], netns="a").stdout.strip(), every=0.2)
    assert lone.stat() == {}


def test_the_peer_crashes_and_comes_back(lone: Lone) -> None:
    """An epoll set is told of a peer that knows nothing of the connection any more; from the same address and
    port it is reached again, once it answers."""
    lone.connect()
    lone.taken()
    assert lone.call("send", hex="4142") == 2
    lost = lone.peer.expect("data", least=2)
    lone.peer.say("R", seq=lost.ack)
    events = lone.worker.call(guest_churn.wait, label="c", seconds=scaled(1))
    assert events == ["IN", "ERR", "HUP", "RDHUP"]
    assert lone.call("recv") == {"errno": "ECONNRESET"}
    assert lone.call("recv") == ""
    lone.worker.call(guest_tcp.close, label="c")
    lone.connect(unanswered=1)
    lone.peer.heard.clear()
    lone.taken()


def test_a_reset_while_taken_is_believed_only_where_it_may_be(lone: Lone) -> None:
    """RFC 5961: a reset that is not at the next number is answered, not believed."""
    lone.accept()
    lone.taken()
    lone.peer.say("R", seq=lone.peer.seq + 100)
    answer = lone.peer.expect("a challenge")
    assert not answer.flags & RST and answer.ack == lone.peer.seq
    lone.exchange(2)
    lone.taken()


def test_back_to_back_sends_leave_with_their_calls(lone: Lone) -> None:
    """No gaps: what is sent back to back, without Nagle and within the windows, has left the port when the
    last call returns; none of it waits for a timer or an acknowledgment."""
    session, peer = lone.session, lone.peer
    lone.accept()
    lone.taken()
    many = 8

    def left() -> int:
        session.control.flush()
        return int(session.control.counters()["card0:0"]["tx"])

    fast = lone.stat().get("tx_segments", 0)
    for number in range(20):
        before = left()
        assert lone.call("sends", hex=bytes([number]).hex() * 64, times=many) == [64] * many
        assert left() - before >= many
        assert peer.hear(64 * many) == bytes([number]) * 64 * many
        lone.exchange()
    if lone.kind is not KERNEL:
        assert lone.stat()["tx_segments"] - fast >= 10 * many, lone.stat()


# --- many connections ---------------------------------------------------------------------------------------


def test_connections_come_and_go(brief_tcp: Tcp, request: pytest.FixtureRequest) -> None:
    """One after the other, by an epoll loop, some ended by a reset: each is answered, none sticks, nothing is
    left of them, and memory is what it was."""
    tcp = brief_tcp
    count = int(request.config.getoption("--connections", default=150))
    for worker in tcp.ends:
        worker.load(guest_churn)
    agent = tcp.session.agent
    agent.load(guest_tcp, guest_churn)
    tcp.server.call(guest_churn.serve, label="s", netns="peer", address="10.1.0.2", port=PORT)
    given: Json = {"netns": "a", "to": ["10.1.0.2", PORT], "messages": 10, "reset": True}
    tcp.client.call(guest_churn.churn, **given, count=20, timeout=scaled(6))
    rest = Deadline("nothing is attached", scaled(2))
    rest.wait_until(lambda: not tcp.attached(), every=0.1)
    before = agent.call(guest_churn.memory)
    told = tcp.client.call(guest_churn.churn, **given, count=count, timeout=scaled(6 + count / 10))
    assert (told["done"], told["wrong"]) == (count, 0)
    rest = Deadline("nothing is attached any more", scaled(2))
    rest.wait_until(lambda: not tcp.attached(), every=0.1)
    server = tcp.server.call(guest_churn.stop, label="s")
    assert server["accepted"] == count + 20 and server["ended"] + server["failed"] >= count + 20 - 1, server
    # KiB; a connection's memory is 150: were a hundred left, however many came and went, it would show. What
    # the last ones had comes back when the kernel's grace periods have passed.
    back = Deadline(f"memory is what it was, after {count} connections", scaled(4))
    back.wait_until(lambda: before["available"] - agent.call(guest_churn.memory)["available"] < 150 * 100)


def test_a_full_backlog_and_a_slow_accept(any_tcp: Tcp) -> None:
    """More connections than the backlog has room for, accepted one after the other: each gets its answer."""
    tcp = any_tcp
    for worker in tcp.ends:
        worker.load(guest_churn)
    labels = [f"c{number}" for number in range(6)]
    tcp.server.call(guest_churn.few, label="l", netns="peer", address="10.1.0.2", port=PORT, backlog=1)
    pending = tcp.client.submit(
        "call", module=guest_churn.__name__, function="hoard",
        kwargs={"labels": labels, "netns": "a", "to": ["10.1.0.2", PORT]},
    )  # fmt: skip
    said = tcp.server.call(
        guest_churn.accept_slowly, listener="l", count=len(labels), seconds=0.2, timeout=scaled(12)
    )
    pending.result(scaled(6))
    assert sorted(said) == labels
    assert tcp.client.call(guest_churn.echoed, labels=labels)


def test_bound_before_connecting(tcp: Tcp) -> None:
    """Bound to its address, or to that and a port: the connection is from there, and is taken."""
    for number, port in enumerate((0, 7611)):
        label = str(number)
        tcp.open(label, PORT + number, local=("10.1.0.1", port))
        taken = Deadline("both ends of it are taken", scaled(2))
        while True:
            tcp.rally(20, label)
            told = [one for one in tcp.attached() if PORT + number in (one["local"][1], one["peer"][1])]
            if len(told) == tcp.accelerated_ends() and all(one["takes"] for one in told):
                break
            taken.check()
        for one in told:
            client = one["local"] if one["peer"][1] == PORT + number else one["peer"]
            assert client[0] == "10.1.0.1" and (not port or client[1] == port)


# --- epoll --------------------------------------------------------------------------------------------------


def test_one_socket_in_eight_epoll_sets(tcp: Tcp) -> None:
    """N10: each set reports what it would of a kernel socket: by level while there is something, by edge when
    something comes, once until it is asked for again."""

    def work() -> list[Any]:
        tcp.server.load(guest_churn)
        tcp.open()
        tcp.warm() if tcp.kinds != (KERNEL, KERNEL) else tcp.rally(20)
        tcp.server.call(guest_churn.watch, label="c", count=8)
        told: list[Any] = []

        def look(seconds: float, take: int, order: list[int] | None = None) -> None:
            told.append(tcp.server.call(guest_churn.look, label="c", seconds=seconds, take=take, order=order))

        def send(count: int) -> None:
            tcp.client.call(guest_tcp.call, label="c", op="send", hex="41" * count)
            wait = Deadline("it has arrived", scaled(1))
            while tcp.server.call(guest_tcp.call, label="c", op="inq") < count:
                wait.check()

        look(0, 0)
        send(10)
        look(scaled(0.05), 0, [0, 1, 2])
        look(0, 4)
        look(0, 6)
        look(0, 0)
        tcp.server.call(guest_churn.arm, label="c")
        look(0, 0)
        send(10)
        look(0, 0, [7, 6, 5, 4, 3, 2, 1, 0])
        tcp.server.call(guest_churn.arm, label="c")
        look(0, 10)
        look(0, 0)
        tcp.rally(10)
        tcp.client.call(guest_tcp.shutdown, label="c")
        look(scaled(0.5), 0, [0])
        look(0, 0, [0, 3, 5, 7])
        tcp.server.call(guest_churn.unwatch)
        tcp.close()
        return told

    differential(tcp, work)

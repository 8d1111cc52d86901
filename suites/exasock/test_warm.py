"""Dummy sends (MSG_EXA_WARM): programs make them with orders that must never be placed.

    card0:0 --- a      lan0 (port)   10.1.0.1/24
    card0:1 --- peer   lan0 (port)   10.1.0.2/24

Whatever the socket, the call says that all was sent, and the wire is silent (the vendor's interface; B7).
"""

from __future__ import annotations

from suites.exasock import guest_tcp
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint
from suites.exasock.steps import LONG, data, do, opened
from suites.exasock.tcp_pair import Tcp
from suites.guest import dummy
from suites.outside import Outside
from suites.place import Placed
from suites.session import Session
from suites.topology import Namespace

Pair = tuple[Placed, Namespace, Namespace]
ONE, OTHER = 7001, 7002


def orders_seen(session: Session, wire: Outside) -> list[bytes]:
    """What the card sent of dummy sends, by any port."""
    sent = [frame for end in session.devices for frame in wire.sent(end)]
    return [frame.data for frame in sent if dummy.ORDER in frame.data]


def test_datagrams_that_are_none(two: Pair, compared: Compared, session: Session, wire: Outside) -> None:
    """A warm datagram of a socket that is accelerated, of one that refused it, of one that is not attached
    yet, connected or not: its length is returned, and the receivers and the wire see the real ones alone."""
    standing, one, other = two
    acquaint(compared, standing, one, other)
    to = [other.ip, OTHER]
    native = [
        do("open", "n", netns=one.netns, seconds=LONG),
        do("set", "n", name="no_accel", value=1),
        do("bind", "n", to=[one.ip, 7003]),
    ]
    steps = [
        *opened("a", one, ONE), *opened("b", other, OTHER), *native,
        do("open", "u", netns=one.netns, seconds=LONG),
    ]  # fmt: skip
    warm, real = [], []
    for sender in ("u", "n", "a"):
        for connected in (False, True):
            if connected:
                steps.append(do("connect", sender, to=to))
            warm.append(len(steps))
            steps.append(do("warm", sender, **({} if connected else {"to": to})))
            steps.append(do("sendto" if not connected else "send", sender, data=data(len(steps)), to=to))
            real.append((len(steps), len(steps) - 1))
            steps += [do("recvfrom", "b"), do("recv", "b", flags=["dontwait"])]
    run = compared.run(SPINNING, steps)
    assert not orders_seen(session, wire)
    assert [run.results[at] for at in warm] == [{"ok": dummy.TAKEN}] * len(warm)
    for at, seed in real:
        assert run.results[at]["ok"][0]["seed"] == seed, run.results[at]
        assert run.results[at + 1] == {"errno": "EAGAIN"}
    run.fast(compared.cookie(one), ONE, sent=2, claimed=0)


def test_messages_that_are_none(tcp: Tcp, session: Session, wire: Outside) -> None:
    """A warm message on a connection, before it is taken, while it is, from either end: the bytes that
    arrive are those that were sent, and the wire has no others."""
    tcp.open()
    accelerated = [worker for worker, kind in zip(tcp.ends, tcp.kinds, strict=True) if kind is SPINNING]

    def warm() -> None:
        for worker in accelerated:
            told = worker.call(guest_tcp.call, label="c", op="warm")
            assert not orders_seen(session, wire)
            assert told == dummy.TAKEN

    warm()
    tcp.warm()
    warm()
    tcp.rally(20, seed=5)
    warm()
    tcp.transfer(20_000, 20_000, seed=9)
    tcp.fast()
    assert not orders_seen(session, wire)

"""What a UDP socket can do, through kernel sockets and through accelerated ones, over each kind of device.

    card0:0 --- init | a   eth0 (port)  or  lan0 (vlan 5)  or  lan0 (macvlan)   10.1.0.1/24
    card0:1 --- peer       lan0 (port), in the VLAN case lan0 (vlan 5)          10.1.0.2/24
    switch sw0: card0:0 === card0:1 === tester:t0

Each test is a program, done both ways in the same namespaces: results and frames on the wire must be equal,
and the counters must say that it was the fast path which did it, to the datagram (N10, N9).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.deadline import scaled
from suites.exasock import guest_calls
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.exasock.steps import LONG, Steps, data, do, echo, look, opened, ready
from suites.guest import exasock
from suites.place import Placed
from suites.session import KERNEL
from suites.topology import Namespace, Topology

Pair = tuple[Placed, Namespace, Namespace]
ONE, OTHER = 7001, 7002
GROUP = "239.1.2.3"
WAYS_TO_SEND = ("sendto", "sendmsg", "sendmmsg")
WAYS_TO_SEND_CONNECTED = ("send", "write", "writev", "sendmsg", "sendmmsg")
WAYS_TO_RECEIVE = ("recv", "recvfrom", "recvmsg", "recvmmsg", "read", "readv", "recv_into")


def both_open(one: Namespace, other: Namespace) -> Steps:
    return [*opened("a", one, ONE), *opened("b", other, OTHER)]


def sent(way: str, s: str, seed: int, to: list[object] | None = None, size: int = 64) -> dict[str, object]:
    """One datagram, this way."""
    given: dict[str, object] = {} if to is None else {"to": to}
    if way == "sendmmsg":
        return do(way, s, many=[data(seed, size)], **given)
    return do(way, s, data=data(seed, size), **given)


def received(way: str, s: str) -> dict[str, object]:
    return do(way, s, **({"many": 1, "flags": ["waitforone"]} if way == "recvmmsg" else {}))


def test_every_way_to_send_and_to_receive(pair: Pair, compared: Compared) -> None:
    """N2, N3, N10: every call that sends or receives, unconnected and connected, over each kind of device, in
    the initial namespace and in another: all of them past the kernel, and as the kernel does it."""
    _standing, one, other = pair
    steps = both_open(one, other)
    number = 0
    for way in WAYS_TO_SEND:
        for back in WAYS_TO_RECEIVE:
            number += 1
            steps += [sent(way, "a", number, [other.ip, OTHER]), received(back, "b")]
    steps += [do("connect", "a", to=[other.ip, OTHER]), do("connect", "b", to=[one.ip, ONE])]
    steps += [*ready("a"), *ready("b")]
    connected = 0
    for way in WAYS_TO_SEND_CONNECTED:
        for back in WAYS_TO_RECEIVE:
            connected += 1
            steps += [sent(way, "b", number + connected), received(back, "a")]
    run = compared.both(steps)
    run.fast(compared.cookie(one), ONE, sent=number, claimed=connected)
    run.fast(compared.cookie(other), OTHER, sent=connected, claimed=number)


def test_sizes(pair: Pair, compared: Compared) -> None:
    """N10, N9: from nothing to a full frame all sizes are fast; what needs fragments is the kernel's, with
    that reason, and keeps its place in the order."""
    _standing, one, other = pair
    steps = both_open(one, other)
    sizes = [*range(20), *range(45, 48), 100, 500, 1400, *range(1464, 1473)]
    for number, size in enumerate(sizes):
        steps += [do("sendto", "a", data=data(number, size), to=[other.ip, OTHER]), do("recvfrom", "b")]
    run = compared.both(steps)
    run.fast(compared.cookie(one), ONE, sent=len(sizes), claimed=0)
    run.fast(compared.cookie(other), OTHER, sent=0, claimed=len(sizes))
    mixed = both_open(one, other)
    for number, size in enumerate([100, 1473, 100, 3000, 100]):
        mixed.append(do("sendto", "a", data=data(number, size), to=[other.ip, OTHER]))
    mixed += [do("recvfrom", "b", size=65536) for _ in range(5)]
    run = compared.both(mixed)
    assert run.counters(compared.cookie(one), ONE)["tx_kernel"]["size"] == 2


def test_order_beside_accelerated_sockets(two: Pair, compared: Compared) -> None:
    """N10: sockets that are not accelerated, in namespaces where others are, have their datagrams in the
    order in which they were sent, whole or in fragments."""
    _standing, one, other = two
    worker = compared.programs(SPINNING).worker("program")
    worker.load(guest_calls)
    compared.soiled = True
    worker.call(guest_calls.run, program="beside", steps=both_open(one, other), keep=True, timeout=scaled(6))
    assert len(compared.session.agent.call(exasock.accelerated)) == 2
    steps = [*opened("k", one, 7011), *opened("l", other, 7012)]
    before = len(steps)
    sizes = [100, 1473, 100, 3000, 100] * 4
    for number, size in enumerate(sizes):
        steps.append(do("sendto", "k", data=data(number, size), to=[other.ip, 7012]))
    steps += [do("recvfrom", "l", size=65536)] * len(sizes)
    told = compared.run(KERNEL, steps).results[before + len(sizes) :]
    assert [one["ok"][0]["seed"] for one in told] == list(range(len(sizes)))
    worker.call(guest_calls.close, program="beside")


def test_jumbo_frames(place: Callable[[Topology], Placed], compared: Compared) -> None:
    """N9, N10: with an MTU of 9000 datagrams of up to 8,972 bytes are fast both ways, in any mixture."""
    standing = place(Topology("jumbo", (subject("a", "port", mtu=9000), peer("port", mtu=9000))))
    one, other = standing["a"], standing["peer"]
    acquaint(compared, standing, one, other)
    sizes = [8972, 100, 1473, 4000, 0, 8000, 1984, 1985, 8971, 64, 2048, 5000] * 2
    steps = both_open(one, other)
    for number, size in enumerate(sizes):
        steps += [do("sendto", "a", data=data(number, size), to=[other.ip, OTHER])]
        steps += [do("recvfrom", "b", size=9000)]
    run = compared.both(steps)
    run.fast(compared.cookie(one), ONE, sent=len(sizes), claimed=0)
    run.fast(compared.cookie(other), OTHER, sent=0, claimed=len(sizes))


def test_what_a_datagram_says_of_itself(pair: Pair, compared: Compared) -> None:
    """N2, N3, N10: IP_PKTINFO names the interface and addresses of the socket's namespace; TTL, TOS and time
    stamps come along, in the kernel's order; what a sender asks for by control messages is in the frame."""
    standing, one, other = pair
    index = compared.indexes(one)[standing.device(one, one.device())]
    steps = both_open(one, other)
    for name in ("pktinfo", "recvttl", "recvtos", "timestampns"):
        steps.append(do("set", "b", name=name, value=1))
    controls: list[list[list[object]]] = [
        [],
        [["tos", 0x2E << 2]],
        [["ttl", 9]],
        [["tos", 4], ["ttl", 200]],
        [["pktinfo", 0, one.ip]],
        [["pktinfo", index, "0.0.0.0"]],
        [["pktinfo", index, one.ip], ["ttl", 3]],
    ]
    for number, control in enumerate(controls):
        steps += [
            do("sendmsg", "a", data=data(number), to=[other.ip, OTHER], control=control),
            do("recvmsg", "b"),
        ]
    steps += [do("set", "b", name="timestampns", value=0), do("set", "b", name="timestamp", value=1)]
    steps += [do("sendto", "a", data=data(99), to=[other.ip, OTHER]), do("recvmsg", "b", room=24)]
    steps += [do("sendto", "a", data=data(98), to=[other.ip, OTHER]), do("recvmsg", "b", room=0)]
    steps += [
        do("sendmsg", "a", data=data(1), to=[other.ip, OTHER], control=[["pktinfo", 0, "10.9.9.9"]]),
        do("sendmsg", "a", data=data(1), to=[other.ip, OTHER], control=[["pktinfo", 9999, one.ip]]),
    ]
    compared.both(steps)


def test_software_and_hardware_time_stamps(two: Pair, compared: Compared) -> None:
    """N10: SO_TIMESTAMPING gives the stamps that it gives with the kernel's sockets."""
    _standing, one, other = two
    for value in (0x18, 0x44, 0x5C):  # software; raw hardware; both received and reported
        steps = both_open(one, other)
        steps.append(do("set", "b", name="timestamping", value=value))
        for number in range(3):
            steps += [do("sendto", "a", data=data(number), to=[other.ip, OTHER]), do("recvmsg", "b")]
        compared.both(steps)


def test_flags_and_timeouts(two: Pair, compared: Compared) -> None:
    """N10: MSG_PEEK leaves a datagram, MSG_TRUNC tells its length, MSG_DONTWAIT and SO_RCVTIMEO end with
    EAGAIN, SO_PEEK_OFF is the kernel's; what is cut off is gone."""
    _standing, one, other = two
    steps = both_open(one, other)
    for number in range(3):
        steps.append(do("sendto", "a", data=data(number, 300), to=[other.ip, OTHER]))
    steps += [
        do("recvmsg", "b", flags=["peek"]),
        do("recvmsg", "b", flags=["peek"], size=10),
        do("recvmsg", "b", flags=["peek", "trunc"], size=10),
        do("recv_into", "b", flags=["trunc", "peek"], size=400),
        do("recvmsg", "b", size=10),
        do("recvfrom", "b", flags=["peek"]),
        do("read", "b", size=5),
        do("recvmsg", "b", flags=["waitall"]),
        look("b"),
        do("recvmsg", "b", flags=["dontwait", "peek"]),
        do("timeout", "b", seconds=0.05),
        do("recvfrom", "b"),
        do("recvmmsg", "b", many=2),
        do("timeout", "b", seconds=LONG),
        do("blocking", "b", value=False),
        do("recvfrom", "b"),
        do("read", "b"),
        do("sendto", "a", data=data(9), to=[other.ip, OTHER]),
        do("poll", "b", seconds=LONG),
        do("recvfrom", "b"),
    ]
    compared.both(steps)


def test_flags_that_mean_nothing(two: Pair, compared: Compared) -> None:
    """N10: MSG_NOSIGNAL, which programs give on receiving too, changes nothing, and is fast."""
    _standing, one, other = two
    steps = both_open(one, other)
    for number, way in enumerate(("recv", "recvfrom", "recvmsg", "recv_into")):
        steps += [
            do("sendto", "a", data=data(number), to=[other.ip, OTHER], flags=["nosignal"]),
            do(way, "b", flags=["nosignal"]),
        ]
    run = compared.both(steps)
    run.fast(compared.cookie(one), ONE, sent=4, claimed=0)
    run.fast(compared.cookie(other), OTHER, sent=0, claimed=4)


def test_waiting_for_several_sockets(two: Pair, compared: Compared) -> None:
    """N10: poll, select and epoll (level, edge, one shot; one socket in two sets) tell of what has come to
    accelerated sockets as of any other."""
    _standing, one, other = two
    steps = [*both_open(one, other), *opened("c", other, 7003), *opened("d", other)]
    to = [other.ip, OTHER]
    steps += [
        do("epoll", "b", set="level"),
        do("epoll", "b", set="edge", edge=True),
        do("epoll", "b", set="once", oneshot=True),
        do("epoll", "c", set="level"),
        do("poll", ["b", "c"], seconds=0),
        do("sendto", "a", data=data(1), to=to),
        do("poll", ["b", "c"], seconds=LONG),
        do("select", ["c", "b"], seconds=LONG),
        {"op": "epoll_wait", "set": "level", "seconds": LONG},
        {"op": "epoll_wait", "set": "edge", "seconds": LONG},
        {"op": "epoll_wait", "set": "edge", "seconds": 0},
        {"op": "epoll_wait", "set": "once", "seconds": LONG},
        {"op": "epoll_wait", "set": "once", "seconds": 0},
        {"op": "epoll_wait", "set": "level", "seconds": 0},
        do("recvfrom", "b", flags=["dontwait"]),
        {"op": "epoll_wait", "set": "level", "seconds": 0},
        do("sendto", "a", data=data(2), to=[other.ip, 7003]),
        {"op": "epoll_wait", "set": "level", "seconds": LONG},
        do("recvfrom", "c"),
        do("sendto", "a", data=data(3), to=to),
        {"op": "epoll_wait", "set": "edge", "seconds": LONG},
        do("epoll", "b", set="once", oneshot=True, again=True),
        {"op": "epoll_wait", "set": "once", "seconds": LONG},
        do("recvfrom", "b", flags=["dontwait"]),
    ]
    compared.both(steps)


@pytest.mark.parametrize("way", ["poll", "select", "epoll", "edge"])
def test_one_receive_for_each_time_it_is_told(two: Pair, compared: Compared, way: str) -> None:
    """N9, N10: a server that waits, takes one datagram, and waits again never sees its socket empty: also
    after one that was the kernel's (a fragmented one) all of them are claimed."""
    _standing, one, other = two
    count = 6
    steps = both_open(one, other)
    steps += [do("epoll", "b", set="set", edge=way == "edge")]
    steps += [do("sendto", "a", data=data(0, 3000), to=[other.ip, OTHER])]
    wait = {"op": "epoll_wait", "set": "set", "seconds": LONG}
    if way in ("poll", "select"):
        wait = do(way, "b", seconds=LONG)
    steps += [wait, do("recvfrom", "b", size=4096)]
    for number in range(1, count + 1):
        steps += [do("sendto", "a", data=data(number), to=[other.ip, OTHER]), wait, do("recvfrom", "b")]
    run = compared.both(steps)
    assert run.counters(compared.cookie(one), ONE)["tx_kernel"] == {"size": 1}
    run.fast(compared.cookie(other), OTHER, sent=0, claimed=count)


@pytest.mark.parametrize("loop", [0, 1])
def test_multicast_is_sent(pair: Pair, compared: Compared, loop: int) -> None:
    """N2, N9, N10: IP_MULTICAST_IF and the route choose the device, IP_MULTICAST_TTL is in the frame. It is
    fast, but where a copy stays on this host: for a member of the sender's namespace (IP_MULTICAST_LOOP), or
    for other macvlans of the port."""
    _standing, one, other = pair
    steps = [
        *opened("a", one, ONE),
        *opened("b", other, OTHER, "0.0.0.0"),
        *opened("c", one, OTHER, "0.0.0.0"),
    ]
    steps += [
        do("member", "b", group=GROUP, interface=other.ip),
        do("member", "c", group=GROUP, interface=one.ip),
        do("set", "a", name="multicast_loop", value=loop),
        do("multicast_if", "a", interface=one.ip),
    ]
    for number, ttl in enumerate((1, 4, 255)):
        steps += [
            do("set", "a", name="multicast_ttl", value=ttl),
            do("sendto", "a", data=data(number), to=[GROUP, OTHER]),
            do("recvfrom", "b"),
        ]
        steps += [do("recvfrom", "c")] if loop else []
    run = compared.both(steps)
    if loop or one.device().kind == "macvlan":
        assert run.counters(compared.cookie(one), ONE)["tx_kernel"]["loop"] == 3
    else:
        run.fast(compared.cookie(one), ONE, sent=3, claimed=0)


def test_multicast_is_received(pair: Pair, compared: Compared) -> None:
    """N3, N9, N10: a member's datagrams are claimed, those of two members in a namespace by both; one
    that left the group gets none."""
    _standing, one, other = pair
    steps = [*opened("a", one, ONE), *opened("b", other, OTHER, GROUP)]
    steps += [do("set", "a", name="multicast_loop", value=0), do("multicast_if", "a", interface=one.ip)]
    steps += [do("member", "b", group=GROUP, interface=other.ip), *ready("b")]
    for number in range(4):
        steps += [do("sendto", "a", data=data(number), to=[GROUP, OTHER]), do("recvfrom", "b")]
    run = compared.both(steps)
    run.fast(compared.cookie(other), OTHER, sent=0, claimed=4)
    several = opened("a", one, ONE)
    several += [do("set", "a", name="multicast_loop", value=0), do("multicast_if", "a", interface=one.ip)]
    for name in ("b", "c"):
        several += [
            do("open", name, netns=other.netns, seconds=LONG),
            do("set", name, name="reuseaddr", value=1),
            do("bind", name, to=[GROUP, OTHER]),
            do("member", name, group=GROUP, interface=other.ip),
            *ready(name),
        ]
    for number in range(3):
        several += [
            do("sendto", "a", data=data(number), to=[GROUP, OTHER]),
            do("recvfrom", "b"),
            do("recvfrom", "c"),
        ]
    several += [
        do("member", "c", group=GROUP, interface=other.ip, leave=True),
        do("sendto", "a", data=data(7), to=[GROUP, OTHER]),
        do("recvfrom", "b"),
        look("c"),
    ]
    run = compared.both(several)
    claimed = [one["claimed"] for one in run.accelerated if one["local"][1] == OTHER]
    assert sorted(claimed) == [3, 4], run.accelerated


def test_broadcast(two: Pair, compared: Compared) -> None:
    """N10: broadcasts go out and come in; without SO_BROADCAST they are refused."""
    _standing, one, other = two
    steps = [*opened("a", one, ONE), *opened("b", other, OTHER, "0.0.0.0")]
    steps += [do("sendto", "a", data=data(0), to=["10.1.0.255", OTHER])]
    steps += [do("set", "a", name="broadcast", value=1)]
    for number, to in enumerate(("10.1.0.255", "255.255.255.255")):
        steps += [do("device", "a", name=one.device().name)]
        steps += [do("sendto", "a", data=data(number), to=[to, OTHER]), do("recvfrom", "b")]
    compared.both(steps)


def test_bound_to_a_device(pair: Pair, compared: Compared) -> None:
    """N2: SO_BINDTODEVICE names a device of the socket's namespace, and datagrams come and go by it alone."""
    standing, one, other = pair
    device = standing.device(one, one.device())
    steps = [
        *opened("a", one),
        do("device", "a", name=device),
        do("bind", "a", to=["0.0.0.0", ONE]),
        look("a"),
    ]
    steps += opened("b", other, OTHER)
    steps += echo("b", "a", [other.ip, OTHER], [one.ip, ONE], 4)
    steps += [do("device", "a", name="lo"), do("sendto", "a", data=data(1), to=[other.ip, OTHER])]
    compared.both(steps)


def test_options_that_only_the_kernel_serves(two: Pair, compared: Compared) -> None:
    """N9, N10: IP options, UDP_SEGMENT, no checksum, MSG_MORE, SO_DONTROUTE: the kernel's path, the kernel's
    result."""
    _standing, one, other = two
    to = [other.ip, OTHER]
    steps = both_open(one, other)
    steps += [do("connect", "a", to=to)]
    steps += [do("send", "a", data=data(1, 50), flags=["more"]), do("send", "a", data=data(2, 60))]
    steps += [do("recvfrom", "b"), do("send", "a", data=data(3, 30), flags=["confirm", "dontroute"])]
    steps += [do("recvfrom", "b"), do("send", "a", data=data(4), flags=["oob"])]
    steps += [do("set", "a", name="no_check", value=1), do("send", "a", data=data(5)), do("recvfrom", "b")]
    steps += [do("set", "a", name="no_check", value=0), do("set", "a", name="segment", value=100)]
    steps += [do("send", "a", data=data(6, 350)), *[do("recvfrom", "b") for _ in range(4)]]
    steps += [do("set", "a", name="segment", value=0)]
    steps += [do("sendmsg", "a", data=data(7, 250), control=[["segment", 100]])]
    steps += [do("recvfrom", "b") for _ in range(3)]
    steps += [
        do("set", "a", name="options", hex="01010100"),
        do("send", "a", data=data(8)),
        do("recvfrom", "b"),
    ]
    steps += [do("set", "a", name="options", hex=""), do("set", "a", name="mark", value=7)]
    steps += [do("send", "a", data=data(9)), do("recvfrom", "b"), do("set", "b", name="gro", value=1)]
    steps += [do("send", "a", data=data(10)), do("recvfrom", "b")]
    compared.both(steps)


def test_errors_come_when_the_kernel_tells_them(two: Pair, compared: Compared) -> None:
    """N10: a port nobody has gives ECONNREFUSED to a connected socket, once, to the next call; IP_RECVERR
    queues it; a socket that is shut down says so."""
    _standing, one, other = two
    steps = both_open(one, other)
    steps += [do("connect", "a", to=[other.ip, 7009])]
    for call in ("recv", "recvmsg", "error"):
        steps += [do("send", "a", data=data(1)), do("poll", "a", seconds=LONG), do(call, "a"), look("a")]
    steps += [do("send", "a", data=data(2)), do("poll", "a", seconds=LONG)]
    steps += [do("send", "a", data=data(3)), do("error", "a")]
    steps += [do("set", "a", name="recverr", value=1), do("send", "a", data=data(4))]
    steps += [
        do("poll", "a", seconds=LONG),
        do("recv", "a"),
        do("recvmsg", "a", flags=["errqueue", "dontwait"]),
    ]
    steps += [do("connect", "a", to=[other.ip, OTHER]), do("send", "a", data=data(5)), do("recvfrom", "b")]
    steps += [do("shutdown", "a", how=1), do("send", "a", data=data(6))]
    steps += [do("shutdown", "a", how=0), do("recv", "a")]
    compared.both(steps)


def test_memory_that_is_not_there(two: Pair, compared: Compared) -> None:
    """N10, N6: a send from a wrong address, or from memory that ends in the middle, fails as the kernel's
    does: after an error that waits, before what the card would get, and with nothing sent."""
    _standing, one, other = two
    steps = [*both_open(one, other), do("connect", "a", to=[other.ip, OTHER]), *ready("a")]
    for address in (0, 8, 0xFFFF800000000000, 0xFFFFFFFFFFFFFFF0, 1 << 63):
        steps += [do("send_wild", "a", address=address, length=length) for length in (0, 1, 64, 1472, 5000)]
        steps += [do("send", "a", data=data(1)), do("recvfrom", "b")]
    # a datagram of nothing may come from anywhere that a process may have
    steps += [do("recvfrom", "b"), do("recvfrom", "b")]
    for short, length in ((0, 1), (1, 2), (7, 8), (8, 9), (64, 64), (64, 65), (1471, 1472), (1472, 1472)):
        steps.append(do("send_wild", "a", short=short, length=length))
    steps += [do("recvfrom", "b"), do("recvfrom", "b"), do("send", "a", data=data(2)), do("recvfrom", "b")]
    steps += [do("connect", "a", to=[other.ip, 7009])]
    steps += [do("send", "a", data=data(3)), do("poll", "a", seconds=LONG)]
    steps += [do("send_wild", "a", address=8, length=64), do("send_wild", "a", address=8, length=64)]
    compared.both(steps)


def test_connecting_again(two: Pair, compared: Compared) -> None:
    """N10: a socket connected anew, disconnected, and unbound sends and hears what the kernel's does."""
    _standing, one, other = two
    steps = [*both_open(one, other), *opened("c", other, 7003)]
    steps += [do("connect", "a", to=[other.ip, OTHER]), do("send", "a", data=data(1)), do("recvfrom", "b")]
    steps += [do("connect", "a", to=[other.ip, 7003]), do("send", "a", data=data(2)), do("recvfrom", "c")]
    steps += [do("sendto", "b", data=data(3), to=[one.ip, ONE])]  # not heard: another peer's
    steps += [do("sendto", "c", data=data(4), to=[one.ip, ONE]), do("recvfrom", "a"), do("peer", "a")]
    steps += [do("disconnect", "a"), do("name", "a"), do("peer", "a"), do("send", "a", data=data(5))]
    steps += [do("sendto", "b", data=data(6), to=[one.ip, ONE]), do("recvfrom", "a")]
    steps += [do("sendto", "a", data=data(7), to=[other.ip, OTHER]), do("recvfrom", "b"), look("a")]
    compared.both(steps)


def test_who_gets_it_among_several(two: Pair, compared: Compared) -> None:
    """N10: specific before wildcard, connected before both, one of a SO_REUSEPORT group always the same for
    the same flow: who gets a datagram is whom the kernel would have chosen."""
    _standing, one, other = two
    steps = opened("a", one, ONE)
    for name, address in (("wild", "0.0.0.0"), ("exact", other.ip), ("tied", other.ip)):
        steps += [
            do("open", name, netns=other.netns, seconds=LONG),
            do("set", name, name="reuseaddr", value=1),
            do("bind", name, to=[address, OTHER]),
            *ready(name),
        ]
    steps += [do("connect", "tied", to=[one.ip, ONE])]
    to = [other.ip, OTHER]
    steps += [do("sendto", "a", data=data(1), to=to), do("recvfrom", "tied"), do("close", "tied")]
    steps += [do("sendto", "a", data=data(2), to=to), do("recvfrom", "exact"), do("close", "exact")]
    steps += [do("sendto", "a", data=data(3), to=to), do("recvfrom", "wild"), do("close", "wild")]
    for name in ("r1", "r2"):
        steps += [
            do("open", name, netns=other.netns, seconds=LONG),
            do("set", name, name="reuseport", value=1),
            do("bind", name, to=[other.ip, OTHER]),
            *ready(name),
        ]
    steps += [do("sendto", "a", data=data(4), to=to), do("poll", ["r1", "r2"], seconds=LONG)]
    steps += [look("r1"), look("r2")]
    compared.both(steps)


def test_a_blocking_receiver_beside_a_sender(pair: Pair, compared: Compared) -> None:
    """N10: threads that wait in recvfrom, and answer, while another sends: each datagram once, in order, past
    the kernel both ways."""
    _standing, one, other = pair
    count = 40
    server: Steps = []
    client: Steps = []
    for number in range(count):
        server += [do("recvfrom", "b"), do("sendto", "b", data=data(number + 1000), to=[one.ip, ONE])]
        client += [do("sendto", "a", data=data(number), to=[other.ip, OTHER]), do("recvfrom", "a")]
    run = compared.both(client, {"server": server}, before=both_open(one, other))
    # While another thread of the process goes to sleep, what is held goes to the kernel: not all is claimed.
    for namespace, port in ((one, ONE), (other, OTHER)):
        told = run.counters(compared.cookie(namespace), port)
        assert told["tx_fast"] == count, told
        assert told["claimed"] + sum(told["rx_kernel"].values()) == count, told
        assert told["claimed"] > count // 2, told

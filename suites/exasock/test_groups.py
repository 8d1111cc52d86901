"""One datagram, several receivers: members of a group, and everybody who hears a broadcast.

    card0:0 --- a     lan0 (port, or vlan 5)   10.1.0.1/24   sends
    card0:1 --- peer  lan0 (port, or vlan 5)   10.1.0.2/24   receives, with several sockets

Each has its own copy, past the kernel where it can be, by the kernel and for it alone where it cannot; where
somebody listens who is not accelerated, the kernel has it as a whole (N9, N10). The counters are exact.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.deadline import scaled
from suites.exasock import guest_calls
from suites.exasock.compare import SPINNING, Compared, Run
from suites.exasock.ends import acquaint, peer, subject
from suites.exasock.steps import LONG, Steps, data, do, look, opened, ready
from suites.place import Placed
from suites.session import KERNEL
from suites.topology import Namespace, Topology

Two = tuple[Placed, Namespace, Namespace]
ONE, OTHER = 7001, 7002
GROUP = "239.1.2.3"
MEMBERS = ("m0", "m1", "m2")


@pytest.fixture(params=["port", "vlan"])
def linked(request: pytest.FixtureRequest, place: Callable[[Topology], Placed], compared: Compared) -> Two:
    standing = place(Topology(f"over {request.param}", (subject("a", request.param), peer(request.param))))
    one, other = standing["a"], standing["peer"]
    acquaint(compared, standing, one, other)
    return standing, one, other


def sender(one: Namespace) -> Steps:
    return [
        *opened("a", one, ONE),
        do("set", "a", name="multicast_loop", value=0),
        do("multicast_if", "a", interface=one.ip),
    ]


def member(name: str, namespace: Namespace, share: str = "reuseaddr", option: str = "reuseaddr") -> Steps:
    """One more socket on the port, in the group, with an option, looked at."""
    return [
        do("open", name, netns=namespace.netns, seconds=LONG),
        do("set", name, name=share, value=1),
        do("set", name, name=option, value=1),
        do("bind", name, to=[GROUP, OTHER]),
        do("member", name, group=GROUP, interface=namespace.ip),
        *ready(name),
    ]


def to_all(number: int, names: tuple[str, ...] = MEMBERS, size: int = 64) -> Steps:
    """One to the group, and each of these has it."""
    return [
        do("sendto", "a", data=data(number, size), to=[GROUP, OTHER]),
        *(do("recvfrom", name) for name in names),
    ]


def told(run: Run, cookie: int) -> list[dict[str, object]]:
    """What is counted for the sockets on OTHER of a namespace, in the order they were opened."""
    found = [one for one in run.accelerated if one["netns"] == cookie and one["local"][1] == OTHER]
    return [{name: one[name] for name in ("claimed", "rx_taken", "rx_kernel")} for one in found]


def test_every_member_has_it_past_the_kernel(linked: Two, compared: Compared) -> None:
    """N3, N9, N10: three members on one port: each claims each datagram of the group, none goes the kernel's
    way; with pktinfo each is told the group and the device."""
    _standing, one, other = linked
    steps = sender(one)
    for name in MEMBERS:
        steps += member(name, other, option="pktinfo")
    for number, size in enumerate((0, 64, 600, 1472)):
        steps += to_all(number, size=size)
    steps += [do("sendto", "a", data=data(9), to=[GROUP, OTHER]), *(do("recvmsg", name) for name in MEMBERS)]
    steps += [do("member", "m1", group=GROUP, interface=other.ip, leave=True)]
    run = compared.both(steps)
    claimed = [one["claimed"] for one in told(run, compared.cookie(other))]
    assert claimed == [5, 5, 5], run.accelerated
    assert not run.reasons("rx_kernel"), run.accelerated


def test_one_that_is_taken_back_is_for_that_member_alone(linked: Two, compared: Compared) -> None:
    """N9, N10: what a member does not claim is the kernel's, in that member's queue: the others, who have
    theirs, do not get it again."""
    _standing, one, other = linked
    steps = sender(one)
    for name in MEMBERS:
        steps += member(name, other)
    for number in range(3):
        steps += [
            do("sendto", "a", data=data(number), to=[GROUP, OTHER]),
            do("recvfrom", "m0"),
            do("recvfrom", "m1", flags=["peek"]),  # only the kernel knows how
            look("m0"),
            do("recvfrom", "m1"),
            do("recvfrom", "m2"),
            *(look(name) for name in MEMBERS),
        ]
    run = compared.both(steps)
    claimed = [(one["claimed"], one["rx_taken"]) for one in told(run, compared.cookie(other))]
    assert sorted(claimed, key=str) == [(0, 3), (3, 0), (3, 0)], run.accelerated


def test_members_that_do_not_look_or_want_more(linked: Two, compared: Compared) -> None:
    """N9, N10: a member with something queued, and one with an option that is the kernel's alone, have theirs
    by the kernel, with that reason; the third claims its own."""
    _standing, one, other = linked
    steps = sender(one)
    for name in MEMBERS:
        steps += member(name, other, option="gro" if name == "m2" else "reuseaddr")
    steps += [
        do("sendto", "a", data=data(1), to=[GROUP, OTHER]),
        do("recvfrom", "m0"),
        do("recvfrom", "m1", flags=["peek"]),  # in its own queue from now on
        do("sendto", "a", data=data(2), to=[GROUP, OTHER]),
        *(do("recvfrom", name) for name in ("m0", "m1", "m1", "m2", "m2")),
        *(look(name) for name in MEMBERS),
    ]
    run = compared.both(steps)
    found = told(run, compared.cookie(other))
    assert {"claimed": 2, "rx_taken": 0, "rx_kernel": {}} in found, found
    assert {"claimed": 0, "rx_taken": 0, "rx_kernel": {"option": 2}} in found, found
    assert run.reasons("rx_kernel")["sleep"] == 1, found


@pytest.mark.parametrize("share", ["reuseport", "unknown"])
def test_the_kernel_has_it_where_it_must(
    two: Two, compared: Compared, share: str, defer: Callable[..., None]
) -> None:
    """N9, N10: members that share their port by SO_REUSEPORT, and those beside a socket that is not
    accelerated, have it from the kernel, and `shared` is counted for each that is ours."""
    _standing, one, other = two
    steps = sender(one)
    for name in MEMBERS[:2]:
        steps += member(name, other, "reuseport" if share == "reuseport" else "reuseaddr")
    for number in range(3):
        steps += to_all(number, MEMBERS[:2])
    agent = compared.session.agent
    beside = [] if share == "reuseport" else member("m2", other)
    agent.call(guest_calls.run, program="beside", steps=beside, keep=True, timeout=scaled(3))
    defer(agent.call, guest_calls.close, program="beside")
    run = compared.both(steps)
    assert [one["rx_kernel"] for one in told(run, compared.cookie(other))] == [{"shared": 3}] * 2
    if beside:
        asked = [look("m2")] * 7  # three of each run, and no more
        heard = agent.call(guest_calls.run, program="beside", steps=asked, keep=True)
        assert [one.get("errno") for one in heard] == [None] * 6 + ["EAGAIN"], heard


@pytest.mark.parametrize("to", ["10.1.0.255", "255.255.255.255"])
def test_broadcasts_are_heard_by_all_who_are_bound(linked: Two, compared: Compared, to: str) -> None:
    """N2, N3, N10: a broadcast is everybody's who is bound to the port and to no other kind of address, past
    the kernel; sending one is the kernel's."""
    standing, one, other = linked
    steps = [*opened("a", one, ONE), do("set", "a", name="broadcast", value=1)]
    steps += [do("device", "a", name=standing.device(one, one.device()))]
    for name, address in (("m0", "0.0.0.0"), ("m1", "0.0.0.0"), ("m2", to), ("m3", other.ip)):
        steps += [
            do("open", name, netns=other.netns, seconds=LONG),
            do("set", name, name="reuseaddr", value=1),
            do("bind", name, to=[address, OTHER]),
            *ready(name),
        ]
    for number in range(4):
        steps += [do("sendto", "a", data=data(number), to=[to, OTHER])]
        steps += [do("recvfrom", name) for name in MEMBERS]
        steps += [look("m3")]
    run = compared.both(steps)
    assert sorted(one["claimed"] for one in run.accelerated if one["local"][1] == OTHER) == [0, 4, 4, 4]
    assert not run.reasons("rx_kernel"), run.accelerated


def test_what_came_first_is_read_first(linked: Two, compared: Compared) -> None:
    """N10: what is held for a socket is older than what came to its queue by another way since: a datagram of
    the card, then one by the loopback device, and the other way round."""
    _standing, one, other = linked
    steps = [*opened("a", one, ONE), *opened("b", other, OTHER, "0.0.0.0"), *opened("c", other, 7003)]
    for number in range(0, 20, 2):
        for at, who in enumerate("ac" if number % 4 else "ca"):
            steps += [do("sendto", who, data=data(number + at), to=[other.ip, OTHER])]
            steps += [] if at else [do("poll", "b", seconds=LONG)]
        steps += [do("recvfrom", "b"), do("recvfrom", "b"), look("b")]
    run = compared.both(steps)
    counted = run.counters(compared.cookie(other), OTHER)
    assert counted["claimed"] >= 5, counted


def test_what_was_not_read_in_time_may_come_later(two: Two, compared: Compared) -> None:
    """The difference listed: a held datagram that goes to the kernel after all, here since the next one does,
    is queued behind what came by another device meanwhile; each device's own order stays."""
    _standing, one, other = two
    steps = [*opened("a", one, ONE), *opened("b", other, OTHER, "0.0.0.0"), *opened("c", other, 7003)]
    for number, who in enumerate("aca"):
        steps += [do("sendto", who, data=data(number), to=[other.ip, OTHER])]
        steps += [] if number else [do("poll", "b", seconds=LONG)]
    steps += [do("recvfrom", "b") for _ in "aca"]
    kernel, ours = (compared.run(kind, steps) for kind in (KERNEL, SPINNING))
    seeds = [[one["ok"][0]["seed"] for one in run.results[-3:]] for run in (kernel, ours)]
    assert seeds[0] == [0, 1, 2]
    assert sorted(seeds[1]) == [0, 1, 2] and seeds[1].index(0) < seeds[1].index(2), seeds

"""Sockets and their namespaces: whose a socket is, what it may reach, what it keeps alive (N1 to N7, N12).

card0:0 -+- a1  vlan 5   10.1.0.1     the same addresses, device names, ports and
         +- a2  vlan 6   10.1.0.1     interface indexes in both
card0:1 -+- b1  vlan 5   10.1.0.2
         +- b2  vlan 6   10.1.0.2
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from lab.deadline import scaled
from suites.exasock import guest_calls, guest_life
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint
from suites.exasock.steps import LONG, Steps, data, do, echo, opened, ready
from suites.guest import exasock, namespaces
from suites.place import Placed
from suites.session import KERNEL, Session, SocketKind
from suites.topology import INITIAL, Device, Namespace, Topology

Place = Callable[[Topology], Placed]
ONE, OTHER = 7001, 7002


def overlapping() -> Topology:
    made = []
    for side, port, host in (("a", "card0:0", 1), ("b", "card0:1", 2)):
        for group in (1, 2):
            device = Device("vlan", "lan0", port, vid=4 + group, addresses=(f"10.1.0.{host}/24",))
            made.append(Namespace(f"{side}{group}", (device,)))
    return Topology("two pairs with the same addresses", tuple(made))


@pytest.fixture
def pairs(place: Place, compared: Compared) -> Placed:
    standing = place(overlapping())
    for group in (1, 2):
        acquaint(compared, standing, standing[f"a{group}"], standing[f"b{group}"])
    return standing


def test_sockets_of_four_namespaces_in_one_thread(pairs: Placed, compared: Compared) -> None:
    """N3, N4, N5: one thread, four namespaces, the same addresses and ports in two pairs of them: each
    datagram past the kernel, to the socket of its VLAN."""
    steps: Steps = []
    for group in (1, 2):
        steps += opened(f"a{group}", pairs[f"a{group}"], ONE)
        steps += opened(f"b{group}", pairs[f"b{group}"], OTHER)
    for number in range(8):
        steps += [
            do("sendto", "a1", data=data(number), to=["10.1.0.2", OTHER]),
            do("sendto", "a2", data=data(100 + number), to=["10.1.0.2", OTHER]),
            do("recvfrom", "b2"),
            do("recvfrom", "b1"),
            do("sendto", "b2", data=data(200 + number), to=["10.1.0.1", ONE]),
            do("recvfrom", "a2"),
        ]
    run = compared.both(steps)
    run.fast(compared.cookie(pairs["a1"]), ONE, sent=8, claimed=0)
    run.fast(compared.cookie(pairs["b1"]), OTHER, sent=0, claimed=8)
    run.fast(compared.cookie(pairs["a2"]), ONE, sent=8, claimed=8)
    run.fast(compared.cookie(pairs["b2"]), OTHER, sent=8, claimed=8)


def test_a_socket_stays_where_it_was_made(pairs: Placed, compared: Compared) -> None:
    """N1: a process that joins another namespace, or makes one of its own, goes on with the socket it has:
    bound before or after, it speaks in the namespace of its creation only."""
    opening = [*opened("b", pairs["b1"], OTHER), *opened("other", pairs["b2"], OTHER)]
    steps: Steps = [
        *ready("b"),
        do("open", "a", netns="a1", seconds=LONG),
        do("setns", "", netns="a2"),
        do("bind", "a", to=["10.1.0.1", ONE]),
        *ready("a"),
    ]
    steps += echo("b", "a", ["10.1.0.2", OTHER], ["10.1.0.1", ONE], 4)
    steps += [do("unshare", "")]
    steps += echo("b", "a", ["10.1.0.2", OTHER], ["10.1.0.1", ONE], 4)
    steps += [do("recv", "other", flags=["dontwait"])]
    run = compared.both(steps, before=opening)
    run.fast(compared.cookie(pairs["a1"]), ONE, sent=8, claimed=8)
    run.fast(compared.cookie(pairs["b1"]), OTHER, sent=8, claimed=8)


def test_a_namespace_sees_its_own_sockets_only(pairs: Placed, compared: Compared, session: Session) -> None:
    """N6: who is in a namespace is told of the sockets there, and of no others."""
    worker = compared.programs(SPINNING).worker("program")
    worker.load(guest_calls)
    steps = [*opened("a", pairs["a1"], ONE), *opened("b", pairs["b2"], OTHER)]
    compared.soiled = True
    worker.call(guest_calls.run, program="p", steps=steps, keep=True)
    for name, port in (("a1", ONE), ("b2", OTHER)):
        told = session.agent.call(exasock.accelerated, netns=name, everything=False)
        assert [(one["netns"], one["local"]) for one in told] == [
            (compared.cookie(pairs[name]), [pairs[name].ip, port])
        ]
    assert session.agent.call(exasock.accelerated, netns="a2", everything=False) == []
    shown = session.agent.exec(["exasock-stat"], netns="a1").stdout
    assert str(ONE) in shown and str(OTHER) not in shown
    worker.call(guest_calls.close, program="p")
    compared.soiled = False


#: Looks about as long as an answer takes, so that who is to answer has the processor in between.
BRIEFLY = SocketKind("exasock-briefly", (*SPINNING.prefix[:1], "--spin=2000"))


@pytest.mark.parametrize("taker", [KERNEL, BRIEFLY], ids=lambda kind: kind.name)
@pytest.mark.parametrize("owner", [KERNEL, BRIEFLY], ids=lambda kind: kind.name)
def test_a_socket_received_by_a_message_stays_where_it_was_made(
    pairs: Placed, compared: Compared, session: Session, owner: SocketKind, taker: SocketKind
) -> None:
    """N1, N5: a socket passed by SCM_RIGHTS to a process of another namespace, where the same addresses and
    ports are in use, speaks in its own: past the kernel if its receiver is accelerated, whatever its giver
    was, and by the kernel if not."""
    script, count = "/run/exalab-life.py", 60
    session.agent.write_file(script, inspect.getsource(guest_life))
    python = ["python3", "-u", script]
    taking = session.agent.spawn(
        [*taker.prefix, *python, "borrow", "-", "0", str(count)], netns="a2", stdin=True
    )
    giving = None
    session.agent.load(guest_calls)
    try:
        taking.expect("^ready$", timeout=scaled(3))
        lending = [*owner.prefix, *python, "lend", pairs["a1"].ip, str(ONE), "0"]
        giving = session.agent.spawn(lending, netns="a1", stdin=True)
        giving.expect("^lent$", timeout=scaled(3))
        taking.expect("^borrowed$", timeout=scaled(3))
        steps = [*opened("b", pairs["b1"], OTHER), *opened("other", pairs["b2"], OTHER)]
        steps = [one for one in steps if one["op"] in ("open", "bind")]
        for number in range(count):
            steps += [do("sendto", "b", data=data(number), to=["10.1.0.1", ONE]), do("recvfrom", "b")]
        steps += [do("recv", "other", flags=["dontwait"])]
        run = compared.run(KERNEL, steps)
        answers = [one["ok"] for one in run.results if isinstance(one.get("ok"), list)]
        assert [one[0]["seed"] for one in answers] == list(range(count))
        assert {tuple(one[1]) for one in answers} == {("10.1.0.1", ONE)}
        assert run.results[-1] == {"errno": "EAGAIN"}
        taking.expect("^answered$", timeout=scaled(3))
        assert {frame.tags for frame in run.frames["card0:0"]} == {(5,)}
        assert session.agent.call(exasock.accelerated, netns="a2", everything=False) == []
        told = session.agent.call(exasock.accelerated, netns="a1", everything=False)
        if taker is KERNEL:
            assert told == []
        else:
            (one,) = told
            assert (one["netns"], one["pid"]) == (compared.cookie(pairs["a1"]), taking.pid)
            assert one["tx_fast"] == count, one
            assert one["claimed"] > 0, one
    finally:
        for process in (taking, giving):
            if process is not None:
                process.stop()


#: Asks /dev/exasock for everything, and says what it was told.
ASKING = f"""
import errno, fcntl, socket, struct
device = open("/dev/exasock", "r+b", buffering=0)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def ask(name, number, data):
    try:
        fcntl.ioctl(device, number, bytearray(data), True)
        print(name, "ok")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
ask("attach", {exasock.ATTACH}, struct.pack("{exasock.ATTACH_FORMAT}", sock.fileno(), 0, 0))
ask("list", {exasock.LIST}, struct.pack("{exasock.LIST_FORMAT}", *[0] * 13))
ask("list all", {exasock.LIST}, struct.pack("{exasock.LIST_FORMAT}", 0, 0, {exasock.LIST_ALL}, *[0] * 10))
ask("read", {exasock.SETTING}, struct.pack("{exasock.SETTING_FORMAT}", {exasock.BYPASS_FILTERS}, 0, 0))
ask("write", {exasock.SETTING}, struct.pack("{exasock.SETTING_FORMAT}", {exasock.BYPASS_FILTERS}, 1, 0))
"""
PRIVILEGES = {
    "root in a user namespace of its own": (
        ["unshare", "--user", "--map-root-user", "--net"],
        ["attach EPERM", "list ok", "list all EPERM", "read ok", "write ok"],
    ),
    "nobody where the card is": (
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        ["attach ok", "list ok", "list all EPERM", "read ok", "write EPERM"],
    ),
    "root where the card is": ([], ["attach ok", "list ok", "list all ok", "read ok", "write ok"]),
}


@pytest.mark.parametrize("who", PRIVILEGES)
def test_what_one_may_depends_on_where_one_is(pairs: Placed, session: Session, who: str) -> None:
    """N6: acceleration is for namespaces that were given a card, whoever is in them; settings for who
    administers the namespace; the list of all sockets for who administers the host."""
    prefix, expected = PRIVILEGES[who]
    told = session.agent.exec([*prefix, "python3", "-c", ASKING], netns="a1").stdout
    assert told.splitlines() == expected


def test_a_deleted_namespace_ends_with_its_last_socket(
    pairs: Placed, compared: Compared, session: Session
) -> None:
    """N7: `ip netns del` with an accelerated socket open: it goes on, past the kernel; when it is closed the
    namespace is freed, whatever its process still has open and mapped of other namespaces."""
    worker = compared.programs(SPINNING).worker("program")
    worker.load(guest_calls)
    compared.soiled = True
    a, b = pairs["a1"], pairs["b1"]
    kept = [*opened("a", a, ONE), *opened("b", b, OTHER), *opened("c", pairs["a2"], ONE)]
    worker.call(guest_calls.run, program="p", steps=kept, keep=True)
    session.agent.call(namespaces.unname, name="b1")
    exchanged = echo("b", "a", [b.ip, OTHER], [a.ip, ONE], 4)
    told = worker.call(guest_calls.run, program="p", steps=exchanged, keep=True)
    assert not [one for one in told if "errno" in one], told
    (counters,) = session.agent.call(exasock.accelerated, netns="a1", everything=False)
    assert counters["tx_fast"] == 4 and counters["claimed"] > 0, counters
    worker.call(guest_calls.run, program="p", steps=[do("close", "b")], keep=True)
    session.agent.call(namespaces.await_end, names=["b1"], seconds=scaled(3), timeout=scaled(6))
    told = worker.call(
        guest_calls.run, program="p", steps=echo("c", "c", [pairs["a2"].ip, ONE], [pairs["a2"].ip, ONE], 1)
    )
    assert not [one for one in told if "errno" in one], told
    compared.soiled = False


def test_namespaces_without_a_card_are_refused_politely(place: Place, compared: Compared) -> None:
    """N9, N10: in a namespace without a port of a card everything works, by the kernel, and why is told."""
    standing = place(Topology("no card", (Namespace("bare"),)))
    bare = standing["bare"]
    steps = [
        do("open", "a", netns=bare.netns, seconds=LONG),
        do("bind", "a", to=["127.0.0.1", ONE]),
        do("sendto", "a", data=data(1), to=["127.0.0.1", ONE]),
        do("recvfrom", "a"),
        do("sendto", "a", data=data(2), to=["10.1.0.2", ONE]),
    ]
    run = compared.both(steps)
    assert run.accelerated == []
    assert set(compared.session.agent.call(exasock.refused, netns=bare.netns)) == {"card"}


def test_the_loopback_is_the_kernels(pairs: Placed, compared: Compared) -> None:
    """N9, N10: what a namespace's sockets say to each other, and to 127.0.0.1, is delivered by the kernel,
    beside what overtakes it."""
    steps = [*opened("a", pairs["a1"], ONE, "0.0.0.0"), *opened("c", pairs["a1"], OTHER, "0.0.0.0")]
    steps += [*opened("b", pairs["b1"], OTHER)]
    for number, address in enumerate(("127.0.0.1", "10.1.0.1")):
        steps += [do("sendto", "a", data=data(number), to=[address, OTHER]), do("recvfrom", "c")]
        steps += [do("sendto", "c", data=data(number), to=[address, ONE]), do("recvfrom", "a")]
        steps += echo("b", "a", ["10.1.0.2", OTHER], ["10.1.0.1", ONE], 2)
    run = compared.both(steps)
    told = run.counters(compared.cookie(pairs["a1"]), ONE)
    assert told["tx_fast"] == 4 and told["claimed"] == 4, told
    assert told["tx_kernel"]["loop"] + told["tx_kernel"].get("skipped", 0) == 2, told


def test_what_is_not_asked_is_counted(pairs: Placed, compared: Compared) -> None:
    """N9: a destination that was refused is not asked about for a while; each datagram to it is counted all
    the same."""
    one = pairs["a1"]
    steps = [*opened("a", one, ONE), *opened("c", one, OTHER)]
    for number in range(100):
        steps += [do("sendto", "a", data=data(number), to=[one.ip, OTHER]), do("recvfrom", "c")]
    run = compared.both(steps)
    told = run.counters(compared.cookie(one), ONE)
    assert told["tx_kernel"]["loop"] + told["tx_kernel"]["skipped"] == 100, told
    assert told["tx_kernel"]["skipped"] > 64, told


@pytest.mark.parametrize("where", [INITIAL, "a"])
def test_the_cookie_names_the_namespace(place: Place, session: Session, where: str) -> None:
    """N4: a namespace is known by its cookie, the one that SO_NETNS_COOKIE tells."""
    place(Topology("one more", (Namespace("a"),)))
    netns = None if where == INITIAL else where
    told = session.agent.call(exasock.info, netns=netns)
    assert told["netns"] == session.agent.call(exasock.cookie, netns=netns)
    assert told["abi"] == exasock.ABI

"""TCP in 64 pairs of namespaces that are all the same, at once, while others' segments are forged.

    card0:0 -+- a1 ... a64   lan0  vlan 101 ... 164   10.1.0.1/24   clients, one process for all
             +- a65          lan0  vlan 165           10.1.0.1/24   has no connection
    card0:1 -+- b1 ... b64   lan0  vlan 101 ... 164   10.1.0.2/24   servers, one process for all
             +- b65          lan0  vlan 165           10.1.0.2/24   has a listener

Forged segments come from the tester with the addresses, ports and numbers of all the connections, untagged,
in a VLAN of nobody's and in that of the last pair, where nobody has such a connection.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Dot1Q, Ether

from lab.deadline import scaled
from suites.exasock import guest_many, guest_tcp
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.conftest import Examined
from suites.guest import streams
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology

pytestmark = pytest.mark.usefixtures("examined")
Place = Callable[[Topology], Placed]
PAIRS = 64
FIRST_VID, NOBODYS = 101, 99
OURS, THEIRS = ("10.1.0.1", 7600), ("10.1.0.2", 7400)
#: The next number of each side, of every connection.
AT = {"a": (1 << 32) - 8_000, "b": 5_000_000}
SIZE = 20_000
#: Forged frames of one round, and rounds.
ROUND, ROUNDS = 21, 60


def topology(macs: dict[str, str]) -> Topology:
    made = []
    for side, port, own, other in (("a", "card0:0", OURS, THEIRS), ("b", "card0:1", THEIRS, OURS)):
        mac = macs["card0:1" if side == "a" else "card0:0"]
        for number in range(PAIRS + 1):
            device = Device("vlan", "lan0", port, vid=FIRST_VID + number, addresses=(f"{own[0]}/24",))
            name = f"{side}{number + 1}"
            made.append(Namespace(name, (device,), neighbours=(("lan0", other[0], mac),)))
    return Topology(f"{PAIRS} pairs with the same everything, and one more", tuple(made))


def forged(macs: dict[str, str]) -> Iterator[bytes]:
    """Frames for ever: every kind of segment, at numbers before, in and behind what the connections have."""
    places = itertools.cycle([None, NOBODYS, FIRST_VID + PAIRS])
    ways = (("a", OURS, THEIRS, "card0:1"), ("b", THEIRS, OURS, "card0:0"))
    for turn in itertools.count():
        for flags in ("S", "R", "RA", "PA", "A", "FA", "SA"):
            for side, source, to, port in ways:
                head = Ether(src="02:7e:57:00:00:63", dst=macs[port])
                vid = next(places)
                if vid is not None:
                    head = head / Dot1Q(vlan=vid)
                other = "b" if side == "a" else "a"
                seq, ack = (AT[one] + turn * 997 % SIZE & 0xFFFFFFFF for one in (side, other))
                tcp = TCP(sport=source[1], dport=to[1], flags=flags, seq=seq, ack=ack, window=500)
                data = b"forged" * 20 if flags == "PA" else b""
                yield bytes(head / IP(src=source[0], dst=to[0]) / tcp / data)


@pytest.mark.parametrize("beginning", ["restored", "handshake"])
def test_64_namespaces_the_same_at_once(
    session: Session, place: Place, compared: Compared, examined: Examined, beginning: str
) -> None:
    """N3, N4, N5: the same addresses and ports in 64 pairs, and, restored, the same sequence numbers: each
    connection has its own bytes and no others, is past the stack, and is not disturbed by a flood of
    segments that are right in every respect but their VLAN; nobody answers them who must not."""
    wire = compared.wire
    macs = {one["end"]: one["mac"].lower() for one in session.control.ports() if one.get("mac")}
    standing = place(topology(macs))
    oracle = standing.oracle()
    client, server = (session.programs(SPINNING).worker(name) for name in ("clients", "servers"))
    for worker in (client, server):
        worker.load(guest_tcp, guest_many)
    session.agent.load(streams)
    compared.soiled = True
    labels = [str(number + 1) for number in range(PAIRS)]
    names = {side: [side + label for label in labels] for side in "ab"}
    server.call(guest_many.listen, names=["b65"], address=THEIRS[0], port=THEIRS[1])
    if beginning == "restored":
        examined.restored = True
        for worker, side, own, other in ((client, "a", OURS, THEIRS), (server, "b", THEIRS, OURS)):
            worker.call(
                guest_many.restore, names=names[side], labels=labels, local=own, peer=other,
                send=AT[side], receive=AT["b" if side == "a" else "a"],
            )  # fmt: skip
    else:
        server.call(guest_many.listen, names=names["b"], address=THEIRS[0], port=THEIRS[1])
        client.call(guest_many.connect, names=names["a"], labels=labels, to=THEIRS, local=OURS)
        server.call(guest_many.accept, names=names["b"], labels=labels)
    up = [[1000 + number, SIZE] for number in range(PAIRS)]
    down = [[2000 + number, SIZE] for number in range(PAIRS)]
    pending = []
    for worker, out, back in ((server, down, up), (client, up, down)):
        first = worker is client
        worker.call(guest_many.start, name="m", labels=labels, send=out, receive=back, first=first)
        pending.append(
            worker.submit("call", module=guest_many.__name__, function="finish", kwargs={"name": "m"})
        )
    flood = forged(macs)
    rounds = 0
    while rounds < ROUNDS and not all(one.done() for one in pending):
        for frame in itertools.islice(flood, ROUND):
            wire.send(frame)
        rounds += 1
        session.control.status()  # a round is through when cardd answers
    right = {"sent": SIZE, "received": SIZE, "differs": None, "error": None}
    for one in pending:
        told = one.result(scaled(12))
        assert {label: tell for label, tell in told.items() if tell != right} == {}
    assert rounds >= 10
    attached = [one for one in session.agent.call(streams.attached) if one["local"][1]]
    fast = {(one["netns"]) for one in attached if one["rx_bytes"] and one["tx_bytes"]}
    assert len(fast) == 2 * PAIRS, f"{len(fast)} of {2 * PAIRS}: {[one['refused'] for one in attached[:4]]}"
    assert [worker.call(guest_many.quiet, labels=labels) for worker in (client, server)] == [[], []]
    for worker in (client, server):
        worker.call(guest_tcp.close_all)
    compared.soiled = False
    assert [leak for end in ("card0:0", "card0:1") for leak in oracle.leaks(end, wire.captured(end))] == []

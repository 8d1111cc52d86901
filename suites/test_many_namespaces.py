"""Many namespaces at once: 2, 16, 128 and 512, created, used by all of them together, destroyed.

    card0:0 -+- n1    eth0  vlan 101   10.1.1.1/24      each with a VLAN and a network of its own,
             +- n2    eth0  vlan 102   10.1.2.1/24      and for 2 to 128 a partner in the same VLAN
             +- ...                                     on the other port
    card0:1 -+- p1    eth0  vlan 101   10.1.1.2/24
             +- ...
    switch sw0: card0:0 === card0:1 === tester:t0 (a station in every VLAN)

Times and memory are reported (properties of the test, and a table at the end of the run), never asserted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from suites import tiers
from suites.guest import health, namespaces
from suites.outside import Outside
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology
from suites.traffic import Traffic

Place = Callable[[Topology], Placed]
COUNTS = (2, 16, 128, 512)
FIRST_VID = 101


def network(number: int) -> str:
    """The first three bytes of the addresses of pair ``number``."""
    return f"10.{1 + number // 250}.{number % 250 + 1}"


def side(prefix: str, port: str, count: int, host: int) -> tuple[Namespace, ...]:
    """``count`` namespaces with a VLAN of ``port`` each; same number, same VLAN and network on both sides."""
    return tuple(
        Namespace(
            f"{prefix}{number + 1}",
            (
                Device(
                    "vlan", "eth0", port, vid=FIRST_VID + number, addresses=(f"{network(number)}.{host}/24",)
                ),
            ),
        )
        for number in range(count)
    )


class Figures:
    """Times and memory of one count: into the report of the test, and one line of the table."""

    def __init__(self, session: Session, record: Callable[[str, object], None], count: int) -> None:
        self.session, self.record, self.count = session, record, count
        self.values: dict[str, float] = {}
        self.before = self._memory()

    def _memory(self) -> dict[str, int]:
        memory: dict[str, int] = self.session.agent.call(health.memory, slabs=True)
        return memory

    def note(self, name: str, value: float) -> None:
        self.values[name] = value
        self.record(f"namespaces_{self.count}_{name}", round(value, 3))

    def memory(self) -> None:
        """Memory that one more namespace costs, and the slab caches that took most of it."""
        now = self._memory()
        grown = self.before["MemAvailable"] - now["MemAvailable"]
        self.note("kib_each", grown / self.count / 1024)
        slabs = {name: now[name] - self.before.get(name, 0) for name in now if name.startswith("slab:")}
        largest = sorted(slabs.items(), key=lambda item: -item[1])[:5]
        told = ", ".join(f"{name[5:]} {size / self.count / 1024:.1f}" for name, size in largest)
        self.record(f"namespaces_{self.count}_slabs_kib_each", told)
        self.note("percpu_kib_each", (now["Percpu"] - self.before["Percpu"]) / self.count / 1024)


def timed(note: Callable[[str, float], None], name: str, work: Callable[[], Any]) -> Any:
    start = time.monotonic()
    result = work()
    note(name, time.monotonic() - start)
    return result


@pytest.mark.by_kernel("its only traffic is ICMP")
@pytest.mark.parametrize("count", tiers.beyond([2, 16], COUNTS, "16 with more of them"))
def test_created_used_at_once_destroyed(
    place: Place,
    traffic: Traffic,
    wire: Outside,
    session: Session,
    count: int,
    record_property: Callable[[str, object], None],
    figures_table: list[Figures],
) -> None:
    """N1, N5, N7: hundreds of namespaces are created, ping their neighbour outside all at once, and one
    process listens with UDP and TCP sockets in all of them; deleted, they are freed, every one."""
    figures = Figures(session, record_property, count)
    figures_table.append(figures)
    for number in range(count):
        wire.station(number, f"{network(number)}.9", FIRST_VID + number)
    topology = Topology(f"{count} namespaces", side("n", "card0:0", count, 1))
    standing = timed(figures.note, "create_s", lambda: place(topology))
    everyone = topology.namespaces
    neighbours = [(one, f"{network(number)}.9") for number, one in enumerate(everyone)]
    timed(figures.note, "ping_s", lambda: traffic.ping(neighbours, seconds=6))
    figures.memory()
    for kind in ("udp", "tcp"):
        traffic.serve(kind, *everyone)
    figures.note("ms_each", 1000 * sum(standing.seconds.values()) / count)
    traffic.stop()
    timed(figures.note, "destroy_s", standing.destroy)
    assert session.agent.call(namespaces.alive) == session.baseline["alive"]


@pytest.mark.parametrize("count", tiers.beyond([2, 16], [2, 16, 128], "128 overlapping ones are in core"))
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_pairs_talk_at_once(place: Place, traffic: Traffic, wire: Outside, count: int, kind: str) -> None:
    """N1, N3: every namespace of one port talks with its partner on the other port at the same time; each
    record reaches its partner exactly once, nobody else, and no frame leaves where it should not."""
    ours, theirs = side("n", "card0:0", count, 1), side("p", "card0:1", count, 2)
    standing = place(Topology(f"{count} pairs", ours + theirs))
    traffic.serve(kind, *theirs)
    pairs = list(zip(ours, theirs, strict=True))
    traffic.exactly_once(kind, pairs, count=4, seconds=6)
    oracle = standing.oracle()
    for flow in traffic.flows:
        oracle.flow(flow.number, flow.source, *flow.targets)
    assert [leak for end in ("card0:0", "card0:1") for leak in oracle.leaks(end, wire.captured(end))] == []


@pytest.mark.full("twenty generations; one of each topology is in core")
def test_created_and_destroyed_again_and_again(place: Place, traffic: Traffic, session: Session) -> None:
    """N7: twenty generations of the same names, VLANs and addresses: nothing of one is left for the next."""
    wanted = Topology("a generation", side("n", "card0:0", 4, 1) + side("p", "card0:1", 4, 2))
    for _ in range(20):
        standing = place(wanted)
        standing.destroy()
    standing = place(wanted)
    pairs = [(standing[f"n{number}"], standing[f"p{number}"]) for number in (1, 2, 3, 4)]
    traffic.serve("udp", *(theirs for _ours, theirs in pairs))
    traffic.exactly_once("udp", pairs, count=4)


def test_sockets_keep_their_deleted_namespace_alive(place: Place, traffic: Traffic, session: Session) -> None:
    """N7: `ip netns del` with a socket still open: the socket goes on working; with the last one closed the
    namespace is freed."""
    ours = side("n", "card0:0", 1, 1)[0]
    theirs = side("p", "card0:1", 1, 2)[0]
    place(Topology("deleted alive", (ours, theirs)))
    traffic.serve("udp", theirs)
    session.agent.call(namespaces.unname, name=theirs.name)
    traffic.exactly_once("udp", [(ours, theirs)], count=4)
    assert len(session.agent.call(namespaces.alive)) == 2
    traffic.stop()
    session.agent.call(namespaces.await_end, names=[theirs.name])

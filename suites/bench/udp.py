"""What a datagram costs: accelerated over kernel sockets, in any namespace, among many.

Both kinds by turns in one process (``datapath/libexasock/bench``). A send ends with the card's doorbell,
which costs the emulated lab more than all before it, and the same both ways; so it is measured by itself, as
a bare write for a frame of the same size, and counted apart.

Times are processor time of the guest's thread on the host where a send is measured, so that other work on the
host does not count; a datagram that is taken is too short for that, and is measured by the guest's clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from lab.deadline import scaled
from lab.wire.scapy_socket import TesterSocket
from suites.bench import programs
from suites.bench.machine import GuestClock
from suites.guest import exasock, iproute
from suites.place import Placed
from suites.session import Session
from suites.test_overlapping_ranges import FIRST_VID, alike
from suites.topology import INITIAL, Device, Namespace, Topology, tester_mac

Figures = dict[str, float]
Remarks = dict[str, str]
SIZES = (64, 1400)
#: Ethernet, IPv4 and UDP; a VLAN's tag.
HEADERS, TAG = 42, 4
#: One batch of sends, and how often each way has its turn.
SENDS, ROUNDS = 2000, 16
#: Batches of datagrams that are taken, and datagrams in each.
TAKES, TAKEN = 200, 16
COUNTS = (1, 16, 128, 512)
#: Times of looking at a socket, how long, and what comes in meanwhile.
FLOODS, LOOKING_MS, BURST, BURST_GAP = 8, 500, 8, 0.001
#: A tester's end that nobody has opened: frames leave the port and are seen no more.
CABLE = ({"kind": "cable", "ends": ["card0:0", "tester:t0"]},)
FAR = "10.0.0.9"


@dataclass
class Costs:
    """Of one way: microseconds for each datagram, of every batch."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def spread(self) -> str:
        first, _, third = statistics.quantiles(self.values, n=4)
        return f"half of {len(self.values)} batches within {first:.2f} and {third:.2f} µs"


def ratio(costs: Costs, over: Costs, without: Costs | None = None) -> tuple[float, str]:
    """Median over median, ``without`` taken off both; and how much its parts vary."""
    less = without.median if without else 0.0
    rounds = [
        (one - (without.values[at] if without else 0))
        / max(other - (without.values[at] if without else 0), 1e-3)
        for at, (one, other) in enumerate(zip(costs.values, over.values, strict=False))
    ]
    first, _, third = statistics.quantiles(rounds, n=4)
    told = f"half of {len(rounds)} rounds within {first:.3f} and {third:.3f}"
    return (costs.median - less) / (over.median - less), told


def sends(
    session: Session, sender: programs.Sender, ways: int, prepare: Sequence[str] | None = None
) -> tuple[list[Costs], list[Costs]]:
    """Every way by turns, ROUNDS times: guest's processor time, and time that passed in the guest.

    ``prepare``: a command before each way's turn, and the one way is 0.
    """
    clock = GuestClock(session.lab)
    used, passed = [Costs() for _ in range(ways)], [Costs() for _ in range(ways)]

    def measured(line: str) -> tuple[int, int]:
        before = clock.now()
        took = sender.command(line)
        return clock.now() - before, took

    for round_ in range(-1, ROUNDS):
        order = range(ways) if round_ % 2 else range(ways - 1, -1, -1)
        for way in order:
            index = 0 if prepare is not None else way
            if prepare is not None:
                sender.command(prepare[way])
                measured(f"send {index} {SENDS}")  # the kernel frees what was closed meanwhile
            empty, _ = measured(f"send {index} 0")
            cost, took = measured(f"send {index} {SENDS}")
            if round_ >= 0:  # the first is for caches and translations
                used[way].values.append((cost - empty) / SENDS / 1000)
                passed[way].values.append(took / SENDS / 1000)
    return used, passed


def send_costs(session: Session) -> tuple[Figures, Remarks]:
    """Sends of 64 and 1400 bytes, accelerated over kernel sockets, and the doorbell"""
    figures: Figures = {}
    remarks: Remarks = {}
    port = Device("port", "eth0", "card0:0", addresses=("10.0.0.1/24",))
    one = Namespace("n1", (port,), neighbours=(("eth0", FAR, tester_mac(1)),))
    standing = Placed(session, Topology("sends", (one,), CABLE))
    for size in SIZES:
        ways = [f"kernel,n1,{FAR},9", f"exasock,n1,{FAR},9", f"doorbell,n1,0,{size + HEADERS}"]
        with programs.Sender(session, [str(size), *ways]) as sender:
            used, passed = sends(session, sender, len(ways))
        kernel, fast, doorbell = used
        name = f"udp_send{size}"
        figures[f"{name}_over_kernel"], told = ratio(fast, kernel, doorbell)
        remarks[f"{name}_over_kernel"] = f"doorbell apart, guest's processor time; {told}"
        figures[f"{name}_over_kernel_with_doorbell"], told = ratio(passed[1], passed[0])
        remarks[f"{name}_over_kernel_with_doorbell"] = f"time that passed; {told}"
        for kind, costs in (("kernel", kernel), ("exasock", fast)):
            figures[f"{name}_{kind}_us"] = costs.median - doorbell.median
            remarks[f"{name}_{kind}_us"] = f"doorbell's {doorbell.median:.2f} µs taken off; {costs.spread()}"
        if size == SIZES[0]:
            figures["lab_doorbell_us"] = passed[2].median
            remarks["lab_doorbell_us"] = f"time that passed; {passed[2].spread()}"
            figures["lab_doorbell_guest_us"] = doorbell.median
            remarks["lab_doorbell_guest_us"] = f"of it the guest's own thread; {doorbell.spread()}"
    standing.destroy()
    return figures, remarks


@contextmanager
def parameters(session: Session, **wanted: int) -> Iterator[None]:
    """The module's parameters are these meanwhile."""
    before = {name: session.agent.call(exasock.parameter, name=name, value=wanted[name]) for name in wanted}
    try:
        yield
    finally:
        for name, value in before.items():
            session.agent.call(exasock.parameter, name=name, value=value)


def patient(session: Session) -> AbstractContextManager[None]:
    """The module holds datagrams for as long as it ever does, for a process that looked a second ago."""
    return parameters(session, hold_us=100_000, fresh_us=1_000_000)


def receive_costs(session: Session) -> tuple[Figures, Remarks]:
    """Taking a datagram of 64 and 1400 bytes that is there, from the ring over from the kernel's queue"""
    figures: Figures = {}
    remarks: Remarks = {}
    ends = [Device("port", "eth0", f"card0:{at}", addresses=(f"10.0.0.{at + 1}/24",)) for at in (0, 1)]
    standing = Placed(session, Topology("takes", (Namespace("n1", (ends[0],)), Namespace("n2", (ends[1],)))))
    with patient(session):
        for size in SIZES:
            sockets = ["kernel,n2,10.0.0.2,9", "exasock,n2,10.0.0.2,10"]
            told = programs.lines(session, "receive_cost", size, TAKES, TAKEN, "n1", *sockets)
            kernel, fast = (Costs([ns / 1000 for ns in line]) for line in told)
            name = f"udp_recv{size}"
            figures[f"{name}_over_kernel"], spread = ratio(fast, kernel)
            remarks[f"{name}_over_kernel"] = f"held in the ring over queued in the kernel; {spread}"
            for kind, costs in (("kernel", kernel), ("exasock", fast)):
                figures[f"{name}_{kind}_us"] = costs.median
                remarks[f"{name}_{kind}_us"] = costs.spread()
    standing.destroy()
    return figures, remarks


@dataclass
class Watched:
    """A socket that was looked at for a while: datagrams, looks that found none, datagrams claimed from the
    ring, and the guest's processor time in ns."""

    got: int
    empty: int
    claimed: int
    used: int


def _watched(session: Session, kind: str, wire: TesterSocket, frame: bytes | None) -> Watched:
    """Have a socket looked at for a while, with frames coming in or without."""
    clock = GuestClock(session.lab)
    process = session.agent.spawn(programs.argv("flood_cost", kind, "n1", "10.0.0.1", 9, LOOKING_MS))
    process.expect("looking", scaled(6))
    began, before = time.monotonic(), clock.now()
    # not at once: a grace period passes before anything is held for a new socket
    while frame is not None and time.monotonic() < began + LOOKING_MS / 1000 * 0.9:
        if time.monotonic() < began + LOOKING_MS / 1000 * 0.2:
            time.sleep(BURST_GAP)
            continue
        for _ in range(BURST):
            wire.send(frame)
        time.sleep(BURST_GAP)
    got, empty, claimed = map(int, process.expect(r"got (\d+) (\d+) (\d+)", scaled(6)).groups())
    used = clock.now() - before
    process.stop()
    return Watched(got, empty, claimed, used)


def flood_costs(session: Session) -> tuple[Figures, Remarks]:
    """What a datagram costs the guest from the card's interrupt to the program, that looks all the time"""
    port = Device("port", "eth0", "card0:0", addresses=("10.0.0.1/24",))
    standing = Placed(session, Topology("flood", (Namespace("n1", (port,)),), CABLE))
    head = Ether(dst=standing.mac(standing["n1"]), src=tester_mac(1)) / IP(src=FAR, dst="10.0.0.1")
    frame = bytes(head / UDP(sport=9, dport=9) / bytes(64))
    costs = {"kernel": Costs(), "exasock": Costs()}
    tries = overrun = 0
    with patient(session), TesterSocket(session.lab.paths.testers / "t0.sock") as wire:
        while len(costs["exasock"].values) < FLOODS and tries < 3 * FLOODS:
            tries += 1
            for kind, cost in costs.items():
                idle = _watched(session, kind, wire, None)
                busy = _watched(session, kind, wire, frame)
                if kind == "exasock" and busy.claimed < 0.95 * busy.got:
                    overrun += 1  # a guest that stood still found the ring full
                    continue
                taken_off = busy.empty * idle.used / idle.empty
                cost.values.append((busy.used - taken_off) / max(busy.got, 1) / 1000)
    standing.destroy()
    told = f"in {overrun} of {tries} rounds the ring was full and the kernel had some: they do not count"
    if len(costs["exasock"].values) < 2:
        return {}, {"udp_flood64_over_kernel": told}
    figures: Figures = {}
    figures["udp_flood64_over_kernel"] = costs["exasock"].median / costs["kernel"].median
    remarks = {"udp_flood64_over_kernel": f"all the guest does for a received datagram; {told}"}
    for kind, cost in costs.items():
        name = f"udp_flood64_{kind}_us"
        figures[name] = cost.median
        remarks[name] = f"processor time, looks that found nothing taken off; {cost.spread()}"
    return figures, remarks


def among_many(session: Session) -> Placed:
    """A device in the initial namespace, and the most others alike; ``n1`` and it know FAR's address."""
    mac = "02:00:00:00:00:01"
    device = Device("vlan", "lan0", "card0:0", vid=FIRST_VID - 1, mac=mac, addresses=("10.0.0.1/24",))
    many = alike("n", "card0:0", COUNTS[-1], 1)
    standing = Placed(session, Topology("costs", (Namespace(INITIAL, (device,)), *many), CABLE))
    for netns, name in ((None, "lan0"), ("n1", "eth0")):
        line = f"neigh replace {FAR} lladdr {tester_mac(1)} dev {name} nud permanent"
        session.agent.call(iproute.run, netns=netns, lines=[line])
    return standing


def namespace_costs(session: Session) -> tuple[Figures, Remarks]:
    """A send from another namespace over the initial one, and among 1 to 512 with such sockets (N11)"""
    figures: Figures = {}
    remarks: Remarks = {}
    standing = among_many(session)
    ways = [f"exasock,n1,{FAR},9", f"exasock,-,{FAR},9", f"doorbell,-,0,{64 + HEADERS + TAG}"]
    with programs.Sender(session, ["64", *ways]) as sender:
        (other, initial, doorbell), _ = sends(session, sender, len(ways))
    name = "udp_cost_ns_over_init"
    figures[name], told = ratio(other, initial, doorbell)
    remarks[name] = f"sends of 64 bytes, doorbell apart; {told}"
    with programs.Sender(session, ["64", *ways[:1]]) as sender:
        costs, _ = sends(session, sender, len(COUNTS), [f"hold n {count}" for count in COUNTS])
    for count, cost in zip(COUNTS, costs, strict=True):
        figures[f"udp_cost_ns{count}_us"] = cost.median - doorbell.median
        remarks[f"udp_cost_ns{count}_us"] = f"doorbell's {doorbell.median:.2f} µs taken off; {cost.spread()}"
    for count, cost in zip(COUNTS[1:], costs[1:], strict=True):
        name = f"udp_cost_ns{count}_over_ns1"
        less = Costs([doorbell.median] * len(cost.values))
        figures[name], told = ratio(cost, costs[0], less)
        remarks[name] = f"sends of 64 bytes, doorbell apart; {told}; exact: lib_ns512_differing_counts"
    standing.destroy()
    return figures, remarks

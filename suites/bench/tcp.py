"""What TCP costs: accelerated over kernel sockets, in calls and in all that the guest does; and around it.

Both kinds by turns in one process (``datapath/libexasock/bench/stream_cost.c``), which has both ends of some
connections between two namespaces on two ports of the card, and answers one message after the other: it never
sleeps. A message's cost is processor time of the guest's thread on the host for all that the guest does: both
calls, interrupts, acknowledgments. Looks that found nothing are taken off at their own price, and so is the
doorbell of each frame that left the card, at the price of a bare one.

A ratio is the median of the rounds' ratios: both kinds have their turns within a second or two, and whatever
else the host does changes more slowly than that.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.deadline import scaled
from lab.errors import LabError
from suites.bench import programs
from suites.bench.machine import GuestClock
from suites.bench.udp import Costs, Figures, Remarks, parameters, patient
from suites.guest import attachments, streams
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology

#: Ethernet, IPv4 and TCP with time stamps.
HEADERS = 66
ROUNDS = 16
#: Connections of one way; messages of one turn; doorbells, and looks that find nothing.
CONNECTIONS, MESSAGES, RINGS, LOOKS = 32, 1024, 500, 2000
KINDS = ("kernel", "exasock")
#: Figure, requests on each connection, connections of one turn.
CONNECTS = (("connect", 0, 20), ("connect_ask", 1, 20), ("connect_ask16", 16, 5), ("connect_ask64", 64, 2))
#: Percent of the bytes below which a figure would be of something else than it is called.
LEAST_SHARE = 80
#: Messages whose system calls are counted.
CALLS = 500
FAR, PORT = "10.0.0.2", 9


def two_ports() -> Topology:
    ends = [Device("port", "eth0", f"card0:{at}", addresses=(f"10.0.0.{at + 1}/24",)) for at in (0, 1)]
    return Topology("connections", tuple(Namespace(f"n{at + 1}", (end,)) for at, end in enumerate(ends)))


def way(kind: str, port: int, here: str = "n1", there: str = "n2") -> str:
    return f"{kind},{here},{there},{FAR},{port}"


def doorbell(size: int, netns: str = "n1") -> str:
    return f"doorbell,{netns},0,{min(size, 1448) + HEADERS}"


@dataclass
class Taken:
    """One way, message by message, us: ``whole`` is all that the guest did, the doorbells of its ``frames``
    apart; ``sends`` and ``receives`` are the calls, by the guest's clock, doorbell included."""

    whole: Costs = field(default_factory=Costs)
    frames: Costs = field(default_factory=Costs)
    vain: Costs = field(default_factory=Costs)
    sends: Costs = field(default_factory=Costs)
    receives: Costs = field(default_factory=Costs)


def frames_sent(session: Session) -> int:
    """What the card's ports have sent."""
    session.control.flush()
    counters = session.control.counters()
    return sum(int(counters[end]["tx"]) for end in ("card0:0", "card0:1"))


class Measured:
    """A running ``stream_cost`` whose last way is the doorbell."""

    def __init__(self, session: Session, sender: programs.Sender, bell: int) -> None:
        self.session, self.sender, self.bell = session, sender, bell
        self.clock = GuestClock(session.lab)

    def used(self, line: str) -> tuple[int, list[int]]:
        """Processor time of the guest's thread, ns, and what the program answered."""
        before = self.clock.now()
        told = self.sender.numbers(line)
        return self.clock.now() - before, told

    def ring(self) -> float:
        """One doorbell, us."""
        empty, _ = self.used(f"ring {self.bell} 0")
        cost, _ = self.used(f"ring {self.bell} {RINGS}")
        return (cost - empty) / RINGS / 1000

    def turns(self, way: int, count: int, into: Taken, bell: float) -> None:
        """``count`` messages; and, call by call, as many again."""
        empty, _ = self.used(f"turns {way} 0")
        look, _ = self.used(f"looks {way} {LOOKS}")
        before = frames_sent(self.session)
        cost, (_, vain, _) = self.used(f"turns {way} {count}")
        frames = (frames_sent(self.session) - before) / count
        apart = empty + vain * (look - empty) / LOOKS
        into.whole.values.append((cost - apart) / count / 1000 - frames * bell)
        into.frames.values.append(frames)
        into.vain.values.append(vain / count)
        _, (_, send, receive) = self.used(f"calls {way} {count}")
        into.sends.values.append(send / 1000)
        into.receives.values.append(receive / 1000)


def stream_cost(session: Session, size: int, connections: int, *ways: str) -> programs.Sender:
    return programs.Sender(session, [str(size), str(connections), *ways], "stream_cost")


def messages(
    session: Session, size: int, count: int, connections: int = CONNECTIONS
) -> tuple[dict[str, Taken], Costs, float]:
    """Both kinds by turns: each one's costs; the doorbell's, of the guest's thread; and how much of what
    should go past the kernel did, percent."""
    found = {kind: Taken() for kind in KINDS}
    bells = Costs()
    ways = [way(kind, PORT + at) for at, kind in enumerate(KINDS)]
    with patient(session), stream_cost(session, size, connections, *ways, doorbell(size)) as sender:
        measured = Measured(session, sender, len(KINDS))
        for round_ in range(-1, ROUNDS):
            bell = measured.ring()
            order = list(enumerate(KINDS))
            for index, kind in order if round_ % 2 else reversed(order):
                into = found[kind] if round_ >= 0 else Taken()  # the first is for caches and translations
                measured.turns(index, count, into, bell)
            if round_ >= 0:
                bells.values.append(bell)
        share = min(sender.numbers(f"share {KINDS.index('exasock')} 1000")[1:]) / 10
    return found, bells, share


def ratio(costs: Costs, over: Costs) -> tuple[float, str]:
    """Round by round; and how much the rounds vary."""
    rounds = [one / other for one, other in zip(costs.values, over.values, strict=True)]
    first, middle, third = statistics.quantiles(rounds, n=4)
    return middle, f"half of {len(rounds)} rounds within {first:.3f} and {third:.3f}"


def _tell(
    figures: Figures, remarks: Remarks, name: str, costs: Sequence[Costs], how: str, unit: str = "us"
) -> None:
    """The ratio of the second over the first, and both by themselves."""
    kernel, fast = costs
    figures[f"{name}_over_kernel"], told = ratio(fast, kernel)
    remarks[f"{name}_over_kernel"] = f"{how}; {told}"
    for kind, cost in zip(KINDS, costs, strict=True):
        figures[f"{name}_{kind}_{unit}"] = cost.median
        remarks[f"{name}_{kind}_{unit}"] = cost.spread()


def message_costs(session: Session) -> tuple[Figures, Remarks]:
    """A 64-byte message over TCP, by turns: all that the guest does, and the calls"""
    figures: Figures = {}
    remarks: Remarks = {}
    standing = Placed(session, two_ports())
    found, bells, share = messages(session, 64, MESSAGES)
    if share < LEAST_SHARE:
        raise LabError(f"only {share:.1f} % of the messages' bytes went past the kernel")
    both = [found[kind] for kind in KINDS]
    whole = f"all that the guest does for it, doorbells apart ({bells.median:.1f} us each)"
    whole += f", {share:.1f} % past the kernel"
    _tell(figures, remarks, "tcp_msg64", [one.whole for one in both], whole)
    _tell(figures, remarks, "tcp_recv64", [one.receives for one in both], "one receive of what is there")
    _tell(
        figures,
        remarks,
        "tcp_send64_with_doorbell",
        [one.sends for one in both],
        "one send; time that passed",
    )
    for kind, one in zip(KINDS, both, strict=True):
        figures[f"tcp_msg64_{kind}_frames"] = one.frames.median
        remarks[f"tcp_msg64_{kind}_frames"] = "frames that the card sent for a message"
        figures[f"tcp_msg64_{kind}_in_vain"] = one.vain.median
        remarks[f"tcp_msg64_{kind}_in_vain"] = "looks for a message that found nothing, taken off"
    with patient(session):
        counted = programs.lines(session, "call_count", 64, CALLS, "n1", "n2", FAR, PORT + 2)
    for what, (number, more) in zip(("send", "recv"), counted, strict=True):
        figures[f"tcp_{what}64_system_calls"] = number
        remarks[f"tcp_{what}64_system_calls"] = f"counted by ptrace; {more} of {CALLS} had more"
    standing.destroy()
    return figures, remarks


def volume_costs(session: Session) -> tuple[Figures, Remarks]:
    """A megabyte over TCP, in messages of 16 KiB by turns: all that the guest does"""
    figures: Figures = {}
    remarks: Remarks = {}
    standing = Placed(session, two_ports())
    size = 16384
    found, bells, share = messages(session, size, 256, 24)
    per_mb = (1 << 20) / size
    costs = [Costs([value * per_mb for value in found[kind].whole.values]) for kind in KINDS]
    how = f"16 KiB by turns, all that the guest does, doorbells apart ({bells.median:.1f} us each)"
    _tell(figures, remarks, "tcp_mb", costs, how)
    figures["tcp_mb_exasock_past_percent"] = share
    remarks["tcp_mb_exasock_past_percent"] = (
        "of the bytes, went past the kernel both when sent and when received"
    )
    for kind in KINDS:
        figures[f"tcp_mb_{kind}_frames"] = found[kind].frames.median * per_mb
        remarks[f"tcp_mb_{kind}_frames"] = (
            "frames that the card sent for a megabyte, acknowledgments included"
        )
    standing.destroy()
    return figures, remarks


def change_costs(session: Session) -> tuple[Figures, Remarks]:
    """Taking a connection from the kernel, and bringing it home"""
    rounds, count = 9, 500
    standing = Placed(session, two_ports())
    takes, gives = Costs(), Costs()
    with (
        parameters(session, tcp_rest_us=0),
        patient(session),
        stream_cost(session, 64, 1, way("hand", PORT)) as sender,
    ):
        for _ in range(rounds):
            _, take, give = sender.numbers(f"changes 0 {count}")
            takes.values.append(take / 1000)
            gives.values.append(give / 1000)
    standing.destroy()
    figures = {"tcp_take_us": takes.median, "tcp_give_us": gives.median}
    told = "one system call, nothing unread or unacknowledged; "
    return figures, {"tcp_take_us": told + takes.spread(), "tcp_give_us": told + gives.spread()}


def connect_costs(session: Session) -> tuple[Figures, Remarks]:
    """Connections that come and go, with no, one, sixteen and sixty-four requests on each"""
    figures: Figures = {}
    remarks: Remarks = {}
    standing = Placed(session, two_ports())
    clock = GuestClock(session.lab)
    for name, requests, count in CONNECTS:
        ways = [way(kind, PORT + at) for at, kind in enumerate(KINDS)]
        passed, used = [Costs(), Costs()], [Costs(), Costs()]
        with programs.Sender(session, ways, "connect_cost") as sender:
            for round_ in range(-1, 3 * ROUNDS):
                for index in (0, 1) if round_ % 2 else (1, 0):
                    before = clock.now()
                    took = sender.command(f"run {index} {count} {requests}")
                    if round_ >= 0:
                        passed[index].values.append(took / count / 1000)
                        used[index].values.append((clock.now() - before) / count / 1000)
        for kind, costs in zip(KINDS, passed, strict=True):
            figures[f"tcp_{name}_{kind}_per_s"] = 1e6 / costs.median
            remarks[f"tcp_{name}_{kind}_per_s"] = f"{requests} requests on each; {costs.spread()}"
        told = f"connect, accept, {requests} requests by epoll, close; both ends in one process"
        figures[f"tcp_{name}_rate_over_kernel"] = 1 / ratio(passed[1], passed[0])[0]
        remarks[f"tcp_{name}_rate_over_kernel"] = f"{told}; time that passed"
        figures[f"tcp_{name}_guest_over_kernel"], spread = ratio(used[1], used[0])
        remarks[f"tcp_{name}_guest_over_kernel"] = f"{told}; guest's processor time; {spread}"
    standing.destroy()
    return figures, remarks


def memory(session: Session) -> tuple[Figures, Remarks]:
    """Kernel memory of an accelerated connection"""
    many = 128
    standing = Placed(session, two_ports())
    session.agent.load(streams, attachments)
    told = [
        session.agent.call(
            attachments.connection_memory,
            here="n1",
            there="n2",
            address=FAR,
            count=many,
            timeout=scaled(10),
        )
        for _ in range(3)
    ]
    charged = [one["charged"] / many / 1024 for one in told]
    available = [one["available"] / many / 1024 for one in told]
    standing.destroy()
    figures = {
        "tcp_conn_kib": statistics.median(charged),
        "tcp_conn_available_kib": statistics.median(available),
    }
    return figures, {
        "tcp_conn_kib": f"charged to the process's memory cgroup, of {many} connections attached at one end,"
        f" {min(charged):.1f} to {max(charged):.1f}; ring, send buffer, control page",
        "tcp_conn_available_kib": f"what MemAvailable lost, {min(available):.1f} to {max(available):.1f}",
    }

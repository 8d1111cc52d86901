"""What a message costs in instructions of the guest, on all of its processors: all that is done for it.

QEMU counts them (``lab.machine.counting``), in a lab booted for it, for counting makes a guest slower.
Whatever else the host does, they are the same again: of a datagram within a percent, of a TCP message
within a few, for what comes with time (ticks, timers) is in them too. A doorbell is one of them. Ratios are
medians of the rounds' ratios.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.l2 import Ether

from lab.deadline import scaled
from lab.errors import LabError
from lab.machine import counting
from lab.wire.scapy_socket import TesterSocket
from suites.bench import programs, tcp, udp
from suites.bench.udp import Costs, Figures, Remarks, parameters, patient
from suites.exasock.compare import SPINNING
from suites.guest import crowd
from suites.place import Placed
from suites.session import Session
from suites.test_overlapping_ranges import alike
from suites.topology import Device, Namespace, Topology, tester_mac

ROUNDS = 8
#: Messages of one turn: enough that what a command itself costs does not show.
MESSAGES, LOOKS = 4000, 2000
#: Among many: what is left of those that were closed is done with after the first of them.
AMONG_TIMES = 5
KINDS = tcp.KINDS
COUNTS = udp.COUNTS


class Counted:
    """A measuring program that is told what to do, and what the guest executes meanwhile."""

    def __init__(self, session: Session, sender: programs.Sender) -> None:
        self.session, self.sender = session, sender

    def used(self, line: str) -> tuple[int, list[int]]:
        """Instructions, and what the program answered."""
        before = counting.executed(self.session.lab.paths)
        told = self.sender.numbers(line)
        return counting.executed(self.session.lab.paths) - before, told

    def each(self, command: str, count: int = MESSAGES) -> float:
        """Of one of ``count`` that a command does; looks that found nothing are taken off at their price."""
        empty, _ = self.used(f"{command} 0")
        cost, told = self.used(f"{command} {count}")
        if len(told) > 1 and told[1]:
            look, _ = self.used(f"looks {command.split()[1]} {LOOKS}")
            cost -= int(told[1] * max(look - empty, 0) / LOOKS)
        return (cost - empty) / count

    def by_turns(self, *measures: Sequence[str], times: int = 1) -> list[Costs]:
        """Of each measure what one message of its last command costs, round by round, the median of so many
        times; the commands before it are carried out. The order of each other round is reversed.
        """
        found = [Costs() for _ in measures]
        for round_ in range(-1, ROUNDS):
            order = range(len(measures))
            for at in order if round_ % 2 else reversed(order):
                *before, command = measures[at]
                for line in before:
                    self.sender.command(line, 60)
                told = statistics.median(self.each(command) for _ in range(times))
                if round_ >= 0:  # the first is for caches
                    found[at].values.append(told)
        return found


def _tell(figures: Figures, remarks: Remarks, name: str, found: Sequence[Costs], what: str) -> None:
    kernel, fast = found
    figures[f"{name}_instructions_over_kernel"], told = tcp.ratio(fast, kernel)
    remarks[f"{name}_instructions_over_kernel"] = f"{what}; {told}"
    for kind, costs in zip(KINDS, found, strict=True):
        figures[f"{name}_{kind}_instructions"] = costs.median
        remarks[f"{name}_{kind}_instructions"] = what


def sends(session: Session) -> tuple[Figures, Remarks]:
    """Instructions of a UDP send of 64 and 1400 bytes"""
    figures: Figures = {}
    remarks: Remarks = {}
    port = Device("port", "eth0", "card0:0", addresses=("10.0.0.1/24",))
    one = Namespace("n1", (port,), neighbours=(("eth0", udp.FAR, tester_mac(1)),))
    standing = Placed(session, Topology("sends", (one,), udp.CABLE))
    for size in udp.SIZES:
        ways = [f"{kind},n1,{udp.FAR},9" for kind in KINDS]
        with programs.Sender(session, [str(size), *ways]) as sender:
            found = Counted(session, sender).by_turns(["send 0"], ["send 1"])
        _tell(figures, remarks, f"udp_send{size}", found, "all that the guest does for it")
    standing.destroy()
    return figures, remarks


def messages(session: Session) -> tuple[Figures, Remarks]:
    """Instructions of a 64-byte message over TCP, taken at one end and answered, by turns"""
    figures: Figures = {}
    remarks: Remarks = {}
    standing = Placed(session, tcp.two_ports())
    ways = [tcp.way(kind, tcp.PORT + at) for at, kind in enumerate(KINDS)]
    with patient(session), tcp.stream_cost(session, 64, tcp.CONNECTIONS, *ways) as sender:
        found = Counted(session, sender).by_turns(["turns 0"], ["turns 1"])
        share = min(sender.numbers(f"share {KINDS.index('exasock')} 1000")[1:]) / 10
    if share < tcp.LEAST_SHARE:
        raise LabError(f"only {share:.1f} % of the messages' bytes went past the kernel")
    what = f"all that the guest does for it, {share:.1f} % past the kernel"
    _tell(figures, remarks, "tcp_msg64", found, what)
    standing.destroy()
    return figures, remarks


def _told(
    figures: Figures, remarks: Remarks, name: str, over: str, found: Sequence[Costs], what: str
) -> None:
    """``name`` is what each count of namespaces costs, ``over`` its ratio over one."""
    for count, costs in zip(COUNTS, found, strict=True):
        figures[f"{name}_ns{count}_instructions"] = costs.median
        remarks[f"{name}_ns{count}_instructions"] = what
    for count, costs in zip(COUNTS[1:], found[1:], strict=True):
        figure = f"{over}_ns{count}_over_ns1"
        figures[figure], told = tcp.ratio(costs, found[0])
        remarks[figure] = f"instructions of {what}; {told}"


def sends_among(session: Session) -> tuple[Figures, Remarks]:
    """Instructions of a UDP send among 1 to 512 namespaces with accelerated sockets (N11)"""
    figures: Figures = {}
    remarks: Remarks = {}
    standing = udp.among_many(session)
    with programs.Sender(session, ["64", f"exasock,n1,{udp.FAR},9", f"exasock,-,{udp.FAR},9"]) as sender:
        counted = Counted(session, sender)
        other, initial = counted.by_turns(["send 0"], ["send 1"])
        figures["udp_send_instructions_ns_over_init"], told = tcp.ratio(other, initial)
        remarks["udp_send_instructions_ns_over_init"] = f"of a send of 64 bytes; {told}"
        measures = [[f"hold n {count}", f"send 0 {MESSAGES}", "send 0"] for count in COUNTS]
        found = counted.by_turns(*measures, times=AMONG_TIMES)
    _told(figures, remarks, "udp_send", "udp_send_instructions", found, "a send of 64 bytes")
    standing.destroy()
    return figures, remarks


def messages_among(session: Session) -> tuple[Figures, Remarks]:
    """Instructions of a 64-byte message over TCP among 1 to 512 namespaces with such connections (N11)"""
    figures: Figures = {}
    remarks: Remarks = {}
    many = alike("n", "card0:0", COUNTS[-1], 1) + alike("p", "card0:1", COUNTS[-1], 2)
    standing = Placed(session, Topology("connections among many", many))
    room = 2 * (COUNTS[-1] + tcp.CONNECTIONS)  # both ends of each connection
    ways = [tcp.way("exasock", tcp.PORT, "n1", "p1")]
    # after the warm-up those of the way are taken again
    measures = [[f"hold n p {count}", f"turns 0 {MESSAGES}", "turns 0"] for count in COUNTS]
    with (
        parameters(session, max_sockets=room),
        patient(session),
        tcp.stream_cost(session, 64, tcp.CONNECTIONS, *ways) as sender,
    ):
        found = Counted(session, sender).by_turns(*measures, times=AMONG_TIMES)
    _told(figures, remarks, "tcp_msg", "tcp_cost", found, "a message of 64 bytes by turns")
    standing.destroy()
    return figures, remarks


#: Frames of one round that tell no socket, rounds, and sockets of the namespace that they may be for.
HOSTILE, HOSTILE_ROUNDS, CROWD = 2000, 7, 1000


def hostile_frames(session: Session) -> tuple[Figures, Remarks]:
    """Instructions of a frame that may be for any socket: a fragment, IP options, of UDP and TCP (B3)"""
    port = Device("port", "eth0", "card0:0", addresses=("10.0.0.1/24",))
    standing = Placed(session, Topology("hostile frames", (Namespace("n1", (port,)),), udp.CABLE))
    head = Ether(dst=standing.mac(standing["n1"]), src=tester_mac(1))
    options = [IPOption_NOP()] * 4
    to: dict[str, Any] = {
        "src": udp.FAR,
        "dst": "10.0.0.77",
    }  # nobody's: what the stack does with it is the same each time
    frames = [
        bytes(head / IP(**to, flags="MF", id=7) / UDP(sport=9, dport=9) / bytes(64)),
        bytes(head / IP(**to, options=options) / UDP(sport=9, dport=9) / bytes(64)),
        bytes(head / IP(**to, flags="MF", id=8) / TCP(sport=9, dport=9, flags="A") / bytes(64)),
        bytes(head / IP(**to, options=options) / TCP(sport=9, dport=9, flags="A") / bytes(64)),
    ]
    holder = session.programs(SPINNING).worker("crowd")
    holder.load(crowd)
    session.agent.load(crowd)
    found = {1: Costs(), CROWD: Costs()}
    # nobody may have more than a share of what the machine has
    with (
        parameters(session, max_sockets=4 * CROWD),
        TesterSocket(session.lab.paths.testers / "t0.sock") as wire,
    ):
        for round_ in range(-1, HOSTILE_ROUNDS):
            for count in found if round_ % 2 else reversed(found):
                holder.call(
                    crowd.gather,
                    netns="n1",
                    address="10.0.0.1",
                    first=20_000,
                    count=count,
                    timeout=scaled(20),
                )
                cost = _hostile(session, wire, frames)
                if round_ >= 0:  # the first is for caches
                    found[count].values.append(cost)
        holder.call(crowd.gather, netns="n1", address="10.0.0.1", first=20_000, count=0)
    session.end_programs(SPINNING)
    standing.destroy()
    name = f"frag_flood_instructions_{CROWD}_over_1"
    over, told = tcp.ratio(found[CROWD], found[1])
    remarks = {name: f"accelerated sockets in the namespace; fragments and IP options, UDP and TCP; {told}"}
    figures: Figures = {name: over}
    for count, costs in found.items():
        figures[f"frag_flood_{count}_instructions"] = costs.median
        remarks[f"frag_flood_{count}_instructions"] = "all that the guest does for such a frame"
    return figures, remarks


def _hostile(session: Session, wire: TesterSocket, frames: Sequence[bytes]) -> float:
    """Instructions of one of these, sent by turns and received, until the guest has seen the last one."""
    where: dict[str, Any] = {"netns": "n1", "device": "eth0"}
    least = session.agent.call(crowd.received, **where) + HOSTILE
    before = counting.executed(session.lab.paths)
    for number in range(HOSTILE):
        wire.send(frames[number % len(frames)])
    session.agent.call(crowd.await_received, **where, least=least, seconds=scaled(10), timeout=scaled(20))
    return (counting.executed(session.lab.paths) - before) / HOSTILE

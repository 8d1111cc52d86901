"""What an accelerated socket costs its namespace beside datagrams: memory, attaching, the namespace's end."""

from __future__ import annotations

import dataclasses
import statistics

from lab.deadline import scaled
from suites.bench.udp import CABLE, FAR, Figures, Remarks
from suites.guest import attachments, exasock, namespaces, streams
from suites.place import Placed
from suites.session import AGENT_MODULES, EXASOCK, Session
from suites.test_overlapping_ranges import alike
from suites.topology import Topology, tester_mac

#: Namespaces with a socket each, for memory; those that end at once, and how many times two of either kind.
MANY, ENDING, TIMES = 128, 64, 2
ROUNDS = 9
ADDRESS = "10.0.0.1"


def memory(session: Session) -> tuple[Figures, Remarks]:
    """Kernel memory of a namespace with one accelerated socket (N12), and how often one can be attached"""
    figures: Figures = {}
    remarks: Remarks = {}
    standing = Placed(session, Topology("memory", alike("n", "card0:0", MANY, 1), CABLE))
    call = session.agent.call
    session.agent.load(streams, attachments)
    names = [one.name for one in standing.topology.namespaces]
    told = [call(attachments.memory, netns=names, address=ADDRESS, timeout=scaled(10)) for _ in range(3)]
    charged = [one["charged"] / MANY / 1024 for one in told]
    available = [one["available"] / MANY / 1024 for one in told]
    slots = call(exasock.info)["slots"]
    figures["ns_kernel_kib"] = statistics.median(charged)
    remarks["ns_kernel_kib"] = (
        f"charged to the process's memory cgroup, of {MANY}, {min(charged):.1f} to {max(charged):.1f};"
        f" nearly all is the ring of {slots} slots"
    )
    figures["ns_kernel_available_kib"] = statistics.median(available)
    remarks["ns_kernel_available_kib"] = (
        f"what MemAvailable lost, {min(available):.1f} to {max(available):.1f}"
    )
    for name, alone, count in (("attach_detach_per_s", False, 200), ("attach_detach_first_per_s", True, 10)):
        given = {"netns": names[0], "address": ADDRESS, "count": count, "alone": alone}
        rates = [call(attachments.rate, timeout=scaled(10), **given) for _ in range(ROUNDS)]
        figures[name] = statistics.median(rates)
        whose = "only one of its namespace" if alone else "another one of its namespace is attached"
        remarks[name] = f"{whose}; median of {ROUNDS}, {min(rates):,.0f} to {max(rates):,.0f}"
    standing.destroy()
    return figures, remarks


def ends(session: Session) -> tuple[Figures, Remarks]:
    """`ip netns del` of namespaces that had an accelerated socket, and of such that never had one"""
    many = tuple(
        dataclasses.replace(one, neighbours=(("eth0", FAR, tester_mac(1)),))
        for one in alike("n", "card0:0", ENDING, 1)
    )
    names = [one.name for one in many]
    worker = session.programs(EXASOCK).worker("user")
    worker.load(*AGENT_MODULES, streams, attachments)
    took: dict[bool, list[float]] = {True: [], False: []}
    for used in (True, False, False, True) * TIMES:
        standing = Placed(session, Topology("ends", many, CABLE))
        if used:
            worker.call(attachments.use, netns=names, address=ADDRESS, to=FAR, timeout=scaled(6))
        done = session.agent.call(namespaces.destroy, names=names, seconds=scaled(6), timeout=scaled(8))
        took[used].append(done["seconds"] / ENDING * 1000)
        standing.destroy()
    session.end_programs(EXASOCK)
    figures = {
        "ns_del_used_ms": statistics.median(took[True]),
        "ns_del_unused_ms": statistics.median(took[False]),
    }
    figures["ns_del_used_over_unused"] = figures["ns_del_used_ms"] / figures["ns_del_unused_ms"]
    each = "each of {} at once, until the kernel has freed them; {:.1f} to {:.1f}"
    remarks = {
        f"ns_del_{name}_ms": each.format(ENDING, min(took[used]), max(took[used]))
        for name, used in (("used", True), ("unused", False))
    }
    return figures, remarks

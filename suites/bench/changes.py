"""How soon a sender follows a change of its neighbour or route, and what it sent the old way meanwhile.

A program sends datagrams with continuous numbers; beside it the MAC address behind the destination, or the
gateway to it, changes to and fro. The wire tells which number left for which MAC address, the program when it
began each send, and the changer when the kernel had made the change.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_right
from dataclasses import dataclass

from lab.deadline import scaled
from lab.errors import LabError
from suites import capture
from suites.bench import programs
from suites.bench.udp import CABLE, HEADERS, Figures, Remarks
from suites.guest import rtnetlink
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology, tester_mac

DATAGRAMS, CHANGES, GAP = 20_000, 30, 0.02
MACS = [tester_mac(1), tester_mac(2)]
GATEWAYS = ["10.0.0.8", "10.0.0.9"]
#: The neighbour that changes, and the address behind the gateways that change.
NEAR, FAR = "10.0.0.7", "10.9.9.9"


@dataclass
class Reactions:
    """``seconds`` from each change to the begin of the first send that followed it; ``stale``: sends begun
    after a change that went the old way; ``fast``: sends that overtook the kernel."""

    seconds: list[float]
    stale: int
    fast: int


def _reactions(begun: list[int], macs: dict[int, str], changes: list[list[int]]) -> Reactions:
    found = Reactions([], 0, 0)
    for at, (_, made) in enumerate(changes):
        new = MACS[at % 2]
        end = changes[at + 1][0] if at + 1 < len(changes) else begun[-1]
        # the last one may have been under way at the next change
        after = range(bisect_right(begun, made), bisect_right(begun, end) - 1)
        old = [number for number in after if macs.get(number) not in (new, None)]
        found.stale += len(old)
        # one that was begun before the change was made, and met it, has followed it at once
        earlier = bisect_right(begun, made) - 1
        if macs.get(earlier) == new:
            found.seconds.append(0)
        else:
            first = next((number for number in after if macs.get(number) == new), None)
            if first is not None:
                found.seconds.append((begun[first] - made) / 1e9)
    return found


def react(session: Session, kind: str, what: str) -> Reactions:
    """One run: a sender of this kind of sockets, and CHANGES of its ``neighbour`` or ``route``."""
    target, values = (NEAR, MACS) if what == "neighbour" else (FAR, GATEWAYS)
    mark = time.time_ns()
    arguments = (kind, "n1", target, 9, DATAGRAMS)
    process = session.agent.spawn(programs.argv("numbered_send", *arguments))
    process.expect("sending", scaled(6))
    changes = session.agent.call(
        rtnetlink.change,
        netns="n1",
        device="eth0",
        what=what,
        address=target,
        values=values,
        count=CHANGES,
        gap=GAP,
        timeout=scaled(6),
    )
    code = process.wait(scaled(20))
    process.stop()
    if code:
        raise LabError(f"numbered_send ended with {code}: {process.stderr}")
    fast, *begun = [int(line) for line in process.stdout.splitlines()[1:]]
    session.control.flush()
    macs = {}
    for one in capture.read(session.lab.paths.capture, "card0:0", mark):
        if one.sent and one.frame.dport == 9:
            number = int.from_bytes(one.frame.data[HEADERS : HEADERS + 4], "big")
            macs[number] = one.frame.dst
    found = _reactions(begun, macs, changes)
    found.fast = fast
    return found


def reactions(session: Session) -> tuple[Figures, Remarks]:
    """Time until a sender follows a changed neighbour or route, and datagrams sent the old way after it"""
    figures: Figures = {}
    remarks: Remarks = {}
    port = Device("port", "eth0", "card0:0", addresses=("10.0.0.1/24",))
    known = (("eth0", NEAR, MACS[1]), *(("eth0", one, MACS[at]) for at, one in enumerate(GATEWAYS)))
    one = Namespace("n1", (port,), routes=((FAR, GATEWAYS[1]),), neighbours=known)
    session.agent.load(rtnetlink)
    standing = Placed(session, Topology("changes", (one,), CABLE))
    for what in ("neighbour", "route"):
        for kind in ("kernel", "exasock"):
            found = react(session, kind, what)
            name = f"udp_{what}_change_{kind}"
            figures[f"{name}_us"] = statistics.median(found.seconds) * 1e6
            figures[f"{name}_stale"] = found.stale
            worst = max(found.seconds) * 1e6
            told = f"median of {len(found.seconds)} changes, worst {worst:.0f}"
            remarks[f"{name}_us"] = f"{told}; mostly the guest's scheduling between changer and sender"
            remarks[f"{name}_stale"] = f"sends begun after {len(found.seconds)} changes that went the old way"
            if kind == "exasock":
                remarks[f"{name}_us"] += (
                    f"; {100 * found.fast / DATAGRAMS:.1f} % of sends overtook the kernel"
                )
    standing.destroy()
    return figures, remarks

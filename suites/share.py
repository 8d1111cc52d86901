"""How much of a test's traffic went past the kernel: for its record, and asserted where it can be.

A test that runs through accelerated sockets fails when less than ``LEAST`` of what it sent overtook the
kernel: else it would pass with nothing accelerated at all. A marker says what else a test must reach, or why
it cannot:

    @pytest.mark.past(udp_received=0.01)
    @pytest.mark.past(udp_sent=0, why="its only answers go to stations that are not resolved yet")
    @pytest.mark.by_kernel("ICMP is the kernel's")

What is received past the kernel depends on when a process looks, so only long exchanges can assert it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from suites.report.record import Way

#: Of what is sent, by protocol. The kernel sends the first datagrams to a neighbour, and the bytes before a
#: connection is taken.
LEAST = {"udp sent": 0.2, "tcp sent": 0.05}
#: A socket kind's protocol.
PROTOCOLS = {"udp": "udp", "multicast": "udp", "tcp": "tcp"}


def ways(told: Mapping[str, int]) -> dict[str, Way]:
    """By protocol and direction, from the sums of ``Traffic.past``."""
    found: dict[str, Way] = {}
    for way in ("sent", "received"):
        reasons = _starting(told, f"udp {way} kernel ")
        past = told.get(f"udp {way} past", 0)
        if past or reasons:
            found[f"udp {way}"] = Way("datagrams", past, past + sum(reasons.values()), reasons)
    for way in ("sent", "received"):
        if total := told.get(f"tcp {way}", 0):
            # A connection counts why it was given back or not taken, not its bytes by reason.
            why = Counter(_starting(told, "tcp gives ")) + Counter(_starting(told, "tcp refused "))
            found[f"tcp {way}"] = Way("bytes", told.get(f"tcp {way} past", 0), total, dict(why))
    return found


def _starting(told: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in told.items() if name.startswith(prefix)}


def objections(
    found: Mapping[str, Way], protocols: set[str], asked: Mapping[str, float], by_kernel: str = ""
) -> list[str]:
    """What a test with traffic of these protocols has not reached. ``by_kernel``: why it cannot; then nothing
    may have gone past the kernel, as the marker would hide what is accelerated after all."""
    if by_kernel:
        return [
            f"{name}: {one.past} of {one.all} {one.unit} went past the kernel; by_kernel says: {by_kernel}"
            for name, one in found.items()
            if one.past
        ]
    least = {name: share for name, share in LEAST.items() if name.split()[0] in protocols}
    least |= {name.replace("_", " "): share for name, share in asked.items()}
    if not least:
        return ["it exchanged no UDP or TCP, and no marker by_kernel says why"]
    told = []
    for name, share in least.items():
        one = found.get(name, Way("", 0, 0))
        if one.share < share or (share and not one.past):
            reasons = ", ".join(f"{why} {count}" for why, count in one.reasons.items()) or "none counted"
            told.append(
                f"{name}: {one.past} of {one.all} {one.unit or 'attached'} went past the kernel,"
                f" expected {share:.0%} of them; reasons of the rest: {reasons}"
            )
    return told

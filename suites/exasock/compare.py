"""One program through kernel sockets and through accelerated ones: results, frames, counters side by side.

Rule N10 is the comparison; that something was accelerated at all is what the counters say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.deadline import scaled
from suites import capture, timeline
from suites.capture import Frame
from suites.exasock import guest_calls
from suites.guest import dummy, exasock, messages, records
from suites.outside import Outside
from suites.session import EXASOCK, KERNEL, Programs, Session, SocketKind
from suites.topology import Namespace

Json = dict[str, Any]
#: Looks for seconds before it sleeps: on whatever machine, a datagram that is to come is met looking.
SPINNING = SocketKind("exasock-spinning", (*EXASOCK.prefix[:1], "--spin=5000000"))
_EPHEMERAL = 32768


def shape(frame: Frame) -> bytes:
    """The frame without what two correct runs may differ in: the IP identification, and a port the kernel
    chose, each with its checksum."""
    data = bytearray(frame.data)
    if frame.protocol != capture.UDP:
        return bytes(data)
    at = 14 + 4 * len(frame.tags)
    data[at + 4 : at + 6] = data[at + 10 : at + 12] = bytes(2)
    udp = at + (data[at] & 15) * 4
    if max(frame.sport or 0, frame.dport or 0) >= _EPHEMERAL:
        for offset, port in ((udp, frame.sport), (udp + 2, frame.dport)):
            if (port or 0) >= _EPHEMERAL:
                data[offset : offset + 2] = bytes(2)
        data[udp + 6 : udp + 8] = bytes(2)
    return bytes(data)


@dataclass
class Run:
    """One run. ``frames``: what the card sent of UDP, by port; ``accelerated``: as LIST tells, sockets still
    open."""

    kind: str
    results: list[Json] = field(default_factory=list)
    threads: dict[str, list[Json]] = field(default_factory=dict)
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    accelerated: list[Json] = field(default_factory=list)

    def counters(self, cookie: int, port: int) -> Json:
        """Of the one socket of a namespace that has this local port; AssertionError when there is none."""
        found = [one for one in self.accelerated if one["netns"] == cookie and one["local"][1] == port]
        assert len(found) == 1, f"{len(found)} accelerated sockets have port {port}: {self.accelerated}"
        return found[0]

    def fast(self, cookie: int, port: int, *, sent: int, claimed: int) -> None:
        """This many datagrams of a socket overtook the kernel, each way; AssertionError tells why others not.

        The counters are exact: what is neither fast nor counted with a reason does not exist.
        """
        one = self.counters(cookie, port)
        assert (one["tx_fast"], one["claimed"]) == (sent, claimed), (
            f"port {port}: {one['tx_fast']} sent and {one['claimed']} claimed past the kernel, not {sent} and"
            f" {claimed}; the others: sent {one['tx_kernel']}, received {one['rx_kernel']}"
        )

    def total(self, name: str) -> int:
        return sum(one[name] for one in self.accelerated)

    def reasons(self, direction: str) -> Counter[str]:
        """``rx_kernel`` or ``tx_kernel``, summed over the sockets."""
        found: Counter[str] = Counter()
        for one in self.accelerated:
            found.update(one[direction])
        return found


class Compared:
    """Runs programs both ways in the namespaces of a topology that stands."""

    def __init__(self, session: Session, wire: Outside) -> None:
        self.session, self.wire = session, wire
        session.agent.load(records, messages, dummy, guest_calls)
        self.cookies: dict[str | None, int] = {}
        #: A program of ours may still be at it: its process is not to be used again.
        self.soiled = False

    def programs(self, kind: SocketKind) -> Programs:
        return self.session.programs(kind)

    def cookie(self, namespace: Namespace) -> int:
        if namespace.netns not in self.cookies:
            self.cookies[namespace.netns] = self.session.agent.call(exasock.cookie, netns=namespace.netns)
        return self.cookies[namespace.netns]

    def indexes(self, namespace: Namespace) -> dict[str, int]:
        """Interface indexes of a namespace by name."""
        told: dict[str, int] = self.session.agent.call(guest_calls.indexes, netns=namespace.netns)
        return told

    def run(
        self,
        kind: SocketKind,
        steps: Sequence[Json],
        beside: dict[str, Sequence[Json]] | None = None,
        before: Sequence[Json] = (),
    ) -> Run:
        """Do the steps with this kind of sockets. ``beside``: threads of the program, started when the steps
        ``before`` are done."""
        worker = self.programs(kind).worker("program")
        worker.load(guest_calls)
        marks = {end: len(self.wire.sent(end)) for end in self.session.devices}
        run = Run(kind.name)
        self.soiled = True
        try:
            if before:
                done = worker.call(guest_calls.run, program="p", steps=list(before), keep=True)
                assert not [one for one in done if one.get("errno") not in (None, "EAGAIN")], done
            for name, work in (beside or {}).items():
                worker.call(guest_calls.start, thread=name, program="p", steps=list(work))
            run.results = worker.call(
                guest_calls.run, program="p", steps=list(steps), keep=True, timeout=scaled(12)
            )
            for name in beside or {}:
                run.threads[name] = worker.call(
                    guest_calls.finish, thread=name, seconds=scaled(3), timeout=scaled(6)
                )
            if kind is not KERNEL:
                pid = worker.hello.pid
                told = self.session.agent.call(exasock.accelerated)
                run.accelerated = [one for one in told if one["pid"] == pid]
        finally:
            if worker.alive:
                worker.call(guest_calls.close, program="p")
        self.soiled = False
        for end, mark in marks.items():
            sent = self.wire.sent(end)[mark:]
            run.frames[end] = [one for one in sent if one.protocol == capture.UDP]
        return run

    def both(
        self,
        steps: Sequence[Json],
        beside: dict[str, Sequence[Json]] | None = None,
        *,
        before: Sequence[Json] = (),
        frames: bool = True,
    ) -> Run:
        """Through the kernel's, then through accelerated sockets; AssertionError tells the first difference.

        Returns the accelerated run.
        """
        with timeline.step(f"{len(steps)} steps through the kernel's sockets"):
            oracle = self.run(KERNEL, steps, beside, before)
        with timeline.step(f"the same through {SPINNING.name}"):
            ours = self.run(SPINNING, steps, beside, before)
        differ(steps, oracle.results, ours.results)
        for name, work in (beside or {}).items():
            differ(work, oracle.threads[name], ours.threads[name])
        if frames:
            for end in oracle.frames:
                same_frames(end, oracle.frames[end], ours.frames[end])
        return ours


def differ(steps: Sequence[Json], oracle: Sequence[Json], ours: Sequence[Json]) -> None:
    """AssertionError with the first step whose result is another, and what was done before it."""
    for number, (step, right, is_ours) in enumerate(zip(steps, oracle, ours, strict=True)):
        if right != is_ours:
            before = "\n  ".join(
                f"{at}: {steps[at]} -> {oracle[at]}" for at in range(max(0, number - 12), number)
            )
            raise AssertionError(
                f"step {number}: {step}\n  kernel: {right}\n  exasock: {is_ours}\nbefore:\n  {before}"
            )


def flow(frame: Frame) -> tuple[Any, ...]:
    """What order is kept in: the datagrams of a socket to an address."""
    ports = (min(frame.sport or 0, _EPHEMERAL), min(frame.dport or 0, _EPHEMERAL))
    return (frame.tags, frame.src, frame.dst, frame.ip_src, frame.ip_dst, *ports)


def same_frames(end: str, oracle: Iterable[Frame], ours: Iterable[Frame]) -> None:
    """The same datagrams left the port, byte for byte but for ``shape``, those of a flow in the same order.

    Those of two sockets may leave in another order: only one of them may have been fast.
    """
    right: dict[Any, list[Frame]] = defaultdict(list)
    found: dict[Any, list[Frame]] = defaultdict(list)
    for frames, by_flow in ((oracle, right), (ours, found)):
        for frame in frames:
            by_flow[flow(frame)].append(frame)
    for key in right.keys() | found.keys():
        for number, (one, other) in enumerate(zip(right[key], found[key], strict=False)):
            if shape(one) != shape(other):
                raise AssertionError(
                    f"{end}: frame {number} of {key}:\n  kernel: {one}: {shape(one).hex()}\n"
                    f"  exasock: {other}: {shape(other).hex()}"
                )
        assert len(right[key]) == len(found[key]), (
            f"{end}: {len(found[key])} frames of {key} left it, the kernel's were {len(right[key])}"
        )

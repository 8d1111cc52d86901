"""A program of one kind of sockets, asked step by step while the world changes around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lab.guest.client import Agent
from suites.exasock import guest_calls
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint
from suites.exasock.steps import Steps, data, do, look, opened, ready
from suites.guest import exasock, iproute
from suites.place import Placed
from suites.session import KERNEL, SocketKind

Json = dict[str, Any]
ONE, OTHER = 7001, 7002
KINDS = (KERNEL, SPINNING)


@dataclass
class Live:
    """A program of one kind of sockets, asked step by step while the world changes around it."""

    compared: Compared
    kind: SocketKind
    standing: Placed

    @property
    def worker(self) -> Agent:
        return self.compared.programs(self.kind).worker("program")

    @property
    def agent(self) -> Agent:
        return self.compared.session.agent

    def do(self, *steps: Json) -> list[Json]:
        told: list[Json] = self.worker.call(guest_calls.run, program="p", steps=list(steps), keep=True)
        return told

    def works(self, *steps: Json) -> list[Any]:
        """The steps' values; AssertionError when one is refused."""
        told = self.do(*steps)
        refused = [(step, one) for step, one in zip(steps, told, strict=True) if "errno" in one]
        assert not refused, refused
        return [one["ok"] for one in told]

    def exchange(self, count: int = 4, first: int = 0) -> None:
        """Datagrams from a to b and back, each waited for: what comes is what was sent, in order.

        All by one call: between calls the process sleeps, and is not looking.
        """
        steps: Steps = [look("a"), look("b")]
        for number in range(first, first + count):
            steps += [
                do("sendto", "a", data=data(number), to=["10.1.0.2", OTHER]),
                do("recvfrom", "b"),
                do("sendto", "b", data=data(number + 500), to=["10.1.0.1", ONE]),
                do("recvfrom", "a"),
            ]
        told = self.do(*steps)
        assert [one.get("errno") for one in told[:2]] == ["EAGAIN"] * 2, told[:2]
        for number, got in zip(range(first, first + count), range(2, len(told), 4), strict=True):
            there, back = told[got + 1], told[got + 3]
            assert there == {"ok": [{"seed": number, "of": 64, "size": 64}, ["10.1.0.1", ONE]]}
            assert back == {"ok": [{"seed": number + 500, "of": 64, "size": 64}, ["10.1.0.2", OTHER]]}

    def recovers(self) -> None:
        """Where the fast path was refused it is tried again after as many datagrams as were refused: after
        these it is taken."""
        self.do(*ready("a"), *ready("b"))
        self.exchange(count=40, first=100)
        self.fast("a", ONE, lambda: self.exchange(first=200), sent=4)

    def change(self, netns: str | None, *lines: str) -> None:
        self.agent.call(iproute.run, netns=netns, lines=list(lines))

    def counters(self, name: str, port: int) -> Json:
        """Of one socket; empty of a socket that is the kernel's."""
        if self.kind is KERNEL:
            return {}
        told = self.agent.call(exasock.accelerated, netns=self.standing[name].netns, everything=False)
        found = [one for one in told if one["local"][1] == port]
        assert len(found) == 1, told
        one: Json = found[0]
        return one

    def fast(self, name: str, port: int, work: Callable[[], None], sent: int) -> None:
        """What ``work`` sends by that socket overtakes the kernel."""
        before = self.counters(name, port)
        work()
        after = self.counters(name, port)
        if after:
            grown = {
                why: times - before["tx_kernel"].get(why, 0) for why, times in after["tx_kernel"].items()
            }
            assert after["tx_fast"] - before["tx_fast"] == sent, grown

    def slow(self, name: str, port: int, work: Callable[[], None], reason: str, way: str = "tx") -> None:
        """What ``work`` sends (or receives) by that socket is the kernel's, all of it, for this reason."""
        before = self.counters(name, port)
        work()
        after = self.counters(name, port)
        if after:
            fast = "tx_fast" if way == "tx" else "claimed"
            kernel = f"{way}_kernel"
            assert after[fast] == before[fast], after
            assert after[kernel].get(reason, 0) > before[kernel].get(reason, 0), after

    def again(self) -> None:
        """Neighbours as they were, both sockets looking."""
        acquaint(self.compared, self.standing, self.standing["a"], self.standing["peer"])
        self.do(*ready("a"), *ready("b"))


def steer(agent: Agent, netns: str, processors: str) -> None:
    """RPS of a namespace's lan0: to these processors, a mask in hexadecimal."""
    line = f"echo {processors} > /sys/class/net/lan0/queues/rx-0/rps_cpus"
    agent.exec(["ip", "netns", "exec", netns, "sh", "-c", line])


def lively(kind: SocketKind, compared: Compared, standing: Placed) -> Iterator[Live]:
    """What a fixture yields: sockets ONE of namespace "a" and OTHER of "peer", acquainted and fast."""
    a, b = standing["a"], standing["peer"]
    acquaint(compared, standing, a, b)
    live = Live(compared, kind, standing)
    live.worker.load(guest_calls)
    compared.soiled = True
    live.works(*[one for one in (*opened("a", a, ONE), *opened("b", b, OTHER)) if one["op"] != "recv"])
    live.do(*ready("a"), *ready("b"))
    live.fast("a", ONE, live.exchange, sent=4)
    yield live
    live.worker.call(guest_calls.close, program="p")
    compared.soiled = False

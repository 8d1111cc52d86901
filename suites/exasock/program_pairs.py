"""Real programs by pairs of namespaces: who asks, who answers, and what they did past the kernel."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lab.deadline import Deadline, scaled
from lab.guest.client import Process
from suites.guest import exasock
from suites.session import EXASOCK, KERNEL, Session, SocketKind
from suites.topology import Namespace

Argv = Callable[[Namespace], list[str]]
OURS, THEIRS = "10.0.0.1", "10.0.0.2"
SOCKPERF = ("-i", THEIRS, "-p", "11111")

#: Looks about as long as an answer takes. Who looks for longer keeps the other side from answering where both
#: share a processor, and every processor of an emulated machine is one thread (a tenth of a second by turns).
BRIEFLY = SocketKind("exasock-briefly", (*EXASOCK.prefix, "--spin=2000"))


@dataclass
class Pairs:
    """Who asks and who answers, pair by pair, and what their programs did past the kernel.

    ``sent``, ``claimed`` and ``arrived`` (claimed or passed to the stack): the most that was seen of one
    socket, by namespace; counters go with their socket.
    """

    session: Session
    kind: SocketKind
    ours: Sequence[Namespace]
    theirs: Sequence[Namespace]
    names: dict[int, str] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    claimed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    arrived: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    started: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        everybody = [one.name for one in (*self.ours, *self.theirs)]
        cookies = self.session.agent.call(exasock.cookies, names=everybody)
        self.names = {cookie: name for name, cookie in cookies.items()}

    def start(self, namespaces: Sequence[Namespace], argv: Argv, stdin: bool = False) -> list[Process]:
        """The program in each of the namespaces."""
        begun = [
            self.session.agent.spawn([*self.kind.prefix, *argv(one)], netns=one.name, stdin=stdin)
            for one in namespaces
        ]
        self.started += begun
        return begun

    def serve(self, argv: Argv, ready: str) -> list[Process]:
        """Who answers, each said ``ready``."""
        servers = self.start(self.theirs, argv)
        for server in servers:
            server.expect(ready, timeout=scaled(6))
        return servers

    def ask(self, argv: Argv) -> list[str]:
        """Who asks, all at once; what each of them says when it has ended well."""
        clients: list[Process] = []
        for one in self.ours:
            clients += self.start([one], argv)
            self.note()
        self.watch("every client has ended", lambda: not any(one.running for one in clients), seconds=12)
        for one, client in zip(self.ours, clients, strict=True):
            assert client.code == 0, f"{one.name}: {client}: {client.code}\n{client.stdout}{client.stderr}"
        return [client.stdout for client in clients]

    def watch(self, what: str, over: Callable[[], bool], seconds: float) -> None:
        """Note the counters again and again until it is over."""

        def noted() -> bool:
            done = over()
            self.note()
            return done

        Deadline(what, scaled(seconds)).wait_until(noted, every=0.1)

    def note(self) -> None:
        if self.kind is KERNEL:
            return
        for one in self.session.agent.call(exasock.accelerated):
            name = self.names.get(one["netns"])
            if name is not None:
                self.sent[name] = max(self.sent[name], one["tx_fast"])
                self.claimed[name] = max(self.claimed[name], one["claimed"])
                came = one["claimed"] + sum(one["rx_kernel"].values())
                self.arrived[name] = max(self.arrived[name], came)

    def stop(self) -> None:
        """End every program, and forget what was counted."""
        for process in self.started:
            process.stop()
        self.started.clear()
        self.sent.clear()
        self.claimed.clear()
        self.arrived.clear()

    def by_kernel(self) -> dict[str, int]:
        """What the kernel sent for those who ask, so far."""
        names = [one.name for one in self.ours]
        told: dict[str, int] = self.session.agent.call(exasock.sent_by_kernel, names=names)
        return told

    def overtook(self, before: dict[str, int], sent: Sequence[int]) -> None:
        """Of what each who asks has sent since (it says how much), the kernel knows less. For programs that
        end: what their sockets counted is gone with them, perhaps before anybody looked."""
        if self.kind is KERNEL:
            return
        known = {name: now - before[name] for name, now in self.by_kernel().items()}
        told = {one.name: count for one, count in zip(self.ours, sent, strict=True)}
        assert not [name for name, count in told.items() if known[name] >= count], (known, told)

    def past_the_kernel(self, sent: Sequence[Namespace] = (), claimed: Sequence[Namespace] = ()) -> None:
        """These sent past the kernel, and these received so, each of them."""
        self.note()
        if self.kind is not KERNEL:
            assert not [one.name for one in sent if not self.sent[one.name]], dict(self.sent)
            assert not [one.name for one in claimed if not self.claimed[one.name]], dict(self.claimed)


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in:\n{text}"
    return int(found[1])


def no_fault(told: str) -> tuple[int, int]:
    """What a client that played ping-pong sent and got back; AssertionError when one was lost, came twice or
    out of order. At most the last one was under way when its time was over."""
    for fault in ("dropped", "duplicated", "out-of-order"):
        assert number(rf"# {fault} messages = (\d+)", told) == 0
    there, back = number(r"SentMessages=(\d+)", told), number(r"ReceivedMessages=(\d+)", told)
    assert there - back in (0, 1)
    return there, back

"""Real programs, unmodified, behind ``exasock``: in one pair of namespaces, and in 64 that are all the same.

    card0:0 -+- n1   eth0  vlan 101   10.0.0.1/24      who asks
             +- n2   eth0  vlan 102   10.0.0.1/24
             +- ...
    card0:1 -+- p1   eth0  vlan 101   10.0.0.2/24      who answers: with its name, p1
             +- ...

What a program says of itself is the verdict: nothing lost, twice, or out of order, and the answer comes from
the asker's own VLAN. The module's counters say that it was not the kernel which carried it.
"""

from __future__ import annotations

import inspect
import json
import re
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.deadline import Deadline, scaled
from lab.guest.client import Process
from suites.exasock import guest_services
from suites.exasock.guest_services import MEMBERS
from suites.guest import exasock
from suites.place import Placed
from suites.session import EXASOCK, KERNEL, Session, SocketKind
from suites.test_overlapping_ranges import alike
from suites.topology import Namespace, Topology

Place = Callable[[Topology], Placed]
Argv = Callable[[Namespace], list[str]]
MANY = 64
SCRIPT = "/run/exalab-services.py"
OURS, THEIRS = "10.0.0.1", "10.0.0.2"
PORT = 7000
GROUP = "239.1.1.7"


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


# --- the programs -------------------------------------------------------------------------------------------


SOCKPERF = ("-i", THEIRS, "-p", "11111")


def no_fault(told: str) -> tuple[int, int]:
    """What a client that played ping-pong sent and got back; AssertionError when one was lost, came twice or
    out of order. At most the last one was under way when its time was over."""
    for fault in ("dropped", "duplicated", "out-of-order"):
        assert number(rf"# {fault} messages = (\d+)", told) == 0
    there, back = number(r"SentMessages=(\d+)", told), number(r"ReceivedMessages=(\d+)", told)
    assert there - back in (0, 1)
    return there, back


def sockperf(pairs: Pairs) -> None:
    """Throughput, then ping-pong: the server has handled what was sent to it. What was answered last came
    last: everything before it has been handled."""
    (server,) = pairs.serve(lambda _: ["sockperf", "server", *SOCKPERF], r"using recvfrom")
    (poured,) = pairs.ask(lambda _: ["sockperf", "throughput", *SOCKPERF, "-t", "1", "--mps=300"])
    (played,) = pairs.ask(lambda _: ["sockperf", "ping-pong", *SOCKPERF, "-t", "1"])
    both = [*pairs.ours, *pairs.theirs]
    pairs.past_the_kernel(sent=both, claimed=both)
    server.kill(signal.SIGINT)
    server.wait(scaled(3))
    there, back = no_fault(played)
    before = number(r"Total of (\d+) messages sent", poured)
    handled = number(r"Total (\d+) messages received and handled", server.stdout)
    assert before + back <= handled <= before + there


def sockperfs(pairs: Pairs) -> None:
    """In every other pair throughput, in the others ping-pong: what one sends arrives at its own server."""
    pairs.serve(lambda _: ["sockperf", "server", *SOCKPERF], r"using recvfrom")

    def client(one: Namespace) -> list[str]:
        how = ["ping-pong"] if plays(one) else ["throughput", "--mps=50"]
        return ["sockperf", *how, *SOCKPERF, "-t", "2"]

    def plays(one: Namespace) -> bool:
        return int(one.name[1:]) % 2 == 0

    before = pairs.by_kernel()
    told = pairs.ask(client)
    playing = [one for one in pairs.theirs if plays(one)]
    pairs.past_the_kernel(sent=playing, claimed=playing)
    sent = []
    for one, other, said in zip(pairs.ours, pairs.theirs, told, strict=True):
        if plays(one):
            sent.append(no_fault(said)[0])
        else:
            sent.append(number(r"Total of (\d+) messages sent", said))
            assert pairs.arrived[other.name] == sent[-1]
    pairs.overtook(before, sent)


def iperf(pairs: Pairs) -> None:
    """At a rate that the machine carries nothing is lost, and nothing is out of order. Its control connection
    is TCP, and the kernel's."""
    rate = "1M" if len(pairs.ours) == 1 else "200K"
    pairs.serve(lambda _: ["iperf3", "-s", "-1", "--forceflush", "-B", THEIRS], "Server listening")
    shape = ["-u", "-b", rate, "-l", "1000", "-t", "1", "-J"]
    before, sent = pairs.by_kernel(), []
    for told in pairs.ask(lambda _: ["iperf3", "-c", THEIRS, "-B", OURS, *shape]):
        end = json.loads(told)["end"]
        sent.append(end["sum"]["packets"])
        assert sent[-1] > 10
        assert end["sum"]["lost_packets"] == 0, end["sum"]
        assert [one["udp"]["out_of_order"] for one in end["streams"]] == [0]
    pairs.overtook(before, sent)
    pairs.past_the_kernel(claimed=pairs.theirs if len(pairs.ours) == 1 else ())


def dns(pairs: Pairs) -> None:
    """Each server answers for its own namespace only: its name, and an address that only it knows."""

    def server(one: Namespace) -> list[str]:
        options = ["--no-hosts", "--no-resolv", "--user=root", "--pid-file=", "--log-facility=-"]
        records = [f"--txt-record=who.test,{one.name}", f"--address=/my.test/10.64.0.{one.name[1:]}"]
        where = ["--conf-file=/dev/null", f"--listen-address={THEIRS}", "--bind-interfaces"]
        return ["dnsmasq", "--keep-in-foreground", *where, *options, *records]

    pairs.serve(server, "started, version")
    asked = ["who.test", "TXT", *[f"name{count}.my.test" for count in range(4)]]
    limits = ["+short", "+tries=1", f"+timeout={scaled(1):.0f}"]
    told = pairs.ask(lambda _: ["dig", *limits, f"@{THEIRS}", *asked])
    pairs.past_the_kernel(sent=pairs.theirs)
    for one, answers in zip(pairs.theirs, told, strict=True):
        assert answers.splitlines() == [f'"{one.name}"', *[f"10.64.0.{one.name[1:]}"] * 4]


def socat(pairs: Pairs) -> None:
    """A server that forks for each peer, with a filter behind it; a client that waits for each answer. The
    child that answers shares its socket with its parent, which may have accelerated it already."""

    def server(one: Namespace) -> list[str]:
        return ["socat", "-dd", f"UDP4-LISTEN:{PORT},bind={THEIRS},fork", f"EXEC:sed -u s/^/{one.name}=/"]

    pairs.serve(server, "listening on")
    clients = pairs.start(pairs.ours, lambda _: ["socat", "-", f"UDP4:{THEIRS}:{PORT}"], stdin=True)
    for line in ("one", "two", "three"):
        for client in clients:
            client.feed(f"{line}\n")
        for one, client in zip(pairs.theirs, clients, strict=True):
            client.expect(f"^{one.name}={line}$", timeout=scaled(3))
    pairs.past_the_kernel(sent=pairs.ours)
    for one, client in zip(pairs.theirs, clients, strict=True):
        assert client.stdout.splitlines() == [f"{one.name}={line}" for line in ("one", "two", "three")]


def by_python(kind: str, pairs: Pairs) -> None:
    """Each question is answered once, by the server of its own VLAN, or by each member there of the group."""
    agent = pairs.session.agent
    agent.write_file(SCRIPT, inspect.getsource(guest_services))
    names = [one.name for one in pairs.theirs]
    to = GROUP if kind == "group" else THEIRS
    argv = [*pairs.kind.prefix, "python3", "-u", SCRIPT, kind, to, str(PORT), *names]
    server = agent.spawn(argv)
    pairs.started.append(server)
    for name in names:
        server.expect(f"^ready {name}$", timeout=scaled(6))
    count = 20 if len(names) == 1 else 8
    items: list[dict[str, Any]] = []
    for one, other in zip(pairs.ours, names, strict=True):
        who = [f"{other}/{member}" for member in range(MEMBERS)] if kind == "group" else [other]
        items.append({"netns": one.name, "to": to, "port": PORT, "device": "eth0", "answerers": who})
    worker = pairs.session.programs(pairs.kind).worker("clients")
    worker.load(guest_services)
    given: dict[str, Any] = {"items": items, "count": count, "seconds": scaled(6)}
    told = worker.call(guest_services.ask, **given, timeout=scaled(8))
    for item in items:
        one = told[item["netns"]]
        assert one == {"asked": count, "answers": dict.fromkeys(item["answerers"], count), "odd": []}
    pairs.past_the_kernel(sent=pairs.theirs)


def by_asyncio(pairs: Pairs) -> None:
    by_python("asyncio", pairs)


def by_select(pairs: Pairs) -> None:
    by_python("select", pairs)


def group(pairs: Pairs) -> None:
    by_python("group", pairs)


Program = Callable[[Pairs], None]
AT_ONCE: tuple[Program, ...] = (iperf, dns, socat, by_asyncio, by_select, group)


@pytest.fixture
def paired(
    place: Place, session: Session, sockets: SocketKind, patient: None
) -> Iterator[Callable[[int], Pairs]]:
    """``paired(count)``: so many pairs of namespaces, the same but for the VLAN."""
    made: list[Pairs] = []

    def build(count: int) -> Pairs:
        ours, theirs = alike("n", "card0:0", count, 1), alike("p", "card0:1", count, 2)
        place(Topology(f"{count} overlapping pairs", ours + theirs))
        made.append(Pairs(session, KERNEL if sockets is KERNEL else BRIEFLY, ours, theirs))
        return made[-1]

    yield build
    for pairs in made:
        pairs.stop()
        session.end_programs(pairs.kind)


@pytest.mark.parametrize("program", (sockperf, *AT_ONCE), ids=lambda program: program.__name__)
def test_in_a_pair_of_namespaces(paired: Callable[[int], Pairs], program: Program) -> None:
    """N10: the program's own verdict is the same with kernel sockets and with accelerated ones, and these
    were used: its datagrams went past the kernel."""
    program(paired(1))


@pytest.mark.accelerated
def test_in_64_overlapping_namespaces_at_once(paired: Callable[[int], Pairs]) -> None:
    """N3, N4, N5: each program in 64 namespaces with the same addresses, ports and devices, at once: each is
    answered by its own VLAN's, and in each namespace datagrams go past the kernel."""
    pairs = paired(MANY)
    for program in (sockperfs, *AT_ONCE):
        program(pairs)
        pairs.stop()

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
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.deadline import scaled
from suites.exasock import guest_services
from suites.exasock.guest_services import MEMBERS
from suites.exasock.program_pairs import BRIEFLY, OURS, SOCKPERF, THEIRS, Pairs, no_fault, number
from suites.place import Placed
from suites.session import KERNEL, Session, SocketKind
from suites.test_overlapping_ranges import alike
from suites.topology import Namespace, Topology

Place = Callable[[Topology], Placed]
MANY = 64
SCRIPT = "/run/exalab-services.py"
PORT = 7000
GROUP = "239.1.1.7"


# --- the programs -------------------------------------------------------------------------------------------


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


@pytest.mark.full("64 times what is in core once")
@pytest.mark.accelerated
def test_in_64_overlapping_namespaces_at_once(paired: Callable[[int], Pairs]) -> None:
    """N3, N4, N5: each program in 64 namespaces with the same addresses, ports and devices, at once: each is
    answered by its own VLAN's, and in each namespace datagrams go past the kernel."""
    pairs = paired(MANY)
    for program in (sockperfs, *AT_ONCE):
        program(pairs)
        pairs.stop()

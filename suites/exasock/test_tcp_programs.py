"""Real TCP programs, unmodified, behind ``exasock``: in one pair of namespaces, and in several all the same.

    card0:0 -+- n1   eth0  vlan 101   10.0.0.1/24      who asks
             +- n2   eth0  vlan 102   10.0.0.1/24
             +- ...
    card0:1 -+- p1   eth0  vlan 101   10.0.0.2/24      who answers: what only p1 has
             +- ...

What a program says of itself is the verdict: every byte right, by its hash, and from the asker's own VLAN.
The module's counters say that bytes went past the kernel.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.deadline import Deadline, scaled
from lab.guest.client import Process
from suites import timeline
from suites.exasock import guest_tcp_services
from suites.exasock.program_pairs import BRIEFLY, OURS, SOCKPERF, THEIRS, Pairs, no_fault
from suites.guest import streams
from suites.place import Placed
from suites.session import Session
from suites.test_overlapping_ranges import alike
from suites.topology import Namespace, Topology

pytestmark = pytest.mark.usefixtures("examined")
Place = Callable[[Topology], Placed]
SEVERAL = 4
HOME = "/run/exalab-programs"
SCRIPT = f"{HOME}/services.py"
BIG = 3 << 20


@dataclass
class TcpPairs(Pairs):
    """``sent`` and ``claimed``: the most bytes past the kernel that were seen of one connection."""

    def note(self) -> None:
        for one in self.session.agent.call(streams.attached):
            name = self.names.get(one["netns"])
            if name is not None:
                self.sent[name] = max(self.sent[name], one["tx_bytes"])
                self.claimed[name] = max(self.claimed[name], one["rx_bytes"])

    def past_the_kernel(self, sent: Sequence[Namespace] = (), claimed: Sequence[Namespace] = ()) -> None:
        """These sent and received past the kernel, each of them; where many pairs share a processor, which is
        never quiet, one of them at least."""
        if len(self.ours) == 1:
            super().past_the_kernel(sent, claimed)
        else:
            self.note()
            assert any(self.sent[one.name] for one in sent or self.ours), dict(self.sent)
            assert any(self.claimed[one.name] for one in claimed or self.ours), dict(self.claimed)

    def file(self, namespace: Namespace, name: str, text: str) -> str:
        """A file that this namespace's programs have: its path."""
        path = f"{HOME}/{namespace.name}/{name}"
        self.session.agent.write_file(path, text)
        return path

    def prepare(self) -> None:
        """A folder each, with ``big``: random bytes by the namespace's name, and ``small``: the name."""
        names = [one.name for one in (*self.ours, *self.theirs)]
        lines = [
            "import os, random, sys",
            "for name in sys.argv[2:]:",
            f"    where = '{HOME}/' + name",
            "    os.makedirs(where, exist_ok=True)",
            "    open(where + '/big', 'wb').write(random.Random(name).randbytes(int(sys.argv[1])))",
            "    open(where + '/small', 'w').write(name + '\\n')",
        ]
        self.session.agent.exec(["python3", "-c", "\n".join(lines), str(BIG), *names])
        self.session.agent.write_file(SCRIPT, inspect.getsource(guest_tcp_services))

    def other(self, one: Namespace) -> Namespace:
        """Who answers this one, or asks it."""
        ours, theirs = list(self.ours), list(self.theirs)
        return theirs[ours.index(one)] if one in ours else ours[theirs.index(one)]


def digest(name: str, size: int = BIG) -> str:
    """Of ``big`` in a namespace."""
    return hashlib.sha256(random.Random(name).randbytes(size)).hexdigest()


def shell(*lines: str) -> list[str]:
    return ["sh", "-ec", "\n".join(lines)]


# --- the programs -------------------------------------------------------------------------------------------


def sockperf(pairs: TcpPairs) -> None:
    """Ping-pong: nothing lost, twice or out of order."""
    there = (*SOCKPERF, "--tcp")
    pairs.serve(lambda _: ["sockperf", "server", *there], r"using recvfrom")
    for told in pairs.ask(lambda _: ["sockperf", "ping-pong", *there, "-t", "1"]):
        no_fault(told)
    both = [*pairs.ours, *pairs.theirs]
    pairs.past_the_kernel(sent=both, claimed=both)


def iperf(pairs: TcpPairs) -> None:
    """As many bytes as were asked for, one way and the other. Such a stream is never quiet: it may be all
    the kernel's."""
    size = BIG if len(pairs.ours) == 1 else BIG // 4
    for way in ((), ("-R",)):
        servers = pairs.serve(
            lambda _: ["iperf3", "-s", "-1", "--forceflush", "-B", THEIRS], "Server listening"
        )
        for told in pairs.ask(lambda _, way=way: ["iperf3", "-c", THEIRS, "-n", str(size), "-J", *way]):  # type: ignore[misc]
            end = json.loads(told)["end"]
            assert end["sum_sent"]["bytes"] >= size, end
            # what is under way at the end it does not wait for
            assert size // 2 < end["sum_received"]["bytes"] <= end["sum_sent"]["bytes"], end
        for server in servers:
            assert server.wait(scaled(3)) == 0


NGINX = """
daemon off; user root; worker_processes 1; pid {home}/nginx.pid; error_log stderr notice;
events {{ worker_connections 64; }}
http {{
  access_log off; keepalive_requests 1000;
  server {{
    listen {address}:80 sndbuf=256k; root {home};
    location /kernel/ {{ alias {home}/; sendfile on; }}
    location / {{ sendfile off; }}
  }}
}}
"""


def needs(pairs: TcpPairs, program: str) -> None:
    """Skip where the machine under test has it not: what starts a service by being installed is put on no
    machine that is reached over SSH.
    """
    if pairs.session.agent.exec(["sh", "-c", f"ls {program}"], check=False).code:
        pytest.skip(f"needs {Path(program).name}; the machine under test has none")


def start_nginx(pairs: TcpPairs) -> list[Process]:
    needs(pairs, "/usr/sbin/nginx")

    def server(one: Namespace) -> list[str]:
        home = f"{HOME}/{one.name}"
        return ["nginx", "-c", pairs.file(one, "nginx.conf", NGINX.format(home=home, address=THEIRS))]

    return pairs.serve(server, "start worker process ")


def nginx(pairs: TcpPairs) -> None:
    """Many small answers by one connection, then a large file, copied and by sendfile."""
    start_nginx(pairs)
    client = shell(
        f"curl -sS --fail -w '%{{num_connects}} ' 'http://{THEIRS}/small?[1-30]'",
        f"curl -sS --fail http://{THEIRS}/big | sha256sum",
        f"curl -sS --fail http://{THEIRS}/kernel/big | sha256sum",
    )
    for one, told in zip(pairs.theirs, pairs.ask(lambda _: client), strict=True):
        small = [one.name, "1"] + [one.name, "0"] * 29
        assert told.split() == small + [digest(one.name), "-"] * 2, told
    pairs.past_the_kernel(sent=pairs.theirs, claimed=pairs.ours)


def start_redis(pairs: TcpPairs) -> list[Process]:
    needs(pairs, "/usr/bin/redis-server")

    def server(one: Namespace) -> list[str]:
        about = ["--bind", THEIRS, "--requirepass", one.name, "--save", "", "--dir", f"{HOME}/{one.name}"]
        return ["redis-server", *about, "--protected-mode", "no"]

    return pairs.serve(server, "Ready to accept connections")


def redis(pairs: TcpPairs) -> None:
    """The benchmark of its own, and a value: each server knows only its own namespace's password. Together
    about as many requests as of one pair alone: processes that look share what processors there are."""
    start_redis(pairs)
    count = 400 // len(pairs.ours)

    def client(one: Namespace) -> list[str]:
        who = f"-h {THEIRS} -a {pairs.other(one).name}"
        return shell(
            f"redis-benchmark {who} -q -n {count} -c 4 -d 200 -t set,get,lpush,lrange_100 >&2",
            f"redis-cli --no-auth-warning {who} set who {one.name}",
            f"redis-cli --no-auth-warning {who} get who",
            f"redis-cli --no-auth-warning {who} llen mylist",
        )

    for one, told in zip(pairs.ours, pairs.ask(client), strict=True):
        told = told.replace("\n\n", "\n")
        assert told.splitlines()[:2] == ["OK", one.name], told
        assert int(told.splitlines()[2]) >= count, told
    both = [*pairs.ours, *pairs.theirs]
    pairs.past_the_kernel(sent=both, claimed=both)


def asyncio(pairs: TcpPairs) -> None:
    """Streams of Python's: lines, then many bytes, by several connections of one loop."""
    serve = lambda one: ["python3", SCRIPT, "serve", THEIRS, "7070", one.name]  # noqa: E731
    pairs.serve(serve, r"^ready \w+$")
    told = pairs.ask(lambda one: ["python3", SCRIPT, "ask", THEIRS, "7070", pairs.other(one).name])
    assert [one.strip() for one in told] == [f"right {one.name}" for one in pairs.theirs]
    pairs.past_the_kernel(sent=pairs.ours, claimed=pairs.ours)


def ssh(pairs: TcpPairs) -> None:
    """A file each way through sshd, which is several processes, some of them confined."""
    agent = pairs.session.agent
    agent.exec(["sh", "-ec", f"mkdir -p /run/sshd; cd {HOME}; for key in host user; do"
                " [ -e $key ] || ssh-keygen -q -t ed25519 -N '' -f $key; done"])  # fmt: skip
    options = [
        "-o", f"ListenAddress={THEIRS}:2200", "-h", f"{HOME}/host", "-o", "StrictModes=no", "-o", "UsePAM=no",
        "-o", f"AuthorizedKeysFile={HOME}/user.pub", "-o", "PidFile=none",
    ]  # fmt: skip
    pairs.serve(lambda _: ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *options], "Server listening")
    log_in = (
        f"ssh -F none -i {HOME}/user -p 2200 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        f" -o LogLevel=ERROR root@{THEIRS}"
    )

    def client(one: Namespace) -> list[str]:
        return shell(
            f"{log_in} cat {HOME}/{pairs.other(one).name}/big | sha256sum",
            f"{log_in} sha256sum < {HOME}/{one.name}/big",
        )

    for one, told in zip(pairs.ours, pairs.ask(client), strict=True):
        assert told.split() == [digest(pairs.other(one).name), "-", digest(one.name), "-"], told
    pairs.past_the_kernel(claimed=pairs.ours)


def postgresql(pairs: TcpPairs) -> None:
    """The benchmark of its own: afterwards the books balance."""
    needs(pairs, "/usr/lib/postgresql/*/bin/postgres")
    agent, data = pairs.session.agent, f"{HOME}/postgresql"
    (found,) = agent.exec(["sh", "-c", "ls -d /usr/lib/postgresql/*/bin"]).stdout.split()
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    agent.exec(["install", "-d", "-o", "postgres", "-m", "700", data])
    agent.exec(
        [*as_postgres, f"{found}/initdb", "-D", data, "--no-sync", "--no-locale"],
        timeout=scaled(12),
    )
    rules = f"{HOME}/pg_hba.conf"
    agent.write_file(rules, "host all all 10.0.0.0/24 trust\n")
    settings = [
        f"listen_addresses={THEIRS}", "unix_socket_directories=", "fsync=off", "shared_buffers=8MB",
        f"hba_file={rules}",
    ]  # fmt: skip
    argv = [f"{found}/postgres", "-D", data, *(part for one in settings for part in ("-c", one))]
    pairs.serve(lambda _: [*as_postgres, *argv], "ready to accept connections")
    who = f"-h {THEIRS} -U postgres"
    balance = (
        "select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts),"
        " sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history"
    )
    (told,) = pairs.ask(
        lambda _: shell(
            f"{found}/pgbench -i -q -s 1 {who} postgres >&2",
            f"{found}/pgbench -n -c 3 -t 40 {who} postgres >&2",
            f"{found}/psql -At {who} -c '{balance}' postgres",
        )
    )
    assert told.strip() == "120|t|t"
    both = [*pairs.ours, *pairs.theirs]
    pairs.past_the_kernel(sent=both, claimed=both)


Program = Callable[[TcpPairs], None]
AT_ONCE: tuple[Program, ...] = (sockperf, iperf, nginx, redis, asyncio, ssh)


@pytest.fixture
def paired(place: Place, session: Session, patient: None) -> Iterator[Callable[[int], TcpPairs]]:
    """``paired(count)``: so many pairs of namespaces, the same but for the VLAN."""
    made: list[TcpPairs] = []
    session.agent.load(streams)

    def build(count: int) -> TcpPairs:
        ours, theirs = alike("n", "card0:0", count, 1), alike("p", "card0:1", count, 2)
        place(Topology(f"{count} overlapping pairs", ours + theirs))
        made.append(TcpPairs(session, BRIEFLY, ours, theirs))
        made[-1].prepare()
        return made[-1]

    yield build
    for pairs in made:
        pairs.stop()
        session.end_programs(pairs.kind)
    session.agent.exec(["rm", "-rf", HOME])


@pytest.mark.parametrize("program", (*AT_ONCE, postgresql), ids=lambda program: program.__name__)
def test_in_a_pair_of_namespaces(paired: Callable[[int], TcpPairs], program: Program) -> None:
    """N10: the program's own verdict; of programs whose connections are quiet at times, also that their bytes
    went past the kernel."""
    program(paired(1))


@pytest.mark.full("several times what is in core once")
def test_in_overlapping_namespaces_at_once(paired: Callable[[int], TcpPairs]) -> None:
    """N3, N4, N5: each program in several namespaces with the same addresses, ports and devices, at once."""
    pairs = paired(SEVERAL)
    for program in AT_ONCE:
        with timeline.step(f"{program.__name__} in {SEVERAL} pairs"):
            program(pairs)
            pairs.stop()


# --- in the middle of it ------------------------------------------------------------------------------------


def came(pairs: TcpPairs) -> int:
    """Bytes that curl has written."""
    path = f"{HOME}/{pairs.ours[0].name}/got"
    return int(pairs.session.agent.exec(["sh", "-c", f"stat -c %s {path} || echo 0"]).stdout)


def more_comes(pairs: TcpPairs) -> None:
    before = came(pairs)
    more = Deadline("more of it comes", scaled(3))
    more.wait_until(lambda: came(pairs) > before or before == BIG, every=0.05)


def under_way(pairs: TcpPairs) -> None:
    """A part has come."""
    more_comes(pairs)


def start_curl(pairs: TcpPairs, rate: str = "300K", more: str = "") -> Process:
    """The large file, so slowly that something can happen to it."""
    path = f"{HOME}/{pairs.ours[0].name}/got"
    argv = ["curl", "-sS", "--fail", "--limit-rate", rate, *more.split(), "-o", path, f"http://{THEIRS}/big"]
    return pairs.start(pairs.ours, lambda _: argv)[0]


def got(pairs: TcpPairs) -> str:
    agent = pairs.session.agent
    return agent.exec(["sha256sum", f"{HOME}/{pairs.ours[0].name}/got"]).stdout.split()[0]


@pytest.mark.parametrize("who", ["server", "client"])
def test_stopped_and_continued(paired: Callable[[int], TcpPairs], who: str) -> None:
    """Either end is stopped in the middle of a large file and goes on later: not a byte is wrong."""
    pairs = paired(1)
    run = pairs.session.agent.exec
    (server,) = start_nginx(pairs)
    curl = start_curl(pairs)
    worker = run(["pgrep", "-P", str(server.pid)]).stdout.strip()
    pid = worker if who == "server" else str(curl.pid)
    under_way(pairs)
    for _ in range(3):
        run(["kill", "-STOP", pid])
        assert run(["ps", "-o", "state=", "-p", pid]).stdout.strip() == "T"
        quiet = Deadline("nothing comes any more", scaled(2))
        before = -1
        while (now := came(pairs)) != before:
            before = now
            quiet.check()
            run(["sleep", "0.3"])
        run(["kill", "-CONT", pid])
        # how much at once is its own affair: it may have been the rest
        more_comes(pairs)
    assert curl.wait(scaled(6)) == 0, curl.stderr
    assert got(pairs) == digest(pairs.theirs[0].name)


def test_killed_and_started_again(paired: Callable[[int], TcpPairs]) -> None:
    """The server is killed in the middle of a large file: the client is told so, a new one serves the same
    port at once, and the rest comes from it."""
    pairs = paired(1)
    run = pairs.session.agent.exec
    (server,) = start_nginx(pairs)
    worker = run(["pgrep", "-P", str(server.pid)]).stdout.strip()
    curl = start_curl(pairs)
    under_way(pairs)
    # While it stands still it cannot come to its end: the buffers between the two have no room for all of it.
    run(["kill", "-STOP", str(curl.pid)])
    assert came(pairs) < BIG
    run(["kill", "-KILL", str(server.pid), worker])
    server.wait(scaled(1))
    run(["kill", "-CONT", str(curl.pid)])
    assert curl.wait(scaled(6)) in (18, 56), curl.stderr
    start_nginx(pairs)
    curl = start_curl(pairs, "4M", "-C -")
    assert curl.wait(scaled(6)) == 0, curl.stderr
    assert got(pairs) == digest(pairs.theirs[0].name)


def test_a_killed_client_leaves_its_server_well(paired: Callable[[int], TcpPairs]) -> None:
    """Clients are killed in the middle, again and again: the server goes on, with nothing left of them."""
    pairs = paired(1)
    start_redis(pairs)
    who = ["-h", THEIRS, "-a", pairs.theirs[0].name]
    for _ in range(3):
        (client,) = pairs.start(pairs.ours, lambda _: ["redis-benchmark", *who, "-n", "100000", "-c", "3"])
        begun = Deadline("it is at work", scaled(3))
        while not [one for one in pairs.session.agent.call(streams.attached, netns="n1", everything=False)]:
            begun.check()
        client.kill(signal.SIGKILL)
        client.wait(scaled(1))
    none = Deadline("nothing of them is left", scaled(3))
    none.wait_until(lambda: not pairs.session.agent.call(streams.attached), every=0.1)
    (told,) = pairs.ask(lambda _: ["redis-cli", "--no-auth-warning", *who, "ping"])
    assert told.strip() == "PONG"


def test_the_address_is_the_askers(paired: Callable[[int], TcpPairs]) -> None:
    """A program that binds before it connects speaks from there: curl, with an address and a port."""
    pairs = paired(1)
    start_nginx(pairs)
    bound = ["curl", "-sS", "--fail", "--interface", OURS, "--local-port", "5555", "-w", "%{local_port}"]
    (told,) = pairs.ask(lambda _: [*bound, f"http://{THEIRS}/small"])
    assert told.split() == [pairs.theirs[0].name, "5555"]

"""The agent and its client, natively: the same program as in the guest, over a socket pair."""

from __future__ import annotations

import json
import os
import re
import socket
import textwrap
import threading
from collections.abc import Iterator

import pytest

from lab.guest.client import Agent, AgentError, AgentGone, CommandFailed, RemoteError
from lab.guest.native import native_agent, native_socket

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="private namespaces need root")


@pytest.fixture
def agent() -> Iterator[Agent]:
    with native_agent() as agent:
        yield agent


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    """The agent's raw channel, after its unsolicited hello."""
    with native_socket() as sock:
        sock.settimeout(20)
        assert receive(sock)["hello"] is None
        yield sock


def receive(sock: socket.socket) -> dict[str, object]:
    """The next line that is not empty."""
    line = b""
    while not line.strip():
        line = b""
        while not line.endswith(b"\n"):
            part = sock.recv(1)
            assert part, "the agent closed the channel"
            line += part
    message = json.loads(line)
    assert isinstance(message, dict)
    return message


def module(name: str, source: str, agent: Agent) -> None:
    agent.request("load", name=name, source=source)


def sleeping(agent: Agent) -> bool:
    """Whether a sleep(1) lives; a zombie waits for its parent only."""
    states = agent.exec(["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; true"]).stdout
    return re.search(r"\(sleep\) [^ZX]", states) is not None


def test_hello_says_who_answers(agent: Agent) -> None:
    assert agent.hello.kernel == os.uname().release
    assert agent.hello.uptime > 0


def test_exec_returns_code_and_streams(agent: Agent) -> None:
    done = agent.exec(["sh", "-c", "cat; echo err >&2; exit 3"], input="in", check=False)
    assert (done.code, done.stdout, done.stderr) == (3, "in", "err\n")


def test_exec_checks_by_default(agent: Agent) -> None:
    with pytest.raises(CommandFailed, match="ended with 1"):
        agent.exec(["false"])


def test_bytes_survive_that_are_no_text(agent: Agent) -> None:
    every = bytes(range(256))
    done = agent.exec(["cat"], input=every)
    assert done.stdout.encode("utf-8", "surrogateescape") == every


def test_a_missing_program_is_the_kernels_error(agent: Agent) -> None:
    with pytest.raises(RemoteError) as caught:
        agent.exec(["/no/such/program"])
    assert (caught.value.kind, caught.value.errno) == ("FileNotFoundError", 2)


def test_a_command_past_its_deadline_dies_with_its_group(agent: Agent) -> None:
    with pytest.raises(CommandFailed, match="outlived its deadline") as caught:
        agent.exec(["sh", "-c", "sleep 1000 & echo started; wait"], timeout=0.5)
    assert caught.value.completed.stdout == "started\n"
    assert not sleeping(agent)


def test_what_a_command_leaves_in_its_group_dies_with_it(agent: Agent) -> None:
    agent.exec(["sh", "-c", "sleep 1000 &"])
    assert not sleeping(agent)


def test_output_is_bounded_and_the_rest_counted(agent: Agent) -> None:
    done = agent.exec(["head", "-c", "3000000", "/dev/zero"])
    assert len(done.stdout) == 1 << 20
    assert done.dropped == 3000000 - (1 << 20)


def test_input_larger_than_a_pipe(agent: Agent) -> None:
    assert agent.exec(["wc", "-c"], input=b"x" * 3_000_000).stdout.strip() == "3000000"


def test_commands_run_in_a_namespace_and_the_agent_stays_at_home(agent: Agent) -> None:
    home = agent.exec(["readlink", "/proc/self/ns/net"]).stdout
    agent.exec(["ip", "netns", "add", "a"])
    assert agent.exec(["readlink", "/proc/self/ns/net"], netns="a").stdout != home
    assert agent.exec(["readlink", "/proc/self/ns/net"]).stdout == home


def test_requests_run_beside_each_other(agent: Agent) -> None:
    agent.exec(["mkfifo", "/run/fifo"])
    reader = agent.submit("exec", argv=["cat", "/run/fifo"])
    agent.exec(["sh", "-c", "echo through > /run/fifo"])
    assert reader.result(20)["stdout"] == "through\n"


def test_a_spawned_process_is_talked_to(agent: Agent) -> None:
    process = agent.spawn(["sh", "-c", "echo ready; read x; echo got $x; exec sleep 1000"], stdin=True)
    process.expect("^ready$")
    process.feed("hello\n")
    process.expect("^got hello$")
    assert process.stop() == -15
    assert agent.status()["processes"] == {}


def test_expect_fails_at_once_when_the_process_ends(agent: Agent) -> None:
    process = agent.spawn(["sh", "-c", "echo nothing useful; exit 4"])
    with pytest.raises(AgentError, match="ended with 4 before"):
        process.expect("ready", timeout=60)


def test_files_go_both_ways(agent: Agent) -> None:
    content = bytes(range(256)) * 10000
    agent.write_file("/run/deep/file", content, mode=0o600)
    assert agent.read_file("/run/deep/file") == content
    assert agent.exec(["stat", "-c", "%a", "/run/deep/file"]).stdout.strip() == "600"
    assert agent.read_file("/proc/sys/kernel/ostype") == b"Linux\n"
    agent.write_file("/proc/sys/net/ipv4/ip_forward", "1")
    assert agent.read_file("/proc/sys/net/ipv4/ip_forward") == b"1\n"


def test_a_loaded_module_keeps_its_state_until_its_source_changes(agent: Agent) -> None:
    source = "n = 0\ndef count(by):\n    global n\n    n += by\n    return n\n"
    module("bench.counter", source, agent)
    assert agent.call("bench.counter:count", by=2) == 2
    module("bench.counter", source, agent)
    assert agent.call("bench.counter:count", by=2) == 4
    module("bench.counter", source + "# new\n", agent)
    assert agent.call("bench.counter:count", by=2) == 2


def test_loaded_modules_import_each_other_by_the_same_names(agent: Agent) -> None:
    module("bench.one", "VALUE = 7\n", agent)
    module("bench.two", "from bench import one\ndef get():\n    return one.VALUE\n", agent)
    assert agent.call("bench.two:get") == 7


def test_load_takes_a_module_of_this_side(agent: Agent) -> None:
    agent.load(textwrap)
    assert agent.call(textwrap.dedent, text="  a") == "a"


def test_a_loaded_module_pushes_events(agent: Agent) -> None:
    seen: list[dict[str, object]] = []
    arrived = threading.Event()

    def sink(event: dict[str, object]) -> None:
        seen.append(event)
        arrived.set()

    agent.subscribe(sink)
    module("bench.news", "from lab.guest import agent\ndef tell():\n    agent.emit('news', what=1)\n", agent)
    agent.call("bench.news:tell")
    assert arrived.wait(20)
    assert seen == [{"event": "news", "what": 1}]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("raise KeyError('x')", "KeyError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return object()", "TypeError"),
        ("return boom(n + 1)", "RecursionError"),
        ("raise OSError(98, 'in use')", "OSError"),
    ],
)
def test_whatever_a_module_raises_is_an_error_reply(agent: Agent, body: str, kind: str) -> None:
    module("bench.bad", f"def boom(n=0):\n    {body}\n", agent)
    with pytest.raises(RemoteError) as caught:
        agent.call("bench.bad:boom")
    assert caught.value.kind == kind
    assert agent.request("ping") == "pong"


def test_a_source_that_does_not_compile_is_an_error_and_no_module(agent: Agent) -> None:
    with pytest.raises(RemoteError, match="SyntaxError"):
        module("bench.broken", "def (", agent)
    with pytest.raises(RemoteError, match="no module"):
        agent.call("bench.broken:f")


def test_a_reply_that_is_too_long_is_an_error(agent: Agent) -> None:
    module("bench.long", "def f():\n    return 'x' * (33 << 20)\n", agent)
    with pytest.raises(RemoteError, match="too long"):
        agent.call("bench.long:f")


def test_a_request_that_outlives_the_clients_deadline_shows_in_the_status(agent: Agent) -> None:
    module("bench.stuck", "import threading\ndef f():\n    threading.Event().wait(1000)\n", agent)
    with pytest.raises(AgentError, match="did not answer call"):
        agent.call("bench.stuck:f", timeout=0.2)
    assert "call bench.stuck.f" in agent.status()["running"]


def test_a_worker_is_an_agent_in_a_process_of_its_own(agent: Agent) -> None:
    worker = agent.worker(["env", "TAG=1"])
    module("bench.env", "import os\ndef tag():\n    print('noise')\n    return os.environ['TAG']\n", worker)
    assert worker.call("bench.env:tag") == "1"
    assert worker.hello.pid != agent.hello.pid
    worker.close()
    assert agent.status()["processes"] == {}


def test_a_worker_that_dies_fails_its_requests_only(agent: Agent) -> None:
    worker = agent.worker()
    module("bench.die", "import os\ndef f():\n    os._exit(9)\n", worker)
    with pytest.raises(AgentGone):
        worker.call("bench.die:f", timeout=20)
    assert agent.request("ping") == "pong"


def test_an_agent_that_dies_fails_what_waits_at_once(agent: Agent) -> None:
    module("bench.die", "import os\ndef f():\n    os._exit(9)\n", agent)
    with pytest.raises(AgentGone, match="channel closed"):
        agent.call("bench.die:f", timeout=60)
    with pytest.raises(AgentGone):
        agent.request("ping")


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[1]",
        b'{"id": 1}',
        b'{"id": "x", "method": "ping"}',
        b'{"id": 1, "method": 3}',
        b'{"id": 1, "method": "ping", "params": []}',
        b'{"id": 1, "method": "ping", "params": {"surprise": 1}}',
        b'{"id": 1, "method": "__init__"}',
        b'{"id": 1, "method": "exec", "params": {"argv": []}}',
        b'{"id": 1, "method": "exec", "params": {"argv": "ls"}}',
        b'{"id": 1, "method": "exec", "params": {"argv": ["true"], "netns": "nowhere"}}',
        b'{"id": 1, "method": "read_file", "params": {"path": "/nowhere"}}',
        b'{"id": 1, "method": "write_file", "params": {"path": "/run/x", "data": "!"}}',
        b"\xff\xfe{",
    ],
)
def test_a_malformed_request_is_answered_by_an_error(channel: socket.socket, line: bytes) -> None:
    channel.sendall(line + b"\n")
    assert "error" in receive(channel)
    channel.sendall(b'{"id": 2, "method": "ping"}\n')
    assert receive(channel) == {"id": 2, "result": "pong"}


def test_an_endless_line_is_an_error_and_skipped(channel: socket.socket) -> None:
    channel.sendall(b"x" * (33 << 20) + b"\n" + b'{"id": 2, "method": "ping"}\n')
    first, second = receive(channel), receive(channel)
    assert "longer than" in str(first["error"])
    assert second["id"] == 2


def test_a_new_client_resyncs_in_the_middle_of_a_line_and_ends_what_the_old_one_ran(
    channel: socket.socket,
) -> None:
    channel.sendall(b'{"id": 7, "method": "exec", "params": {"argv": ["sleep", "1000"]}}\n{"id": 8, "met')
    with Agent.over(channel.dup(), timeout=20) as client:
        assert client.request("ping") == "pong"
        while client.status()["processes"]:  # the killed one is reaped by its own thread
            client.exec(["true"])
        assert not sleeping(client)


def test_a_client_ignores_what_was_meant_for_the_one_before() -> None:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        buffer = b""
        while b"hello" not in buffer or not buffer.endswith(b"}\n"):
            buffer += theirs.recv(4096)
        nonce = json.loads(buffer)["hello"]
        hello = {"version": 1, "kernel": "k", "boot_id": "b", "uptime": 1.0, "python": "3", "pid": 1}
        old = json.dumps({"hello": "other", **hello})
        new = json.dumps({"hello": nonce, **hello})
        reply = '{"id": 1, "result": "stale"}'
        theirs.sendall(f'sult": 1}}\n{reply}\n{old}\n\n{new}\n'.encode())

    thread = threading.Thread(target=serve)
    thread.start()
    with theirs, Agent.over(ours, timeout=20) as client:
        thread.join()
        future = client.submit("ping")
        theirs.sendall(b'{"id": 1, "result": "fresh"}\n')
        assert future.result(20) == "fresh"


def test_a_restarted_guest_fails_what_waits() -> None:
    ours, theirs = socket.socketpair()
    hello = {"version": 1, "kernel": "k", "boot_id": "b", "uptime": 1.0, "python": "3", "pid": 1}

    def serve() -> None:
        nonce = json.loads(theirs.recv(4096))["hello"]
        theirs.sendall(json.dumps({"hello": nonce, **hello}).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    with theirs, Agent.over(ours, timeout=20) as client:
        thread.join()
        future = client.submit("ping")
        theirs.sendall(json.dumps({"hello": None, **hello, "boot_id": "c"}).encode() + b"\n")
        with pytest.raises(AgentGone, match="guest restarted"):
            future.result(20)


def test_nobody_home_is_said_with_a_remedy() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(AgentError, match="no hello"):
        Agent.over(ours, timeout=0.1)
    with pytest.raises(AgentError, match="whether the lab is up"):
        Agent("/nonexistent/agent.sock")

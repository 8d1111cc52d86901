"""TCP connections that go from process to process, or are used by what the library does not see.

    card0:0 --- a      lan0 (port)   10.1.0.1/24      clients
    card0:1 --- peer   lan0 (port)   10.1.0.2/24      servers

Whoever has it, every byte is read once, in order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.deadline import scaled
from lab.guest.client import Agent
from suites.exasock import guest_handing, guest_tcp, guest_uring
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.conftest import Examined
from suites.exasock.ends import acquaint
from suites.exasock.program_pairs import BRIEFLY
from suites.exasock.tcp_pair import SIDES, Tcp, made
from suites.guest import namespaces
from suites.place import Placed
from suites.session import KERNEL, Session
from suites.topology import Topology

pytestmark = pytest.mark.usefixtures("examined")
Place = Callable[[Topology], Placed]
Defer = Callable[..., None]
POST = "/run/exalab-post"


@pytest.fixture(params=list(SIDES))
def tcp(request: pytest.FixtureRequest, session: Session, place: Place, compared: Compared) -> Iterator[Tcp]:
    """Accelerated on one side, the other, both."""
    yield from made(session, place, compared, SIDES[request.param])


def submit(worker: Agent, function: Callable[..., Any], **given: Any) -> Any:
    return worker.submit("call", module=function.__module__, function=function.__name__, kwargs=given)


@pytest.mark.parametrize("preload", [True, False], ids=["accelerated", "plain"])
def test_another_program_goes_on_with_it(tcp: Tcp, preload: bool) -> None:
    """N1: a child executes another program, accelerated or not, which inherits the connection, receives and
    sends by it, and ends; then its parent goes on. Every byte is in its place."""
    for worker in tcp.ends:
        worker.load(guest_handing)
    tcp.open()
    tcp.warm()
    given: dict[str, Any] = {"label": "c", "seed": 5, "size": 3000, "rounds": 6}
    pending = submit(tcp.client, guest_handing.answer, **given)
    assert tcp.server.call(guest_handing.execute, **given, preload=preload, timeout=scaled(12)) == 0
    assert pending.result(scaled(6)) == 6
    tcp.rally(20, seed=12)
    tcp.warm()


@pytest.mark.parametrize("keep", [True, False], ids=["shared", "given"])
def test_sent_to_another_process(tcp: Tcp, keep: bool) -> None:
    """N1: the connection goes by message to a plain program, then on to an accelerated one, and comes back;
    whoever has it sends and receives by it."""
    everybody = {"server": tcp.server}
    for name, kind in (("plain", KERNEL), ("other", BRIEFLY if tcp.kinds[1] is SPINNING else SPINNING)):
        everybody[name] = tcp.compared.programs(kind).worker("handed")
    for name, worker in everybody.items():
        worker.load(guest_tcp, guest_handing)
        worker.call(guest_handing.post_open, path=f"{POST}-{name}")
    tcp.open()
    tcp.warm()
    order = ["server", "plain", "other", "server"]
    for turn, (giver, taker) in enumerate(itertools.pairwise(order)):
        label = "c" if turn == 0 else f"c{turn}"
        everybody[giver].call(guest_handing.post_send, path=f"{POST}-{taker}", label=label, keep=keep)
        everybody[taker].call(guest_handing.post_take, path=f"{POST}-{taker}", label=f"c{turn + 1}")
        whole: dict[str, Any] = {"name": "h", "send": [20 + turn, 20_000], "receive": [30 + turn, 20_000]}
        back: dict[str, Any] = {"name": "h", "send": [30 + turn, 20_000], "receive": [20 + turn, 20_000]}
        tcp.client.call(guest_tcp.start, label="c", **whole)
        everybody[taker].call(guest_tcp.start, label=f"c{turn + 1}", **back)
        for worker in (tcp.client, everybody[taker]):
            told = worker.call(guest_tcp.finish, name="h", timeout=scaled(20))
            told.pop("hash")
            assert told == {"sent": 20_000, "received": 20_000, "differs": None}
    for name, worker in everybody.items():
        worker.call(guest_handing.post_close, path=f"{POST}-{name}")
        if name != "server":
            worker.call(guest_tcp.close_all)
    tcp.session.end_programs(BRIEFLY)


def test_used_by_io_uring(tcp: Tcp) -> None:
    """What io_uring sends and receives is the kernel's, and in order with what goes past it."""
    for worker in tcp.ends:
        worker.load(guest_uring)
    tcp.open()
    tcp.warm()
    for turn in range(6):
        sender, receiver = tcp.ends if turn % 2 else tcp.ends[::-1]
        pending = submit(receiver, guest_uring.receive, label="c", seed=turn, size=5000)
        assert sender.call(guest_uring.send, label="c", seed=turn, size=5000) == 5000
        assert pending.result(scaled(6)) is None
        tcp.rally(20, seed=70 + turn)
        receiver.call(guest_tcp.start, label="c", name="r", receive=[turn + 9, 4000])
        assert sender.call(guest_uring.send, label="c", seed=turn + 9, size=4000) == 4000
        assert receiver.call(guest_tcp.finish, name="r", timeout=scaled(6))["differs"] is None
    for worker in tcp.ends:
        worker.call(guest_uring.end)
    tcp.warm()
    tcp.fast()


@pytest.mark.expects("[Ll]ink", "carrier")
@pytest.mark.parametrize("end", ["card0:0", "card0:1"])
def test_a_cable_pulled_and_put_back(tcp: Tcp, examined: Examined, defer: Defer, end: str) -> None:
    """N8: the cable of either side goes and comes back under way: the connection waits, and goes on."""
    control, agent = tcp.session.control, tcp.session.agent
    netns = "a" if end == "card0:0" else "peer"
    examined.gaps = True
    tcp.open()
    tcp.warm()
    defer(control.link, end, True)
    tcp.begin(150_000, 150_000, seed=33)
    for up in (False, True, False, True):
        control.link(end, up)
        agent.call(namespaces.await_carrier, name=netns, device="lan0", carrier=up)
    tcp.end(150_000, 150_000)
    acquaint(tcp.compared, tcp.standing, tcp.standing["a"], tcp.standing["peer"])
    tcp.warm()

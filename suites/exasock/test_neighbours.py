"""What one namespace does to its own devices disturbs no other's sockets (B3, N8).

    card0:0 -+- a      lan0  vlan 5    10.1.0.1/24   the connection's client
             +- other  lan0  vlan 77   10.1.0.1/24   its device goes down and comes up, again and again
    card0:1 --- peer   lan0  vlan 5    10.1.0.2/24   the connection's server

Each of them is accelerated, and the port is the same for two of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.deadline import scaled
from suites.exasock import guest_calls, guest_tcp
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.conftest import Examined
from suites.exasock.ends import acquaint, peer, subject
from suites.exasock.steps import do, opened
from suites.exasock.tcp_pair import Json, Tcp
from suites.guest import exasock, iproute, streams
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology

pytestmark = pytest.mark.usefixtures("examined")
PORT = 7009
#: How often the other's device goes down and comes up, and messages that go to and fro meanwhile.
FLAPS, MESSAGES = 8, 1200
NEIGHBOURS = Topology(
    "neighbours on a port",
    (
        subject("a", "vlan"),
        peer("vlan"),
        Namespace("other", (Device("vlan", "lan0", "card0:0", vid=77, addresses=("10.1.0.1/24",)),)),
    ),
)


def test_a_neighbours_device_disturbs_no_connection(
    session: Session, place: Callable[[Topology], Placed], compared: Compared, examined: Examined
) -> None:
    """B3, N8: while a namespace's device goes down and up, a connection of another namespace on the same port
    is past the stack: not once does it go home for a device."""
    session.agent.load(streams)
    standing = place(NEIGHBOURS)
    acquaint(compared, standing, standing["a"], standing["peer"])
    compared.soiled = True
    tcp = Tcp(session, compared, standing, (SPINNING, SPINNING))
    program = compared.programs(SPINNING).worker("program")
    program.load(guest_calls)

    def run(*steps: Json) -> None:
        told = program.call(guest_calls.run, program="p", steps=list(steps), keep=True)
        assert [one for one in told if "errno" in one and one["errno"] != "EAGAIN"] == [], told

    run(*opened("o", standing["other"], PORT))
    told = session.agent.call(exasock.accelerated, netns=standing["other"].netns, everything=False)
    assert [one["local"][1] for one in told] == [PORT]
    tcp.open()
    tcp.warm()
    rally: Json = {"label": "c", "name": "c", "seed": 3, "count": MESSAGES, "sizes": [64]}
    tcp.server.call(guest_tcp.start_rally, **rally, first=False)
    tcp.client.call(guest_tcp.start_rally, **rally, first=True)
    for _ in range(FLAPS):
        lines = ["link set dev lan0 down", "link set dev lan0 up"]
        session.agent.call(iproute.run, netns=standing["other"].netns, lines=lines)
    for worker in tcp.ends:
        assert worker.call(guest_tcp.finish, name="c", timeout=scaled(40)) == {"done": MESSAGES}
    gives = [one["gives"] for one in tcp.attached()]
    assert [one.get("device", 0) for one in gives] == [0, 0], gives
    run(do("close", "o"))
    program.call(guest_calls.close, program="p")
    tcp.close()
    compared.soiled = False

"""The suites' guest-side modules, natively: macvlans on a veth pair in private namespaces of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from lab.guest.client import Agent, RemoteError
from lab.guest.native import native_agent
from suites.guest import echo, exasock, exchange, iproute, namespaces, past, records, sockets, streams

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="private namespaces need root")
Json = dict[str, Any]


@pytest.fixture
def agent() -> Iterator[Agent]:
    """A native agent with the modules, and a veth pair p0, q0 in its initial namespace."""
    with native_agent() as agent:
        agent.exec(["ip", "link", "add", "p0", "up", "type", "veth", "peer", "name", "q0"])
        agent.exec(["ip", "link", "set", "q0", "up"])
        agent.load(iproute, namespaces, exasock, streams, past, records, sockets, echo, exchange)
        yield agent


def spec(name: str, number: int, on: str = "p0", **more: Any) -> Json:
    device = {"kind": "macvlan", "name": "eth0", "on": on, "addresses": [f"10.0.0.{number}/24"]}
    return {"name": name, "devices": [device | more]}


def test_created_namespaces_are_there_and_destroyed_ones_are_gone(agent: Agent) -> None:
    agent.call(namespaces.create, specs=[spec(f"n{number}", number) for number in range(1, 20)])
    assert len(agent.exec(["ip", "netns", "list"]).stdout.splitlines()) == 19
    assert len(agent.call(namespaces.alive)) == 19
    assert "10.0.0.7/24" in agent.exec(["ip", "-br", "addr"], netns="n7").stdout
    agent.call(namespaces.destroy)
    assert agent.exec(["ip", "netns", "list"]).stdout == ""
    assert agent.call(namespaces.alive) == []


def test_a_pinned_namespace_is_named(agent: Agent) -> None:
    agent.call(namespaces.create, specs=[spec("held", 1)])
    holder = agent.spawn(["sleep", "1000"], netns="held")
    with pytest.raises(RemoteError, match="held"):
        agent.call(namespaces.destroy, seconds=0.3)
    holder.stop()


def test_a_port_goes_in_and_comes_home(agent: Agent) -> None:
    port = {"kind": "port", "name": "lan0", "on": "p0", "addresses": ["10.0.0.1/24"]}
    agent.call(namespaces.create, specs=[{"name": "a", "devices": [port]}])
    assert "p0" not in {link["name"] for link in agent.call(namespaces.links)}
    agent.call(namespaces.give_back, name="a", device="lan0")
    assert "p0" in {link["name"] for link in agent.call(namespaces.links)}
    agent.call(namespaces.lend, name="a", device=port)
    agent.call(namespaces.destroy)
    assert "p0" in {link["name"] for link in agent.call(namespaces.links)}


@pytest.mark.parametrize(
    ("device", "code"),
    [
        ({"on": "p0", "addresses": ["10.0.0.1/24"] * 2}, 17),
        ({"on": "p0", "mac": "01:00:00:00:00:01"}, 99),
        ({"on": "p0", "mtu": 100000}, 22),
    ],
)
def test_a_refused_namespace_is_undone_and_the_errno_told(agent: Agent, device: Json, code: int) -> None:
    with pytest.raises(RemoteError) as caught:
        agent.call(namespaces.create, specs=[spec("good", 1), spec("bad", 2, **device)])
    assert caught.value.errno == code
    assert agent.exec(["ip", "netns", "list"]).stdout.split()[0] == "good"


def test_a_name_that_is_taken_is_refused_and_its_owner_stays(agent: Agent) -> None:
    agent.call(namespaces.create, specs=[spec("a", 1)])
    with pytest.raises(RemoteError, match="namespace a: ") as caught:
        agent.call(namespaces.create, specs=[spec("b", 2), spec("a", 3), spec("c", 4)])
    assert caught.value.errno == 17
    assert sorted(path.split()[0] for path in agent.exec(["ip", "netns"]).stdout.splitlines()) == ["a", "b"]
    told = {link["name"]: link["address"] for link in agent.call(namespaces.links, name="a")}
    assert agent.call(namespaces.macs, names=["a"]) == {"a": told}


def test_a_name_of_the_initial_namespace_can_be_used(agent: Agent) -> None:
    agent.exec(["ip", "link", "set", "q0", "name", "eth0"])
    agent.call(namespaces.create, specs=[spec("a", 1)])
    assert "UP" in agent.exec(["ip", "-br", "link", "show", "eth0"], netns="a").stdout


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_servers_and_clients_count_the_same(agent: Agent, kind: str) -> None:
    """N1: one process holds the sockets of all namespaces; every record is answered by the one it was for."""
    count = 12
    specs = [spec(f"s{n}", 100 + n, "p0") for n in range(count)]
    specs += [spec(f"c{n}", 10 + n, "q0") for n in range(count)]
    agent.call(namespaces.create, specs=specs)
    servers = [
        {"name": f"s{n}", "netns": f"s{n}", "kind": kind, "tag": n + 1, "port": 7000} for n in range(count)
    ]
    agent.call(echo.start, items=servers)
    clients = [
        {"name": f"c{n}", "netns": f"c{n}", "flow": n, "kind": kind, "to": f"10.0.0.{100 + n}", "port": 7000}
        for n in range(count)
    ]
    results = agent.call(exchange.run, items=clients, count=50, size=200, seconds=20)
    assert all(results[f"c{n}"]["tags"] == {str(n + 1): 50} for n in range(count))
    report = agent.call(echo.report)
    assert all(report[f"s{n}"]["flows"] == {str(n): [50, 50]} for n in range(count))
    agent.call(echo.stop)


def test_ping_measures_every_namespace(agent: Agent) -> None:
    agent.call(namespaces.create, specs=[spec("a", 1, "p0"), spec("b", 2, "q0")])
    items = [{"name": "a", "netns": "a", "to": "10.0.0.2"}, {"name": "b", "netns": "b", "to": "10.0.0.99"}]
    results = agent.call(exchange.ping, items=items, count=3, seconds=2)
    assert results["a"]["received"] == 3
    assert results["b"]["received"] == 0


def test_records_survive_and_damage_shows() -> None:
    data = records.encode(7, 9, 300)
    record = records.decode(records.answer(data, 5))
    assert record is not None and (record.flow, record.sequence, record.tag, record.intact) == (7, 9, 5, True)
    damaged = records.decode(data[:-1] + b"\xff\xff")
    assert damaged is not None and not damaged.intact
    assert records.decode(data[:100]) is None

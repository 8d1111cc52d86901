"""What one tenant has attached is not another one's loss (B4).

card0:0 -+- a   vlan 5  10.1.0.1
         +- v   vlan 6  10.1.0.1
         +- w   vlan 7  10.1.0.1
         none   nothing
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.guest.client import Agent
from suites.exasock import guest_shares
from suites.guest import exasock, probes
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology

MOST = 64
ONE, TWO, THREE = 60001, 60002, 60003


@pytest.fixture
def tenants(
    session: Session, place: Callable[[Topology], Placed], healthy: None, defer: Callable[..., None]
) -> Iterator[Agent]:
    """Three namespaces, room for 64 sockets, and nobody else who has any."""
    agent = session.agent
    agent.load(exasock, probes, guest_shares)
    devices = [Device("vlan", "lan0", "card0:0", vid=vid, addresses=("10.1.0.1/24",)) for vid in (5, 6, 7)]
    spaces = [Namespace(name, (device,)) for name, device in zip("avw", devices, strict=True)]
    place(Topology("three tenants", (*spaces, Namespace("none", ()))))
    session.end_programs()
    usual = agent.call(exasock.parameter, name="max_sockets", value=MOST)
    defer(agent.call, exasock.parameter, name="max_sockets", value=usual)
    yield agent
    for name in agent.call(guest_shares.names):
        agent.call(guest_shares.end, name=name)


@pytest.mark.expects("exasock")
def test_a_namespace_has_its_share(tenants: Agent) -> None:
    """B4, N9: one namespace's users together have half of the sockets, are told so, and it is counted;
    another namespace has what is left but for the newcomers' and the host's part; a third one has some of
    the former, and the host has all that is left."""
    half, rest = MOST // 2, MOST // 2 - 2 * MOST // 8
    limit = {"errno": "EMFILE"}
    first = tenants.call(guest_shares.attach, name="1", netns="a", uid=ONE, most=half - 2)
    second = tenants.call(guest_shares.attach, name="2", netns="a", uid=TWO, most=MOST)
    assert first == {"attached": half - 2, "errno": None} and second == limit | {"attached": 2}
    assert tenants.call(exasock.refused, netns="a").get("limit") == 1
    assert tenants.call(guest_shares.attach, name="3", netns="v", uid=0, most=MOST, host=False) == limit | {
        "attached": rest
    }
    third = tenants.call(guest_shares.attach, name="4", netns="w", uid=0, most=MOST, host=False)
    assert third == limit | {"attached": 1}
    host = tenants.call(guest_shares.attach, name="5", netns="v", uid=0, most=MOST)
    assert host == limit | {"attached": 2 * MOST // 8 - 1}


@pytest.mark.expects("exasock")
def test_a_user_has_his_share(tenants: Agent) -> None:
    """B4: one user has half of the sockets, in however many namespaces."""
    half = MOST // 2
    first = tenants.call(guest_shares.attach, name="1", netns="a", uid=ONE, most=half - 4)
    again = tenants.call(guest_shares.attach, name="2", netns="v", uid=ONE, most=MOST)
    assert [first["attached"], again] == [half - 4, {"attached": 4, "errno": "EMFILE"}]
    tenants.call(guest_shares.end, name="1")
    assert tenants.call(guest_shares.attach, name="3", netns="v", uid=ONE, most=4)["errno"] is None


@pytest.mark.expects("exasock")
def test_a_newcomer_is_never_refused(tenants: Agent) -> None:
    """B4: two users with half of the sockets each, in a namespace each, leave some for a third one; and he
    has no more than some, in however many namespaces."""
    for name, netns, uid in (("1", "a", ONE), ("2", "v", TWO)):
        tenants.call(guest_shares.attach, name=name, netns=netns, uid=uid, most=MOST)
    third = tenants.call(guest_shares.attach, name="3", netns="w", uid=THREE, most=MOST)
    assert third == {"attached": 1, "errno": "EMFILE"}
    again = tenants.call(guest_shares.attach, name="4", netns="a", uid=THREE, most=MOST)
    assert again == {"attached": 0, "errno": "EMFILE"}


@pytest.mark.expects("exasock")
def test_a_namespace_without_a_card_costs_nobody(tenants: Agent) -> None:
    """B5: who has no device of a card is refused without RTNL, however often he asks."""
    if not tenants.call(probes.able):
        pytest.skip("needs a kernel with kprobes: Debian's")
    told = tenants.call(guest_shares.refused, netns="none", times=20)
    assert told == {"said": ["EPERM"], "rtnl": 0}

"""Topologies are checked before anything is built, and drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from suites.drawing import svg
from suites.topology import INITIAL, Device, Namespace, Topology, TopologyError, layout, vlans

PORT = Device("port", "eth0", "card0:0", addresses=("10.0.0.1/24",))
WRONG: dict[str, tuple[Namespace, ...]] = {
    "described twice": (Namespace("a"), Namespace("a")),
    "two devices of that name": (Namespace("a", (PORT, Device("port", "eth0", "card0:1"))),),
    "is already in a": (Namespace("a", (PORT,)), Namespace("b", (PORT,))),
    "is no port": (Namespace("a", (Device("port", "eth0", "eth0"),)),),
    "not described before it": (Namespace("a", (Device("vlan", "v", "./eth0", vid=5),)),),
    "a port stands on the card": (Namespace("a", (PORT, Device("port", "p", "./eth0"))),),
    "a vlan has a vid": (Namespace("a", (Device("vlan", "v", "card0:0"),)),),
    "is not in 1..4094": (Namespace("a", (Device("vlan", "v", "card0:0", vid=4095),)),),
    "is already a/v": tuple(Namespace(n, (Device("vlan", "v", "card0:0", vid=5),)) for n in "ab"),
    "Expected 4 octets": (Namespace("a", (Device("port", "e", "card0:0", addresses=("10.0.0/24",)),)),),
    "no other namespace can build": (
        Namespace("a", (PORT,)),
        Namespace("b", (Device("vlan", "v", "card0:0", vid=5),)),
    ),
    "no name for a namespace": (Namespace("a/b"),),
    "route": (Namespace("a", (PORT,), routes=(("0.0.0.0/0", "nowhere"),)),),
    "a neighbour on": (Namespace("a", (PORT,), neighbours=(("eth1", "10.0.0.2", "02:00:00:00:00:02"),)),),
}


@pytest.mark.parametrize("said", WRONG)
def test_contradictions_are_refused_in_the_topologys_own_words(said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        Topology("wrong", WRONG[said])


def test_many_alike_are_summed_up_in_the_drawing() -> None:
    text = str(Topology("many", tuple(vlans(512, "card0:0"))))
    assert "507 more" in text and "n512" in text
    assert len(text.splitlines()) < 12


def test_the_drawing_shows_ports_devices_and_wire() -> None:
    wiring: tuple[dict[str, Any], ...] = ({"kind": "cable", "ends": ["card0:0", "card0:1"]},)
    text = str(Topology("one", (Namespace("a", (PORT, Device("vlan", "v5", "./eth0", vid=5))),), wiring))
    assert "card0:0 -+- a  eth0  port  10.0.0.1/24" in text
    assert "vlan 5 on eth0" in text
    assert "cable: card0:0 === card0:1" in text


def test_specs_leave_out_the_initial_namespace_and_name_real_devices() -> None:
    made = Topology("two", (Namespace(INITIAL, (PORT,)), *vlans(1, "card0:1")))
    (spec,) = made.specs({"card0:0": "eth5", "card0:1": "eth6"})
    assert spec["devices"][0]["on"] == "eth6"


def test_stacked_vlans_have_a_place_on_the_wire() -> None:
    stacked = Namespace("a", (Device("vlan", "s", "card0:0", vid=7), Device("vlan", "c", "./s", vid=8)))
    assert Topology("qinq", (stacked,)).place(stacked, stacked.device("c")) == ("card0:0", (7, 8))


def test_how_addresses_lie_is_told() -> None:
    """What tells the cases of a report apart."""
    assert layout(Topology("one", (Namespace("a", (PORT,)),))) == "one namespace"
    assert layout(Topology("same", tuple(vlans(2, "card0:0")))) == "overlapping addresses"
    assert layout(Topology("own", tuple(vlans(2, "card0:0", host=None)))) == "addresses of their own"


def test_the_picture_is_svg_and_sums_up() -> None:
    """Well-formed whatever names hold, small with many namespaces, with ports that nobody stands on."""
    wiring: tuple[dict[str, Any], ...] = ({"kind": "cable", "ends": ["card0:0", "card0:1"]},)
    many = svg(Topology("many <&>", tuple(vlans(512, "card0:0")), wiring))
    root = ElementTree.fromstring(many)
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"many <&>", "n1", "n512", "and 507 more", "port 1", "cable 0"} <= set(texts)
    assert len(many) < 8000
    assert "<style>" not in svg(Topology("bare", (Namespace("a", (PORT,)),)), style="")

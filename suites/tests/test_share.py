"""How much went past the kernel: what is made of the counts, and what is objected to."""

from __future__ import annotations

from suites import share

DATAGRAMS = {"udp sent past": 74, "udp sent kernel neighbour": 1, "udp sent kernel behind": 5}
STREAM = {
    "tcp sent": 1000,
    "tcp received": 1000,
    "tcp sent past": 300,
    "tcp gives idle": 2,
    "tcp refused loss": 1,
}


def test_datagrams_have_reasons_and_streams_have_bytes() -> None:
    found = share.ways(DATAGRAMS | STREAM)
    assert (found["udp sent"].past, found["udp sent"].all) == (74, 80)
    assert found["udp sent"].reasons == {"neighbour": 1, "behind": 5}
    assert (found["tcp sent"].past, found["tcp sent"].all, found["tcp sent"].unit) == (300, 1000, "bytes")
    assert found["tcp sent"].reasons == {"idle": 2, "loss": 1}
    assert found["tcp received"].share == 0 and "udp received" not in found


def test_what_is_accelerated_enough_is_not_objected_to() -> None:
    assert share.objections(share.ways(DATAGRAMS | STREAM), {"udp", "tcp"}, {}) == []


def test_nothing_accelerated_is_objected_to() -> None:
    """Also where the counters know of no socket at all, as with max_sockets=0."""
    (one,) = share.objections({}, {"udp"}, {})
    assert "udp sent: 0 of 0" in one
    (two,) = share.objections(share.ways({"tcp sent": 10, "tcp received": 10}), {"tcp"}, {})
    assert "tcp sent: 0 of 10 bytes" in two


def test_a_test_without_traffic_says_why() -> None:
    assert share.objections({}, set(), {}) != []
    assert share.objections({}, set(), {}, "ICMP is the kernel's") == []


def test_more_can_be_asked() -> None:
    found = share.ways(DATAGRAMS)
    (one,) = share.objections(found, {"udp"}, {"udp_received": 0.01})
    assert "udp received" in one
    assert share.objections(found, {"udp"}, {"udp_sent": 0.99}) != []


def test_what_says_that_it_cannot_must_not_be_accelerated() -> None:
    (one,) = share.objections(share.ways(DATAGRAMS), {"udp"}, {}, "it cannot")
    assert "it cannot" in one and "74 of 80" in one

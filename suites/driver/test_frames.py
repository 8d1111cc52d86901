"""Frames of every shape through the two ports.

a: p0 (card0:0) === sw0 === p1 (card0:1) :b
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.deadline import scaled
from suites.driver import guest_exanic as guest
from suites.driver.conftest import Driver
from suites.place import Placed

#: Sizes without FCS around the ends of 120-byte chunks (with FCS: 4 more), and the extremes.
CHUNK_ENDS = [60, 115, 116, 117, 235, 236, 237, 355, 356, 357, 1196, 1197, 1513, 1514]
OTHER = "02:00:00:00:0b:0b"
KINDS = {"aborted": "rx_aborted", "bad_crc": "rx_crc", "overflow": "rx_hw_lost"}


def test_every_size(ports: Placed, driver: Driver) -> None:
    """Frames of one to thirteen chunks arrive whole, in order, with the bytes that were sent (7.1)."""
    sizes = CHUNK_ENDS + list(range(60, 1514, 37))
    with driver.session.agent.worker(netns="b") as b, driver.session.agent.worker(netns="a") as a:
        a.load(guest)
        b.load(guest)
        b.call(guest.listen, device="p1")
        a.call(guest.raw_frames, device="p0", sizes=sizes, timeout=60)
        frames = b.call(guest.heard, count=len(sizes), patience=scaled(3), timeout=scaled(30))
    assert [frame["size"] for frame in frames] == sizes
    assert all(frame["good"] and frame["length"] == frame["size"] for frame in frames)


def test_mtu_9000_while_up(ports: Placed, driver: Driver) -> None:
    """The MTU goes to 9000 and back without the port going down, and frames of 9000 pass (9.4)."""
    for netns, device in (("a", "p0"), ("b", "p1")):
        driver.run("ip", "link", "set", device, "mtu", "9000", netns=netns)
    driver.ping("a", "10.1.0.2", "-M", "do", "-s", "8972")
    for netns, device in (("a", "p0"), ("b", "p1")):
        driver.run("ip", "link", "set", device, "mtu", "1500", netns=netns)
    driver.ping()
    assert "10000" not in driver.run("ip", "link", "set", "p0", "mtu", "9001", netns="a", check=False)


@pytest.mark.card("emulated")
@pytest.mark.parametrize("status", KINDS)
def test_bad_frames_are_counted_by_kind(ports: Placed, driver: Driver, status: str) -> None:
    """A frame the card marks bad is dropped and counted under its own name; the next ones pass (7.1)."""
    before = driver.counters("b", "p1")
    driver.session.control.fault("card0", "bad_frame", port=1, status=status, count=3)
    driver.run("ping", "-c", "3", "-i", "0.2", "-w", "5", "10.1.0.2", netns="a", check=False)
    driver.ping()
    after = driver.counters("b", "p1")
    assert after[KINDS[status]] - before[KINDS[status]] == 3
    others = set(KINDS.values()) - {KINDS[status]}
    assert all(after[name] == before[name] for name in others)


@pytest.mark.card("emulated")
def test_lapped(ports: Placed, driver: Driver) -> None:
    """Overtaken by the card, the driver counts it, catches up and goes on (7.3)."""
    before = driver.counters("b", "p1")["rx_lapped"]
    # more than a ring: the driver reads on while the card writes
    driver.session.control.fault("card0", "lap", port=1, chunks=100_000)
    driver.wait("the lap is counted", lambda: driver.counters("b", "p1")["rx_lapped"] > before)
    driver.ping()


@pytest.mark.card("emulated")
@pytest.mark.parametrize(
    "fault", [{"lose": 5}, {"repeat": 3}, {"delay_s": 0.02}], ids=lambda f: next(iter(f))
)
def test_interrupts_lost_late_or_repeated(ports: Placed, driver: Driver, fault: dict[str, float]) -> None:
    """No frame is lost, whatever happens to interrupts: the ring is looked at again (7.5)."""
    driver.session.control.fault("card0", "interrupts", **fault)
    try:
        done = driver.run("ping", "-c", "5", "-i", "0.2", "-W", "15", "10.1.0.2", netns="a")
        assert " 0% packet loss" in done
    finally:
        driver.session.control.fault("card0", "interrupts")


def test_address_filter(ports: Placed, driver: Driver) -> None:
    """Another station's unicast is not delivered, until the port is promiscuous (5)."""
    stranger = bytes.fromhex("02000000eeee02000000000288b5") + bytes(50)
    before = driver.counters("b", "p1")["rx_packets"]
    control = driver.session.control
    control.inject("card0:1", stranger)
    driver.ping()
    quiet = driver.counters("b", "p1")["rx_packets"] - before
    driver.run("ip", "link", "set", "p1", "promisc", "on", netns="b")
    with driver.session.agent.worker(netns="b") as b:
        b.load(guest)
        b.call(guest.listen, device="p1")
        control.inject("card0:1", stranger)
        driver.wait(
            "the frame is counted",
            lambda: driver.counters("b", "p1")["rx_packets"] > before + quiet,
        )
    driver.run("ip", "link", "set", "p1", "promisc", "off", netns="b")


def readdress(driver: Driver, defer: Callable[..., None]) -> None:
    """Give port 1 another address, until the end of the test."""
    permanent = driver.run("ethtool", "-P", "p1", netns="b").split()[-1]
    defer(driver.run, "ip", "link", "set", "p1", "address", permanent, netns="b")
    driver.run("ip", "link", "set", "p1", "address", OTHER, netns="b")


def test_own_address_changes_while_up(ports: Placed, driver: Driver, defer: Callable[..., None]) -> None:
    """A new MAC address is in force at once (5)."""
    readdress(driver, defer)
    driver.run("ip", "neigh", "flush", "all", netns="a")
    driver.ping()
    assert OTHER in driver.run("ip", "neigh", netns="a")


@pytest.mark.card("emulated")
def test_own_address_is_the_cards_too(ports: Placed, driver: Driver, defer: Callable[..., None]) -> None:
    """The card's register has the new address, as soon as the interface has (5)."""
    readdress(driver, defer)
    assert any(one["mac"] == OTHER for one in driver.session.control.ports())


def test_tcp_segments_are_cut_by_the_driver(
    ports: Placed, driver: Driver, defer: Callable[..., None]
) -> None:
    """A TCP stream crosses with segmentation in the driver, and none is lost or damaged."""
    server = driver.session.agent.spawn(["iperf3", "-s", "-1", "--forceflush"], netns="b")
    defer(server.kill)
    server.expect("listening", timeout=scaled(5))
    driver.run("iperf3", "-c", "10.1.0.2", "-n", "4M", netns="a")
    assert driver.counters("a", "p0")["tx_tso"] > 0
    for netns, device in (("a", "p0"), ("b", "p1")):
        counters = driver.counters(netns, device)
        assert [counters[name] for name in ("tx_bad_feedback", "tx_dropped")] == [0, 0]
    server.wait(timeout=scaled(5))

"""Transmit memory and feedback slots: whose they are, and until when (rules B4, B6).

a: p0 (card0:0) === sw0 === p1 (card0:1) :b
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.deadline import scaled
from lab.guest.client import Agent
from suites.driver import guest_exanic, guest_transmit
from suites.driver.conftest import Driver
from suites.place import Placed
from suites.session import EXASOCK

PORT = 7788
SIZE = 300
MANY = 8
#: Open files of one program that wants everything.
FILES = 6

Start = Callable[..., Agent]


@pytest.fixture
def start(driver: Driver, ports: Placed) -> Iterator[Start]:
    """``start(netns, accelerated=False)``: a process in the guest; it ends with the test at the latest."""
    started: list[Agent] = []

    def one(netns: str, accelerated: bool = False) -> Agent:
        prefix = EXASOCK.prefix if accelerated else ()
        agent = driver.agent.worker(prefix, netns=netns, timeout=scaled(6))
        agent.load(guest_exanic, guest_transmit)
        started.append(agent)
        return agent

    yield one
    for agent in started:
        agent.close()


@pytest.fixture
def stall(driver: Driver) -> Iterator[Callable[[bool], None]]:
    """Port 0 is told to wait, as by pause frames, or to go on; at the end it goes on."""

    def told(on: bool) -> None:
        driver.session.control.fault("card0", "stall", port=0, on=on)

    yield told
    told(False)


def sender(driver: Driver, start: Start) -> Agent:
    """A program in ``a`` whose datagrams go past the stack."""
    program = start("a", accelerated=True)
    program.call(guest_transmit.connect, address="10.1.0.2", port=PORT)
    before = driver.counters("a", "p0")["tx_direct_packets"]

    def fast() -> bool:
        program.call(guest_transmit.datagrams, first=0, count=1, size=1)
        return driver.counters("a", "p0")["tx_direct_packets"] > before

    driver.wait("a datagram goes past the stack", fast, seconds=10)
    return program


def sent(driver: Driver) -> int:
    """Frames that p0 has sent, as its interface's statistics have it."""
    told: list[Any] = json.loads(driver.run("ip", "-j", "-s", "link", "show", "p0", netns="a"))
    return int(told[0]["stats64"]["tx"]["packets"])


def settled(driver: Driver, name: str, value: int = 0) -> None:
    """A counter of port 0 has come to a value."""
    driver.wait(f"{name} is {value}", lambda: driver.counters("a", "p0")[name] == value, seconds=20)


@pytest.mark.card("emulated")
def test_no_owner_keeps_a_port_from_coming_up(ports: Placed, driver: Driver, start: Start) -> None:
    """B4: whoever takes all memory and slots of one port that it can gets its share, and one file a part of
    it; both ports come up, and sockets go past the stack."""
    tenant = start("a")
    tenant.call(guest_transmit.lose_hardware_rights)
    got = tenant.call(guest_transmit.take, port=0, files=FILES, timeout=scaled(20))
    slots = [len(one) for one in got["slots"]]
    assert 0 < slots[0] < sum(slots) <= 128 - 6, slots
    assert 0 < got["pages"][0] < sum(got["pages"]), got["pages"]
    for netns, device in (("b", "p1"), ("a", "p0")):
        driver.run("ip", "link", "set", device, "down", netns=netns)
        driver.run("ip", "link", "set", device, "up", netns=netns)
    driver.ping()
    sender(driver, start)


@pytest.mark.card("emulated")
def test_memory_of_sockets_waits_for_the_card(
    ports: Placed, driver: Driver, start: Start, stall: Callable[[bool], None]
) -> None:
    """B6: what sockets sent to a port that is paused stays as it is when they are gone and others take all
    memory there is; sent datagrams count as the port's."""
    server = start("b")
    driver.agent.load(guest_transmit)
    server.call(guest_transmit.serve, port=PORT)
    program = sender(driver, start)
    before, sent_before = driver.counters("a", "p0"), sent(driver)
    server.call(guest_transmit.received, count=1 << 20, patience=scaled(0.2), timeout=60)
    stall(True)
    program.call(guest_transmit.datagrams, first=1, count=MANY, size=SIZE)
    program.call(guest_transmit.hang_up)
    program.close()
    settled(driver, "tx_direct_buffers")
    after = driver.counters("a", "p0")
    assert after["tx_direct_packets"] - before["tx_direct_packets"] == MANY
    assert sent(driver) - sent_before >= MANY
    newcomer = start("a")
    got = newcomer.call(guest_transmit.take, port=0, files=1, timeout=scaled(20))
    stall(False)
    seen = server.call(guest_transmit.received, count=MANY, patience=scaled(3), timeout=60)
    assert seen == [[SIZE, number] for number in range(1, MANY + 1)]
    assert set(driver.call(guest_transmit.slots, numbers=got["slots"][0])) == {0}
    assert after["tx_waiting_pages"] > 0 and after["tx_waiting_slots"] > 0
    settled(driver, "tx_waiting_pages")
    settled(driver, "tx_waiting_slots")


@pytest.mark.card("emulated")
def test_memory_of_a_file_waits_for_the_card(
    ports: Placed, driver: Driver, start: Start, stall: Callable[[bool], None]
) -> None:
    """B6: a frame that a program of its own transmit memory left in a paused port goes out as it was, whoever
    has taken all memory and slots meanwhile, and no feedback of it reaches them."""
    driver.agent.load(guest_transmit)
    listener = start("b")
    listener.call(guest_exanic.listen, device="p1")
    tenant, program = start("a"), start("a")
    stall(True)
    program.call(guest_transmit.send_and_close, port=0, size=SIZE)
    tenant.call(guest_transmit.lose_hardware_rights)
    got = tenant.call(guest_transmit.take, port=0, files=FILES, timeout=scaled(20))
    waiting = driver.counters("a", "p0")["tx_waiting_pages"]
    stall(False)
    seen = listener.call(guest_exanic.heard, count=1, patience=scaled(3), timeout=60)
    assert seen == [{"size": SIZE, "length": SIZE, "good": True}]
    assert set(driver.call(guest_transmit.slots, numbers=[*itertools.chain(*got["slots"])])) == {0}
    assert waiting == 1
    driver.ping()
    driver.ping()
    settled(driver, "tx_waiting_pages")


@pytest.mark.card("emulated")
def test_the_ports_own_queue_outlives_a_pause(
    ports: Placed, driver: Driver, start: Start, stall: Callable[[bool], None]
) -> None:
    """B6: a port that goes down and up while it is paused sends what it had been given as it was, then the
    rest."""
    listener, program = start("b"), start("a")
    listener.call(guest_exanic.listen, device="p1")
    sizes = [300, 700, 1514]
    stall(True)
    program.call(guest_exanic.raw_frames, device="p0", sizes=[SIZE])  # more would wait in the stack
    driver.run("ip", "link", "set", "p0", "down", netns="a")
    driver.run("ip", "link", "set", "p0", "up", netns="a")
    program.call(guest_exanic.raw_frames, device="p0", sizes=sizes)
    stall(False)
    seen = listener.call(guest_exanic.heard, count=1 + len(sizes), patience=scaled(3), timeout=60)
    assert [one["size"] for one in seen] == [SIZE, *sizes]
    assert all(one["length"] == one["size"] for one in seen)
    assert seen[0]["good"]
    driver.ping()
    assert driver.counters("a", "p0")["tx_bad_feedback"] == 0

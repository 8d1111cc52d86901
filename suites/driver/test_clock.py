"""The card's clock: a PTP hardware clock, and times of frames taken by it (sections 8.6 and 10)."""

from __future__ import annotations

import re

import pytest

from lab.deadline import scaled
from suites.driver import guest_exanic as guest
from suites.driver.conftest import Driver
from suites.place import Placed

pytestmark = pytest.mark.needs("clock")
#: Seconds by which two readings of two clocks may differ when the machine is busy.
SLACK = 5.0
SENDER = """
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    sock.sendto(b"x" * 32, ("10.1.0.2", 7777))
    time.sleep(0.2)
"""


def test_ptp_clock(driver: Driver) -> None:
    """The clock starts from the system's time, can be set, and runs."""
    device = driver.session.devices["card0:0"]
    found = re.search(
        r"(?:Hardware Clock|timestamp provider index): (\d+)", driver.run("ethtool", "-T", device)
    )
    assert found is not None
    seen = driver.call(guest.clock, index=int(found.group(1)))
    assert abs(seen["offset"]) < SLACK
    assert 1000.5 <= seen["set"] < 1000.5 + SLACK
    assert seen["ran"] > 0
    assert abs(seen["ran"] - seen["passed"]) < SLACK


def test_hardware_timestamps(ports: Placed, driver: Driver) -> None:
    """A datagram and its echo carry the card's times, in order, between the system's before and after."""
    with driver.session.agent.worker(netns="b") as b:
        b.load(guest)
        waiting = b.submit(
            "call",
            module=guest.__name__,
            function="stamped_echo",
            kwargs={"device": "p1", "address": "10.1.0.2", "patience": scaled(3)},
        )
        # datagrams at a pace, until one has been answered
        sender = driver.session.agent.spawn(["python3", "-c", SENDER], netns="a")
        try:
            seen = waiting.result(scaled(10))
        finally:
            sender.stop()
    assert seen["started"] - SLACK < seen["received"] < seen["sent"] < seen["ended"] + SLACK

"""Goals: each test of the driver starts from two ports that are up, and leaves them so.

``ports`` puts card0:0 into namespace ``a`` and card0:1 into ``b``, with 10.1.0.1/24 and 10.1.0.2/24. Tests
that take the driver or the card away ask for ``rebirth``, which brings them back and the ports up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab.deadline import Deadline, scaled
from lab.guest.client import Agent
from suites.driver import guest_exanic
from suites.guest import health
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology

PORTS = Topology(
    "two ports",
    (
        Namespace("a", (Device("port", "p0", "card0:0", addresses=("10.1.0.1/24",)),)),
        Namespace("b", (Device("port", "p1", "card0:1", addresses=("10.1.0.2/24",)),)),
    ),
)


@dataclass
class Driver:
    """What the tests of the driver ask the guest."""

    session: Session

    @property
    def agent(self) -> Agent:
        return self.session.agent

    def call(self, function: Callable[..., Any], timeout: float = 10, **arguments: Any) -> Any:
        return self.agent.call(function, timeout=scaled(timeout), **arguments)

    def run(self, *argv: str, netns: str | None = None, check: bool = True) -> str:
        done = self.agent.exec(argv, netns=netns, timeout=scaled(20), check=check)
        return done.stdout + done.stderr

    def counters(self, netns: str | None, device: str) -> dict[str, int]:
        """The driver's own statistics."""
        lines = self.run("ethtool", "-S", device, netns=netns).splitlines()[1:]
        return {name.strip(): int(value) for name, _, value in (line.partition(":") for line in lines)}

    def unload(self) -> None:
        """rmmod, after the module that stands on it, which no program uses any more."""
        self.session.end_programs()
        self.run("rmmod", "exasock")
        self.run("rmmod", "exanic")

    def load(self) -> None:
        self.run("modprobe", "exanic")
        self.run("modprobe", "exasock")

    def wait(self, what: str, ready: Callable[[], bool], seconds: float = 5) -> None:
        """Ask until it is so."""
        Deadline(what, scaled(seconds)).wait_until(ready, every=0.05)

    def ping(self, netns: str = "a", address: str = "10.1.0.2", *options: str) -> None:
        """One answer is enough; CommandFailed when there is none."""
        self.run("ping", "-c", "1", "-w", "20", *options, address, netns=netns)


@pytest.fixture
def driver(session: Session, healthy: None) -> Driver:
    session.agent.load(guest_exanic)
    return Driver(session)


@pytest.fixture
def ports(place: Callable[[Topology], Placed], driver: Driver) -> Placed:
    standing = place(PORTS)
    driver.ping()
    return standing


@pytest.fixture
def rebirth(driver: Driver) -> Iterator[None]:
    """Afterwards: the module loaded, both ports there under their names and up."""
    names = dict(driver.session.devices)
    yield
    driver.load()
    driver.wait("both ports are back", lambda: len(driver.agent.call(health.ports)) >= len(names))
    found = driver.session.find_devices()
    for end, name in names.items():
        if found[end] != name:
            driver.run("ip", "link", "set", found[end], "down")
            driver.run("ip", "link", "set", found[end], "name", f"{name}.new")
    for end, name in names.items():
        if found[end] != name:
            driver.run("ip", "link", "set", f"{name}.new", "name", name)
    for name in names.values():
        driver.run("ip", "link", "set", name, "up")

"""The driver's life: loaded, unloaded, failing half way, its card pulled out, its ports moving about."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from suites.driver import guest_exanic as guest
from suites.driver.conftest import Driver
from suites.guest import health
from suites.place import Placed

#: Steps of bringing a card up (enum exanic_step): those that fail the probe, those that leave minimal mode.
FATAL_STEPS = (1, 2, 3)
MINIMAL_STEPS = (4, 5, 6, 7, 8, 9, 10, 11)
PARAMETER = "/sys/module/exanic/parameters/fail_step"
SYSFS = "/sys/bus/pci/drivers/exanic"


def pci(driver: Driver) -> str:
    """Address of card 0."""
    ports = driver.agent.call(health.ports)
    name = next(iter(driver.session.devices.values()))
    assert any(port["name"] == name for port in ports)
    return driver.run("readlink", "-f", f"/sys/class/net/{name}/device").strip().rsplit("/", 1)[-1]


@pytest.mark.expects("exanic")
def test_unload_with_traffic(rebirth: None, driver: Driver, defer: Callable[..., None]) -> None:
    """rmmod in the middle of floods ends cleanly, and a new load works (6.3)."""
    devices = driver.session.devices
    for end, netns, address in (("card0:0", "x", "10.1.0.1"), ("card0:1", "y", "10.1.0.2")):
        driver.run("ip", "netns", "add", netns)
        defer(driver.run, "ip", "netns", "del", netns)
        driver.run("ip", "link", "set", devices[end], "netns", netns)
        driver.run("ip", "addr", "add", f"{address}/24", "dev", devices[end], netns=netns)
        driver.run("ip", "link", "set", devices[end], "up", netns=netns)
    driver.ping("x")
    for netns, address in (("x", "10.1.0.2"), ("y", "10.1.0.1")):
        ping = driver.agent.spawn(["ping", "-q", "-f", address], netns=netns)
        defer(ping.kill)
    before = driver.counters("x", devices["card0:0"])["rx_packets"]
    driver.wait(
        "traffic flows", lambda: driver.counters("x", devices["card0:0"])["rx_packets"] > before + 100
    )
    driver.unload()
    driver.load()


@pytest.mark.expects("exanic")
def test_bind_and_unbind(rebirth: None, driver: Driver) -> None:
    """The card changes drivers again and again, and each time comes back whole."""
    address = pci(driver)
    for _ in range(3):
        assert driver.call(guest.write, path=f"{SYSFS}/unbind", text=address) == "ok"
        assert driver.call(guest.bound_to, device=address) == ""
        assert driver.call(guest.write, path=f"{SYSFS}/bind", text=address) == "ok"
    assert driver.call(guest.info)["ports"] == 2


@pytest.mark.expects("exanic", "probe")
@pytest.mark.parametrize("step", [*FATAL_STEPS, *MINIMAL_STEPS])
def test_each_failure_unwinds(rebirth: None, driver: Driver, step: int, defer: Callable[..., None]) -> None:
    """Whatever fails while the card is brought up, it is undone, and the next try works (3, 6.1)."""
    address = pci(driver)
    defer(driver.call, guest.write, path=f"{SYSFS}/bind", text=address)
    defer(driver.call, guest.write, path=f"{SYSFS}/unbind", text=address)
    defer(driver.call, guest.write, path=PARAMETER, text="0")
    assert driver.call(guest.write, path=f"{SYSFS}/unbind", text=address) == "ok"
    assert driver.call(guest.write, path=PARAMETER, text=str(step)) == "ok"
    bound = driver.call(guest.write, path=f"{SYSFS}/bind", text=address)
    if step in FATAL_STEPS:
        assert bound == "EIO"
        assert driver.call(guest.bound_to, device=address) == ""
    else:
        assert bound == "ok"
        assert driver.call(guest.info)["ports"] == 0


@pytest.mark.card("emulated")
@pytest.mark.expects("exanic", "pcie", "bad_accesses")
def test_all_ones(rebirth: None, driver: Driver, defer: Callable[..., None]) -> None:
    """A card that answers all ones is given up at once: devices detached, descriptors say ENODEV, no loop."""
    address = pci(driver)
    device = driver.session.devices["card0:0"]
    driver.run("ip", "link", "set", device, "up")
    driver.call(guest.hold, area="ring0")
    defer(driver.call, guest.release)
    driver.session.control.fault("card0", "gone", on=True)
    try:
        driver.wait("the driver notices", lambda: driver.call(guest.held)["info"] == "ENODEV")
        seen = driver.call(guest.held)
        assert (seen["first"], seen["last"]) == (255, 255)
        assert "DOWN" in driver.run("ip", "-br", "link", "show", device)
    finally:
        driver.session.control.fault("card0", "gone", on=False)
    driver.call(guest.write, path=f"{SYSFS}/unbind", text=address)
    assert driver.call(guest.write, path=f"{SYSFS}/bind", text=address) == "ok"


@pytest.mark.card("emulated")
@pytest.mark.expects("exanic", "pcie")
def test_unplug_and_plug(rebirth: None, driver: Driver, defer: Callable[..., None]) -> None:
    """Pulled through PCIe hot plug with a ring mapped and a port up, and plugged in again."""
    names = dict(driver.session.devices)
    driver.call(guest.hold, area="ring0")
    defer(driver.call, guest.release)
    lab = driver.session.lab
    driver.run("ip", "link", "set", names["card0:0"], "up")
    lab.qmp("device_del", {"id": "card0"})
    try:
        gone = "the card is gone, and the descriptor says so"
        driver.wait(gone, lambda: driver.call(guest.held)["info"] == "ENODEV", seconds=20)
        assert driver.agent.call(health.ports) == []
        seen = driver.call(guest.held)
        assert (seen["first"], seen["last"]) == (255, 255)
    finally:
        socket = {"type": "unix", "path": str(lab.paths.card("card0"))}
        lab.qmp(
            "device_add",
            {"driver": "vfio-user-pci", "id": "card0", "bus": "card0.slot", "rombar": 0, "socket": socket},
        )
    driver.wait("the ports are back", lambda: len(driver.agent.call(health.ports)) == 2, seconds=20)


def test_moves_between_namespaces(ports: Placed, driver: Driver, defer: Callable[..., None]) -> None:
    """A port goes from namespace to namespace and works in each; a deleted one gives it back (N8)."""
    home = driver.session.devices["card0:0"]
    driver.run("ip", "netns", "add", "third")
    defer(driver.run, "ip", "netns", "del", "third", check=False)
    for _ in range(5):
        driver.run("ip", "link", "set", "p0", "netns", "third", netns="a")
        driver.run("ip", "addr", "add", "10.1.0.1/24", "dev", "p0", netns="third")
        driver.run("ip", "link", "set", "p0", "up", netns="third")
        driver.ping("third")
        driver.run("ip", "link", "set", "p0", "netns", "a", netns="third")
        driver.run("ip", "addr", "add", "10.1.0.1/24", "dev", "p0", netns="a", check=False)
        driver.run("ip", "link", "set", "p0", "up", netns="a")
        driver.ping("a")
    assert home not in driver.run("ip", "-br", "link")

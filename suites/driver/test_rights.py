"""Who may do what to a card (rules N6, B8): each row of datapath/exanic/ACCESS.md, tried.

host:  the port, root                 container:  its own user and network namespace, the port moved in
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from suites.driver import access_table, guest_rights
from suites.driver.conftest import Driver

ROWS = {name: row for name, row in access_table.rows().items() if row.needs != "kernel"}
#: What a card without steering answers where it is not refused; what has no other answer.
WITHOUT_STEERING = ("FILTER_ADD", "BUFFER_ALLOC", "HASH_CONFIGURE", "FILTER_RING")
REFUSED = "EPERM"

Outcomes = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def known() -> Outcomes:
    """What was found once: the outcomes by operation, of each who tried."""
    return {}


@pytest.fixture
def outcomes(driver: Driver, known: Outcomes) -> Outcomes:
    """All that is tried, by three: see ``suites.driver.guest_rights``."""
    if known:
        return known
    driver.agent.load(guest_rights)
    device, names = driver.session.devices["card0:0"], list(guest_rights.ATTEMPTS)
    driver.run("ip", "link", "set", device, "down")
    found = {"host": driver.call(guest_rights.host, timeout=60, device=device, port=0, names=names)}
    for who, capable in (("container", True), ("powerless", False)):
        found[who] = contained(driver, capable, names, ("card0:0",))
    driver.run("ip", "link", "set", device, "up")
    known.update(found)
    return known


def contained(driver: Driver, capable: bool, names: list[str], ends: tuple[str, ...]) -> dict[str, str]:
    """Try as a container's root that has these ports; afterwards they are home again."""
    ports = [(driver.session.devices[end], int(end.rpartition(":")[2])) for end in ends]
    found: dict[str, str] = driver.call(
        guest_rights.contained, timeout=60, ports=ports, capable=capable, names=names
    )
    driver.session.await_devices()
    return found


def allowed(name: str, outcome: str) -> bool:
    """Whether this outcome is that of somebody who may."""
    if any(part in name for part in WITHOUT_STEERING):
        return outcome in ("ok", "EINVAL")
    return outcome == "ok"


def wrong(row: access_table.Row, who: str, place: int, outcome: str) -> str | None:
    """What is wrong with an outcome; nothing when it is as the row says."""
    rights = access_table.RIGHTS[row.needs]
    if rights is None:
        good = outcome in ("EINVAL", "EACCES", "EOPNOTSUPP")
    elif rights[place]:
        good = allowed(row.name, outcome)
    else:
        good = outcome == ("EINVAL" if "FILTER_RING" in row.name else REFUSED)
    return None if good else f"{row.name} ({row.needs}): {who} gets {outcome}"


@pytest.mark.card("emulated")
@pytest.mark.parametrize("needs", sorted({row.needs for row in ROWS.values()}))
def test_rows_that_need(outcomes: Outcomes, needs: str) -> None:
    """N6, B8: the host's root, a container's root, and one without capabilities get what each row says."""
    told = [
        wrong(row, who, place, outcomes[who][row.name])
        for row in ROWS.values()
        if row.needs == needs
        for place, who in enumerate(("host", "container", "powerless"))
    ]
    assert not list(filter(None, told))


@pytest.mark.card("emulated")
def test_the_owner_of_all_ports_may_bridge_them(driver: Driver, defer: Callable[..., None]) -> None:
    """B8: a container that owns every port of the card may bridge them; mirroring stays the host's."""
    driver.agent.load(guest_rights)
    for device in driver.session.devices.values():
        driver.run("ip", "link", "set", device, "down")
        defer(driver.run, "ip", "link", "set", device, "up")
    found = contained(driver, True, ["priv.bridging", "priv.mirror_rx"], ("card0:0", "card0:1"))
    assert found == {"priv.bridging": "ok", "priv.mirror_rx": REFUSED}


@pytest.mark.card("emulated")
def test_a_tenants_bridge_ends_when_a_port_leaves(driver: Driver, defer: Callable[..., None]) -> None:
    """B8: bridging that a namespace switched on over its own ports is off once one of them is elsewhere."""
    driver.agent.load(guest_rights)
    for device in driver.session.devices.values():
        driver.run("ip", "link", "set", device, "down")
        defer(driver.run, "ip", "link", "set", device, "up")
    found = contained(driver, True, ["priv.bridging on"], ("card0:0", "card0:1"))
    assert found == {"priv.bridging on": "ok"}
    flags = driver.run("ethtool", "--show-priv-flags", driver.session.devices["card0:0"])
    assert re.search(r"bridging\s*: off", flags)

"""/dev/exanicN: the vendor's ABI, and who may use it (rule N6; datapath/exanic/ACCESS.md)."""

from __future__ import annotations

from typing import Any

from suites.driver import guest_exanic as guest
from suites.driver.conftest import PORTS, Driver
from suites.place import Placed

#: What the owner of a port with hardware rights may do; without them; and a stranger to the port.
WHOLE = {"info": "ok", "ring": "ok", "ring written": "EACCES", "tx buffer": "ok", "slot": "ok"}
HARDWARE = {"registers": "ok", "feedback": "ok"}
NO_HARDWARE = {"registers": "EPERM", "feedback": "EPERM"}
STRANGER = {"info": "ok", "ring": "EPERM", "tx buffer": "EPERM", "slot": "EPERM"}


def expect(found: dict[str, Any], port: int, *wanted: dict[str, str]) -> None:
    """Compare what is named; ``ring`` is the port's."""
    for table in wanted:
        for name, value in table.items():
            key = f"ring{port}" if name == "ring" else name
            assert found[key] == value, f"{key}: {found[key]}, not {value}"


def test_abi_sizes(driver: Driver) -> None:
    """INFO, INFO_EX and INFO_EX2 answer with their sizes; the rest of the type is ENOTTY (9.2)."""
    found = driver.call(guest.info)
    assert found["ports"] == 2
    assert found["tx"] > 0
    assert all(index > 0 for index in found["ifindex"])
    assert found["unknown"] == "ENOTTY"


def test_root_in_the_initial_namespace_maps_everything(driver: Driver) -> None:
    """What libexanic maps can be mapped, with the attributes and errors of 9.1."""
    found = driver.call(guest.maps)
    for area in ("registers", "registers written", "info", "tx", "feedback", "ring0", "ring1", "ring0_ext"):
        assert found[area] == "ok", area
    assert found["ring0 written"] == "EACCES"
    assert found["info written"] == "EACCES"
    assert found["ring0 too long"] == "EINVAL"
    assert found["nothing"] == "EINVAL"


def test_private_ioctls(driver: Driver) -> None:
    """EXAIOCGIFINFO and EXAIOCGHWTSTAMP are both answered (9.3)."""
    for end, device in driver.session.devices.items():
        found = driver.call(guest.interface_ioctls, device=device)
        assert found["card"] == "exanic0"
        assert f"card0:{found['port']}" == end
        assert len(found["hwtstamp"]) == 3


def test_only_the_ports_own_namespace(ports: Placed, driver: Driver) -> None:
    """N6: a port's ring, memory and slots are for openers in its namespace; others see no index of it."""
    expect(driver.call(guest.rights, port=0, netns="a"), 0, WHOLE, HARDWARE)
    for stranger in ("b", None):
        found = driver.call(guest.rights, port=0, netns=stranger)
        expect(found, 0, STRANGER)
        assert found["ifindex"] == 0
    assert driver.call(guest.rights, port=0, netns="a")["ifindex"] > 0


def test_hardware_needs_hardware_rights(ports: Placed, driver: Driver) -> None:
    """N6: registers and the feedback page, which reach beyond the port, need CAP_SYS_RAWIO."""
    found = driver.call(guest.rights, port=0, netns="a", unprivileged=True)
    expect(found, 0, WHOLE, NO_HARDWARE)


def test_a_descriptor_keeps_its_openers_rights(ports: Placed, driver: Driver) -> None:
    """N6: setns after opening neither adds the new namespace's ports nor an index of the old one's."""
    found = driver.call(guest.rights_after_setns, port=1, opener="a", user="b")
    expect(found, 1, STRANGER)
    found = driver.call(guest.rights_after_setns, port=0, opener="a", user="b")
    expect(found, 0, WHOLE)
    assert found["ifindex"] == 0


def test_tx_pages_are_the_files_own(driver: Driver) -> None:
    """Without hardware rights a TX page that another holds cannot be touched: SIGBUS."""
    found = driver.call(guest.foreign_tx_page, port=0)
    assert found == {"own": "ok", "foreign": {"signal": 7}}


def test_tx_memory_is_freed_at_close(driver: Driver) -> None:
    """All TX memory that is free can be had, only its holder can free it, and closing returns it (8.1)."""
    found = driver.call(guest.tx_memory, port=0)
    assert len(found["first"]) == len(set(found["first"])) > 1
    assert found["stolen"] == "EINVAL"
    assert found["again"] == found["first"][:1]
    # sockets of earlier tests may have given theirs back meanwhile
    assert set(found["back"]) >= set(found["first"])


def test_a_mapped_ring_is_revoked_when_the_port_moves(driver: Driver, place: Any) -> None:
    """N6, N8: a ring mapped before the move shows nothing of the new namespace's frames."""
    before = driver.call(guest.usage)
    driver.call(guest.hold, area="ring0")
    try:
        assert driver.call(guest.held)["usage"] == before + 1
        place(PORTS)
        driver.ping()
        seen = driver.call(guest.held)
        assert (seen["first"], seen["last"]) == (255, 255)
    finally:
        driver.call(guest.release)
    assert driver.call(guest.usage) == before

"""Configuration space: header, BAR sizing, capabilities."""

from __future__ import annotations

import pytest

from lab.vfio_user.device import Bar, PciIdentity
from lab.vfio_user.pci import BAR0, COMMAND, CONFIG_SIZE, MSI_CAP, ConfigSpace
from lab.vfio_user.tests.double import connected

IDENTITY = PciIdentity(
    0x1CE4, 0x0009, 0x1234, 0x5678, class_code=0x020000, revision=3, bars=(Bar(0, 8 << 20), Bar(2, 256 << 10))
)


def number(config: ConfigSpace, offset: int, size: int) -> int:
    return int.from_bytes(config.read(offset, size), "little")


def test_identity() -> None:
    config = ConfigSpace(IDENTITY)
    assert number(config, 0, 4) == 0x0009_1CE4
    assert number(config, 8, 4) == 0x020000_03
    assert number(config, 0x2C, 4) == 0x5678_1234
    assert number(config, 0x0E, 1) == 0  # type 0, one function
    assert number(config, 0x3D, 1) == 0  # no INTx


def test_nothing_read_only_can_be_changed() -> None:
    """Writing ones everywhere leaves identity, capability list and link status as they were."""
    config = ConfigSpace(IDENTITY)
    before = config.read(0, CONFIG_SIZE)
    config.write(0, b"\xff" * CONFIG_SIZE)
    for offset in (0, 2, 8, 0x0A, 0x2C, 0x34, MSI_CAP, 0x70, 0x82):
        assert config.read(offset, 2) == before[offset : offset + 2]
    assert config.read(0x100, CONFIG_SIZE - 0x100) == bytes(CONFIG_SIZE - 0x100)


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        (Bar(0, 8 << 20), 0xFF80_0000),
        (Bar(2, 256 << 10, prefetch=True), 0xFFFC_0008),
        (Bar(4, 8 << 30, is64=True, prefetch=True), 0xFFFF_FFFE_0000_000C),
    ],
)
def test_bar_sizing(bar: Bar, expected: int) -> None:
    """Writing ones leaves the size mask and the type bits."""
    config = ConfigSpace(PciIdentity(0x1CE4, 9, bars=(bar,)))
    offset, size = BAR0 + 4 * bar.index, 8 if bar.is64 else 4
    config.write(offset, b"\xff" * size)
    assert number(config, offset, size) == expected


@pytest.mark.parametrize("bar", [Bar(0, 24), Bar(0, 8), Bar(6, 4096), Bar(5, 4096, is64=True), Bar(-1, 16)])
def test_impossible_bars_are_refused(bar: Bar) -> None:
    with pytest.raises(ValueError, match="BAR"):
        ConfigSpace(PciIdentity(0x1CE4, 9, bars=(bar,)))


def test_the_capability_list_ends() -> None:
    """Power management, MSI (64 bits, one vector), PCI Express; no loop."""
    config = ConfigSpace(IDENTITY)
    seen: list[int] = []
    at = number(config, 0x34, 1)
    while at:
        assert len(seen) < 10 and at % 4 == 0
        seen.append(number(config, at, 1))
        at = number(config, at + 1, 1)
    assert seen == [0x01, 0x05, 0x10]
    assert number(config, MSI_CAP + 2, 2) == 0x80


def test_command_register() -> None:
    config = ConfigSpace(IDENTITY)
    config.write(COMMAND, b"\xff\xff")
    assert config.command == 0x0546
    config.reset()
    assert config.command == 0


def test_through_the_protocol() -> None:
    """Region 7 is configuration space, readable as a whole."""
    with connected() as (client, _):
        assert client.read(7, 0, 4096)[:4] == bytes.fromhex("e41c0900")
        client.write(7, 0x3C, b"\x0b")
        assert client.read(7, 0x3C, 1) == b"\x0b"

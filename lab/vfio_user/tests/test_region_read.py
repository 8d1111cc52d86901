"""REGION_READ."""

from __future__ import annotations

import errno

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import MAX_DATA_XFER, Command
from lab.vfio_user.tests.double import BAR0_SIZE, ID, IDENTITY, connected


def test_a_register() -> None:
    """The reply repeats offset, region and count before the data."""
    with connected() as (client, _):
        head = protocol.REGION_RW.pack(ID, 0, 4)
        assert client.ok(Command.REGION_READ, head).payload == head + IDENTITY.to_bytes(4, "little")


def test_a_mapped_region_can_be_read_by_message_too() -> None:
    with connected() as (client, device):
        device.bar2[0:4] = b"abcd"
        assert client.read(2, 0, 65536)[:4] == b"abcd"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(15),
        protocol.REGION_RW.pack(0, 0, 4) + b"x",
        protocol.REGION_RW.pack(0, 0, 0),
        protocol.REGION_RW.pack(BAR0_SIZE, 0, 4),
        protocol.REGION_RW.pack(BAR0_SIZE - 2, 0, 4),
        protocol.REGION_RW.pack(2**64 - 2, 0, 4),
        protocol.REGION_RW.pack(0, 0, MAX_DATA_XFER + 1),
        protocol.REGION_RW.pack(0, 1, 4),
        protocol.REGION_RW.pack(0, 9, 4),
        protocol.REGION_RW.pack(0, 0xFFFFFFFF, 4),
        protocol.REGION_RW.pack(4096, 7, 1),
        protocol.REGION_RW.pack(2, 0, 4),
        protocol.REGION_RW.pack(0, 0, 3),
    ],
)
def test_errors(payload: bytes) -> None:
    """EINVAL: wrong size, count 0 or too large, beyond the region, no region, refused by the device."""
    with connected() as (client, _):
        assert client.errno(Command.REGION_READ, payload) == errno.EINVAL

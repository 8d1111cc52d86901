"""REGION_WRITE, answered and posted."""

from __future__ import annotations

import errno

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import FLAG_NO_REPLY, Command
from lab.vfio_user.tests.double import BAR0_SIZE, SCRATCH, connected


def write(offset: int, region: int, data: bytes, count: int | None = None) -> bytes:
    return protocol.REGION_RW.pack(offset, region, len(data) if count is None else count) + data


def test_a_register() -> None:
    """The reply repeats offset, region and count, without data."""
    with connected() as (client, _):
        answer = client.ok(Command.REGION_WRITE, write(SCRATCH, 0, b"1234"))
        assert answer.payload == protocol.REGION_RW.pack(SCRATCH, 0, 4)
        assert client.read(0, SCRATCH, 4) == b"1234"


def test_a_posted_write_is_done_and_not_answered() -> None:
    """The next answered command sees its effect: commands are served in order."""
    with connected() as (client, _):
        client.send(Command.REGION_WRITE, write(SCRATCH, 0, b"post"), flags=FLAG_NO_REPLY)
        assert client.read(0, SCRATCH, 4) == b"post"


def test_a_failing_posted_write_is_not_answered_either() -> None:
    with connected() as (client, _):
        client.send(Command.REGION_WRITE, write(BAR0_SIZE, 0, b"post"), flags=FLAG_NO_REPLY)
        client.ok(Command.DEVICE_RESET)
        assert client.session.counters.errors["EINVAL"] == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(15),
        write(0, 0, b""),
        write(SCRATCH, 0, b"123", count=4),
        write(SCRATCH, 0, b"12345", count=4),
        write(BAR0_SIZE - 2, 0, b"1234"),
        write(2**64 - 4, 0, b"1234"),
        write(0, 4, b"1234"),
        write(0, 1, b"1234"),
        write(0, 9, b"1234"),
        write(SCRATCH + 1, 0, b"1234"),
    ],
)
def test_errors(payload: bytes) -> None:
    """EINVAL: count and data differ, beyond the region, read-only, no region, refused by the device."""
    with connected() as (client, _):
        assert client.errno(Command.REGION_WRITE, payload) == errno.EINVAL

"""DEVICE_GET_REGION_IO_FDS: answered, with no sub-region."""

from __future__ import annotations

import errno

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import Command
from lab.vfio_user.tests.double import connected


@pytest.mark.parametrize("index", [0, 2, 7])
def test_no_region_has_io_descriptors(index: int) -> None:
    """An empty array and no descriptor: the client goes on trapping."""
    with connected() as (client, _):
        answer = client.ok(Command.DEVICE_GET_REGION_IO_FDS, protocol.REGION_IO_FDS.pack(1024, 0, index, 0))
        assert protocol.REGION_IO_FDS.unpack(answer.payload) == (16, 0, index, 0)
        assert answer.fds == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(15),
        protocol.REGION_IO_FDS.pack(15, 0, 0, 0),
        protocol.REGION_IO_FDS.pack(16, 1, 0, 0),
        protocol.REGION_IO_FDS.pack(16, 0, 9, 0),
        protocol.REGION_IO_FDS.pack(16, 0, 0, 1),
    ],
)
def test_errors(payload: bytes) -> None:
    """EINVAL: truncated, argsz too small, flags or count set, no such region."""
    with connected() as (client, _):
        assert client.errno(Command.DEVICE_GET_REGION_IO_FDS, payload) == errno.EINVAL

"""DEVICE_GET_INFO."""

from __future__ import annotations

import errno

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import Command
from lab.vfio_user.tests.double import connected


def test_info() -> None:
    """A PCI device that can be reset, with VFIO's fixed numbers of regions and interrupt types."""
    with connected() as (client, _):
        answer = client.ok(Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 0))
        assert protocol.DEVICE_INFO.unpack(answer.payload) == (16, 3, 9, 5)


@pytest.mark.parametrize("payload", [b"", bytes(15), protocol.DEVICE_INFO.pack(15, 0, 0, 0), bytes(17)])
def test_a_wrong_size_is_einval(payload: bytes) -> None:
    """Truncated, too long, or an argsz with no room for the reply."""
    with connected() as (client, _):
        assert client.errno(Command.DEVICE_GET_INFO, payload) == errno.EINVAL

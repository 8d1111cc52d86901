"""DEVICE_GET_IRQ_INFO."""

from __future__ import annotations

import errno

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import Command
from lab.vfio_user.tests.double import connected


@pytest.mark.parametrize(
    ("index", "flags", "count"), [(0, 0, 0), (1, 11, 1), (2, 0, 0), (3, 0, 0), (4, 0, 0)]
)
def test_one_msi_and_nothing_else(index: int, flags: int, count: int) -> None:
    """MSI: eventfd, maskable, not resizable, one vector. No INTx, MSI-X, error or request interrupt."""
    with connected() as (client, _):
        answer = client.ok(Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 0, index, 0))
        assert protocol.IRQ_INFO.unpack(answer.payload) == (16, flags, index, count)


@pytest.mark.parametrize(
    "payload",
    [b"", bytes(17), protocol.IRQ_INFO.pack(15, 0, 1, 0), protocol.IRQ_INFO.pack(16, 0, 5, 0)],
)
def test_errors(payload: bytes) -> None:
    """EINVAL: truncated, too long, argsz too small, no such type."""
    with connected() as (client, _):
        assert client.errno(Command.DEVICE_GET_IRQ_INFO, payload) == errno.EINVAL

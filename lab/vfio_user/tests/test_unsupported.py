"""Commands that this server does not do: each gets its errno and the connection goes on."""

from __future__ import annotations

import errno
import os

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import Command
from lab.vfio_user.tests.double import connected, open_fds


@pytest.mark.parametrize(
    ("command", "payload", "number"),
    [
        (Command.DMA_READ, bytes(16), errno.EOPNOTSUPP),
        (Command.DMA_WRITE, bytes(20), errno.EOPNOTSUPP),
        (Command.DIRTY_PAGES, bytes(8), errno.EOPNOTSUPP),
        (Command.MIG_DATA_READ, bytes(8), errno.EOPNOTSUPP),
        (Command.MIG_DATA_WRITE, bytes(8), errno.EOPNOTSUPP),
        (Command.DEVICE_FEATURE, protocol.DEVICE_FEATURE.pack(8, 1 | 1 << 16), errno.ENOTTY),
        (Command.DEVICE_FEATURE, protocol.DEVICE_FEATURE.pack(24, 6 | 1 << 17) + bytes(16), errno.ENOTTY),
        (Command.DEVICE_FEATURE, b"", errno.EINVAL),
        (0, b"", errno.ENOSYS),
        (19, b"", errno.ENOSYS),
        (0xFFFF, bytes(1000), errno.ENOSYS),
    ],
)
def test_refused(command: int, payload: bytes, number: int) -> None:
    """DMA by message goes from server to client only; migration and dirty pages are not supported."""
    with connected() as (client, _):
        assert client.errno(command, payload) == number
        client.ok(Command.DEVICE_RESET)


def test_their_descriptors_are_closed() -> None:
    with connected() as (client, _):
        fds = [os.eventfd(0) for _ in range(3)]
        before = len(open_fds())
        assert client.errno(99, b"", fds) == errno.ENOSYS
        assert client.errno(Command.DMA_READ, bytes(16), fds) == errno.EOPNOTSUPP
        assert len(open_fds()) == before
        for fd in fds:
            os.close(fd)

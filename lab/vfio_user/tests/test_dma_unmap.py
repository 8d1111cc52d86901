"""DMA_UNMAP."""

from __future__ import annotations

import errno
import os

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import Command
from lab.vfio_user.tests.double import Client, connected, memfd, open_fds

SIZE = 64 << 10


def request(address: int, size: int, flags: int = 0, argsz: int = 24) -> bytes:
    return protocol.DMA_UNMAP.pack(argsz, flags, address, size)


def add(client: Client, address: int, fd: int | None = None) -> None:
    payload = protocol.DMA_MAP.pack(32, 3, 0, address, SIZE)
    client.ok(Command.DMA_MAP, payload, [] if fd is None else [fd])


def test_a_range_goes_with_its_memory() -> None:
    """The reply repeats the request; mapping and descriptor are gone."""
    fd = memfd("guest", SIZE)
    with connected() as (client, device):
        before = len(open_fds())
        add(client, 0, fd)
        add(client, SIZE, fd)
        answer = client.ok(Command.DMA_UNMAP, request(0, SIZE))
        assert answer.payload == request(0, SIZE)
        assert list(device.ranges) == [SIZE]
        client.ok(Command.DMA_UNMAP, request(SIZE, SIZE))
        assert len(open_fds()) == before
    os.close(fd)


def test_all() -> None:
    """The flag removes every range; without any it is fine, too."""
    with connected() as (client, device):
        add(client, 0)
        add(client, SIZE)
        client.ok(Command.DMA_UNMAP, request(0, 0, flags=2))
        assert device.ranges == {}
        client.ok(Command.DMA_UNMAP, request(0, 0, flags=2))
        add(client, 0)


def test_a_kept_view_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    """A device that breaks its contract keeps the memory alive; the server says so and goes on."""
    fd = memfd("guest", SIZE)
    with connected() as (client, device):
        add(client, 0, fd)
        memory = device.ranges[0][1]
        assert memory is not None
        view = memoryview(memory)
        del memory
        client.ok(Command.DMA_UNMAP, request(0, SIZE))
        assert "kept a view" in caplog.text
        view.release()
        del view
    os.close(fd)


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b"", errno.EINVAL),
        (bytes(23), errno.EINVAL),
        (request(0, SIZE) + b"x", errno.EINVAL),
        (request(0, SIZE, argsz=23), errno.EINVAL),
        (request(0, SIZE, flags=1), errno.EOPNOTSUPP),
        (request(0, SIZE, flags=4), errno.EINVAL),
        (request(0, SIZE, flags=2), errno.EINVAL),
        (request(4096, 0, flags=2), errno.EINVAL),
        (request(0, SIZE - 1), errno.ENOENT),
        (request(0, 2 * SIZE), errno.ENOENT),
        (request(4096, SIZE - 4096), errno.ENOENT),
        (request(SIZE, SIZE), errno.ENOENT),
    ],
)
def test_errors(payload: bytes, number: int) -> None:
    """Only an exact earlier range goes; dirty pages are not tracked; the range stays on any error."""
    with connected() as (client, device):
        add(client, 0)
        assert client.errno(Command.DMA_UNMAP, payload) == number
        assert list(device.ranges) == [0]

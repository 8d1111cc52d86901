"""DEVICE_GET_REGION_INFO: sizes, access, and the sparse-mmap capability with its descriptor."""

from __future__ import annotations

import errno
import mmap
import os

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import Command
from lab.vfio_user.tests.double import BAR0_SIZE, BAR2_SIZE, Answer, Client, connected


def ask(client: Client, index: int, argsz: int = 32) -> Answer:
    return client.ok(Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(argsz, 0, index, 0, 0, 0))


@pytest.mark.parametrize(
    ("index", "flags", "size"),
    [(0, 3, BAR0_SIZE), (1, 0, 0), (4, 1, 4096), (6, 0, 0), (7, 3, 4096), (8, 0, 0)],
)
def test_trapped_regions(index: int, flags: int, size: int) -> None:
    """Flags and size of regions without a mapping; absent ones have size 0."""
    with connected() as (client, _):
        answer = ask(client, index)
        assert protocol.REGION_INFO.unpack(answer.payload) == (32, flags, index, 0, size, 0)
        assert answer.fds == []


def test_a_mapped_region_says_so_in_the_first_short_reply() -> None:
    """argsz 32 has no room for the capability: the needed size, cap_offset 32 and the descriptor come."""
    with connected() as (client, _):
        answer = ask(client, 2)
        assert protocol.REGION_INFO.unpack(answer.payload) == (64, 15, 2, 32, BAR2_SIZE, 0)
        assert len(answer.fds) == 1
        os.close(answer.fds[0])


def test_the_mapping_is_the_devices_memory() -> None:
    """With room, the one area comes, and a store through the descriptor is seen by the device."""
    with connected() as (client, device):
        answer = ask(client, 2, argsz=64)
        assert protocol.CAP_SPARSE.unpack_from(answer.payload, 32) == (1, 1, 0, 1, 0)
        assert protocol.CAP_AREA.unpack_from(answer.payload, 48) == (0, BAR2_SIZE)
        (fd,) = answer.fds
        with mmap.mmap(fd, BAR2_SIZE) as window:
            window[100:104] = b"seen"
        os.close(fd)
        assert device.bar2[100:104] == b"seen"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(31),
        bytes(33),
        protocol.REGION_INFO.pack(31, 0, 0, 0, 0, 0),
        protocol.REGION_INFO.pack(32, 0, 9, 0, 0, 0),
        protocol.REGION_INFO.pack(32, 0, 0xFFFFFFFF, 0, 0, 0),
    ],
)
def test_errors(payload: bytes) -> None:
    """EINVAL: truncated, too long, argsz too small, no such region."""
    with connected() as (client, _):
        assert client.errno(Command.DEVICE_GET_REGION_INFO, payload) == errno.EINVAL

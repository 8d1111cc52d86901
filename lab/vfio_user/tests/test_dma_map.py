"""DMA_MAP."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import Command
from lab.vfio_user.session import Options
from lab.vfio_user.tests.double import DOORBELL, SOURCE, TARGET, connected, memfd, open_fds

SIZE = 64 << 10
RW = 3


def request(address: int, size: int = SIZE, flags: int = RW, offset: int = 0, argsz: int = 32) -> bytes:
    return protocol.DMA_MAP.pack(argsz, flags, offset, address, size)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = memfd("guest", SIZE)
    yield fd
    os.close(fd)


def test_the_device_reaches_guest_memory(memory: int) -> None:
    """What the doorbell copies is in the guest's file; the range starts at the file offset given."""
    os.pwrite(memory, b"data", 4096 + 16)
    with connected() as (client, _):
        client.ok(Command.DMA_MAP, request(0x1000_0000, SIZE - 4096, offset=4096), [memory])
        client.write(0, SOURCE, (0x1000_0010).to_bytes(4, "little"))
        client.write(0, TARGET, (0x1000_0020).to_bytes(4, "little"))
        client.write(0, DOORBELL, bytes(4))
    assert os.pread(memory, 4, 4096 + 32) == b"data"


def test_a_range_without_descriptor_is_known_and_not_reachable() -> None:
    """ROMs and our own BARs come so: the device hears of them, with no memory."""
    with connected() as (client, device):
        client.ok(Command.DMA_MAP, request(0xFE00_0000, 4096))
        assert device.ranges == {0xFE00_0000: (4096, None, RW)}


def test_protection_is_kept(memory: int) -> None:
    """A range that the device may only read cannot be written by it."""
    with connected() as (client, device):
        client.ok(Command.DMA_MAP, request(0, flags=1), [memory])
        _, mapping, prot = device.ranges[0]
        assert mapping is not None and prot == 1
        with pytest.raises(TypeError):
            mapping[0] = 1
        del mapping


@pytest.mark.parametrize(
    "payload",
    [request(0), request(SIZE - 1, 2), request(8, 8), request(0, 2 * SIZE), request(SIZE // 2)],
)
def test_an_overlap_is_eexist(memory: int, payload: bytes) -> None:
    """The same range, a part of it, one around it, one that begins inside: EEXIST each."""
    with connected() as (client, device):
        client.ok(Command.DMA_MAP, request(0), [memory])
        assert client.errno(Command.DMA_MAP, payload, [memory]) == errno.EEXIST
        assert list(device.ranges) == [0]


def test_neighbours_do_not_overlap(memory: int) -> None:
    with connected() as (client, device):
        for address in (SIZE, 0, 2 * SIZE, 2**64 - SIZE):
            client.ok(Command.DMA_MAP, request(address), [memory])
        assert len(device.ranges) == 4


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(31),
        request(0) + b"x",
        request(0, argsz=31),
        request(0, 0),
        request(2**64 - 4096, 8192),
        request(0, flags=4),
        request(0, offset=1),
        request(0, SIZE + 1),
        request(0, offset=4096),
        request(0, offset=2**63),
        request(0, 2**62),
    ],
)
def test_errors(memory: int, payload: bytes) -> None:
    """EINVAL: sizes, flags, unaligned or overflowing offset, range beyond the file's end."""
    with connected() as (client, device):
        assert client.errno(Command.DMA_MAP, payload, [memory]) == errno.EINVAL
        assert device.ranges == {}


def test_two_descriptors_are_einval(memory: int) -> None:
    with connected() as (client, _):
        before = len(open_fds())
        assert client.errno(Command.DMA_MAP, request(0), [memory, memory]) == errno.EINVAL
        assert len(open_fds()) == before


def test_a_descriptor_that_is_no_file_is_einval() -> None:
    with connected() as (client, _):
        read, write = os.pipe()
        assert client.errno(Command.DMA_MAP, request(0), [read]) == errno.EINVAL
        os.close(read)
        os.close(write)


def test_memory_that_may_shrink_is_eperm() -> None:
    """A guest that truncates its file would kill the daemon with SIGBUS: only sealed files are mapped."""
    fd = memfd("loose", SIZE, sealed=False)
    with connected() as (client, device):
        assert client.errno(Command.DMA_MAP, request(0), [fd]) == errno.EPERM
        assert device.ranges == {}
    with connected(Options(allow_unsealed=True)) as (client, device):
        client.ok(Command.DMA_MAP, request(0), [fd])
        assert list(device.ranges) == [0]
    os.close(fd)


def test_read_only_file_is_refused(memory: int) -> None:
    """A descriptor without write access cannot be mapped writable: EACCES from the kernel."""
    fd = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY)
    with connected() as (client, _):
        assert client.errno(Command.DMA_MAP, request(0), [fd]) == errno.EACCES
    os.close(fd)


def test_the_number_of_ranges_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC beyond it."""
    monkeypatch.setattr("lab.vfio_user.dma.MAX_DMA_MAPS", 2)
    with connected() as (client, _):
        client.ok(Command.DMA_MAP, request(0))
        client.ok(Command.DMA_MAP, request(SIZE))
        assert client.errno(Command.DMA_MAP, request(2 * SIZE)) == errno.ENOSPC


def test_disconnecting_unmaps_everything(memory: int) -> None:
    """The device is told in this order: interrupt, memory, client."""
    with connected() as (client, device):
        client.ok(Command.DMA_MAP, request(0), [memory])
        client.sock.close()
        client.pump()
        assert client.session.closed
        assert device.calls == ["dma_unmap_all", "disconnected"]

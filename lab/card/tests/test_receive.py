"""RX: filter, ring, generations, bad frames, interrupts. Sections are the reference's."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import pytest

from lab.card import registers as reg
from lab.card.guest import MEMORY_BASE, Guest
from lab.card.layout import RX_CHUNK_SIZE, RX_RING_CHUNKS
from lab.card.tests.conftest import MAC1, OTHER
from lab.vfio_user.device import DMA_READ
from lab.wire.fabric import Fabric
from lab.wire.frame import seal

Build = Callable[..., bytes]


@pytest.mark.parametrize(
    ("dst", "promiscuous", "taken"),
    [
        (MAC1, False, True),
        (b"\xff" * 6, False, True),
        (bytes.fromhex("01005e000001"), False, True),
        (OTHER, False, False),
        (MAC1[:5] + b"\x02", False, False),
        (b"\x66" + MAC1[1:], False, False),
        (OTHER, True, True),
    ],
)
def test_filter(guest: Guest, frame: Build, dst: bytes, promiscuous: bool, taken: bool) -> None:
    """Section 5: own address, broadcast and multicast; the rest counts as ignored."""
    guest.write(reg.PORT_FLAGS, int(promiscuous), 1)
    guest.send(frame(dst))
    assert (guest.receive(1) is not None) == taken
    assert guest.read(reg.STATS_RX, 1) == int(taken)
    assert guest.read(reg.STATS_RX_IGNORED, 1) == int(not taken)


def test_fresh_ring_reads_as_one_lap_ago(guest: Guest) -> None:
    """Section 7.2: 0xFF everywhere is generation 255."""
    assert guest.receive(0) is None


def test_wrap_changes_the_generation(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """Section 7.1: a frame may lie across the end of the ring; its chunks have two generations."""
    small, big = seal(frame(MAC1)), seal(frame(MAC1, size=1000))
    receive = fabric.cards["card0"].plane.ports[1].receive
    for _ in range(RX_RING_CHUNKS - 3):
        receive(small)
    assert len(guest.receive_all(1)) == RX_RING_CHUNKS - 3
    receive(big)
    got = guest.receive(1)
    assert got is not None and got.frame == big and got.chunks == 9
    assert guest.position[1] == RX_RING_CHUNKS + 6
    generations = [
        guest.memory[guest.ring_offset(1) + chunk * RX_CHUNK_SIZE + 127]
        for chunk in (RX_RING_CHUNKS - 1, 0, 5, 6)
    ]
    assert generations == [0, 1, 1, 0]


def test_lapped_reader_notices(fabric: Fabric, guest: Guest) -> None:
    """Section 7.3: the card never waits; a generation two ahead says so."""
    fabric.fault("card0", "lap", port=1, chunks=2 * RX_RING_CHUNKS + 1)
    with pytest.raises(RuntimeError, match="lapped"):
        guest.receive(1)


def test_enable_restarts_the_ring(guest: Guest, frame: Build) -> None:
    """Section 7.2: chunk 0, generation 0, each time."""
    for _ in range(3):
        guest.send(frame())
    assert len(guest.receive_all(1)) == 3
    guest.down(1)
    guest.send(frame())
    guest.up(1)
    assert guest.receive(1) is None
    guest.send(frame())
    assert guest.receive(1) is not None and guest.position[1] == 1


@pytest.mark.parametrize(("status", "number"), [("aborted", 1), ("bad_crc", 2), ("overflow", 3)])
def test_bad_frames_on_order(fabric: Fabric, guest: Guest, frame: Build, status: str, number: int) -> None:
    """Section 7.1: delivered with their status in the last chunk only, and counted as errors."""
    fabric.fault("card0", "bad_frame", port=1, status=status, count=1)
    guest.send(frame(size=500))
    guest.send(frame())
    first, second = guest.receive_all(1)
    assert (first.status, second.status) == (number, 0)
    assert guest.read(reg.STATS_RX, 1) == 1
    register = reg.STATS_RX_DROPPED if number == 3 else reg.STATS_RX_ERROR
    assert guest.read(register, 1) == 1


def test_wrong_fcs_is_bad(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """The card checks the CRC of what comes in."""
    fabric.inject("card0:1", seal(frame())[:-1] + b"\0", sealed=True)
    got = guest.receive(1)
    assert got is not None and got.status == 2


def test_timestamps_are_the_clock(guest: Guest, frame: Build) -> None:
    """Section 7.1: low 32 bits of the counter at arrival."""
    before = guest.read(reg.HW_TIME)
    guest.send(frame())
    got = guest.receive(1)
    assert got is not None
    assert (got.time - before) % 2**32 <= (guest.read(reg.HW_TIME) - before) % 2**32


def test_interrupt_when_written(guest: Guest, frame: Build) -> None:
    """Section 7.5: once, when the position is written; re-arming is the driver's."""
    guest.arm(1)
    assert guest.interrupts() == 0
    assert guest.read(reg.PORT_IRQ_CONFIG, 1) == 0x8000_0000
    guest.send(frame())
    guest.send(frame())
    assert guest.interrupts() == 1
    assert guest.read(reg.PORT_IRQ_CONFIG, 1) == 0
    guest.receive_all(1)
    guest.arm(1)
    assert guest.interrupts() == 0
    guest.send(frame())
    assert guest.interrupts() == 1


def test_interrupt_at_once_when_already_written(guest: Guest, frame: Build) -> None:
    """Section 7.5: no lost interrupt between the last look at the ring and arming."""
    guest.send(frame())
    guest.arm(1)
    assert guest.interrupts() == 1


def test_interrupt_in_the_middle_of_a_frame(guest: Guest, frame: Build) -> None:
    """A position within a later chunk of a frame is written too."""
    guest.position[1] = 3
    guest.arm(1)
    guest.send(frame(size=1000))
    assert guest.interrupts() == 1


def test_disarmed(guest: Guest, frame: Build) -> None:
    """Writing 0 disarms."""
    guest.arm(1)
    guest.write(reg.PORT_IRQ_CONFIG, 0, 1)
    guest.send(frame())
    assert guest.interrupts() == 0


def test_masked_interrupt_is_kept(guest: Guest, frame: Build) -> None:
    """An interrupt raised while MSI is masked comes when it is unmasked."""
    guest.card.set_msi(None)
    guest.arm(1)
    guest.send(frame())
    assert guest.interrupts() == 0
    guest.card.set_msi(guest.eventfd)
    assert guest.interrupts() == 1


def test_interrupt_faults(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """Lost, repeated and late interrupts, by order."""
    guest.arm(1)
    fabric.fault("card0", "interrupts", lose=True)
    guest.send(frame())
    assert guest.interrupts() == 0
    fabric.fault("card0", "interrupts", repeat=2)
    guest.arm(1)
    assert guest.interrupts() == 3
    fabric.fault("card0", "interrupts", delay_s=0.005)
    guest.arm(1)
    assert guest.interrupts() == 0
    raised = 0
    for _ in range(100):
        fabric.poll(timeout=5)
        raised += guest.interrupts()
        if raised:
            break
    assert raised == 1
    fabric.fault("card0", "interrupts")
    guest.arm(1)
    assert guest.interrupts() == 1
    assert fabric.counters()["card0"]["faulted_interrupts"] == 3


def test_unmapped_ring(guest: Guest, frame: Build) -> None:
    """A ring address that the guest never mapped: refused, counted, no exception."""
    guest.down(1)
    guest.write(reg.PORT_RX_BASE_LO, 0xDEAD_B000, 1)
    guest.write(reg.PORT_ENABLED, 1, 1)
    guest.send(frame())
    assert guest.card.counters()["dma_faults"] == 1


def test_ring_running_off_its_mapping(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """A ring of which only the start is mapped: chunks behind it go nowhere."""
    guest.down(1)
    tail = MEMORY_BASE + len(guest.memory) - 4096
    guest.write(reg.PORT_RX_BASE_LO, tail & 0xFFFF_FFFF, 1)
    guest.write(reg.PORT_RX_BASE_HI, tail >> 32, 1)
    guest.write(reg.PORT_ENABLED, 1, 1)
    fabric.fault("card0", "lap", port=1, chunks=40)
    assert guest.card.counters()["dma_faults"] == 8


def test_read_only_mapping_is_not_written(guest: Guest, frame: Build) -> None:
    """The direction of a mapping counts."""
    card = guest.card
    card.dma_unmap_all()
    card.dma_map(MEMORY_BASE, len(guest.memory), guest.memory, DMA_READ)
    before = guest.memory[:]
    guest.send(frame(), slot=3)
    assert guest.memory[:] == before
    assert card.counters()["dma_faults"] >= 2


def test_unmapped_memory_is_left_alone(guest: Guest, frame: Build) -> None:
    """After dma_unmap nothing is written, and no view keeps the mapping alive."""
    guest.card.dma_unmap(MEMORY_BASE, len(guest.memory))
    guest.send(frame())
    assert guest.memory[4096 : 4096 + 16] == b"\xff" * 16


def test_memory_mapped_for_reading_only(guest: Guest) -> None:
    """A range the guest shares read-only may be mapped so on our side, and closed after its unmap."""
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ) as memory:
        guest.card.dma_map(0x5000, 4096, memory, DMA_READ)
        guest.card.dma_unmap(0x5000, 4096)

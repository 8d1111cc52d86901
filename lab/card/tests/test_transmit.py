"""TX: chunks, padding, FCS, feedback, counters. Sections are the reference's."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable

import pytest

from lab.card import registers as reg
from lab.card.guest import Guest
from lab.card.tests.conftest import MAC0, MAC1
from lab.wire.fabric import Fabric

Build = Callable[..., bytes]


def test_frame_arrives_padded_with_fcs(guest: Guest, frame: Build) -> None:
    """Section 8.2: 14 bytes become 60, then the CRC."""
    data = frame(size=14)
    guest.send(data)
    got = guest.receive(1)
    assert got is not None
    padded = data.ljust(60, b"\0")
    assert got.frame == padded + zlib.crc32(padded).to_bytes(4, "little")
    assert (got.status, got.chunks) == (0, 1)


@pytest.mark.parametrize("size", [60, 115, 116, 117, 120, 235, 236, 237, 1514, 9018])
def test_sizes(guest: Guest, frame: Build, size: int) -> None:
    """Section 7.1: ceil(n/120) chunks around every multiple of 120, FCS included."""
    guest.send(frame(size=size))
    got = guest.receive(1)
    assert got is not None
    assert got.frame[:-4] == frame(size=size)
    assert got.chunks == -(-(size + 4) // 120)


def test_feedback(guest: Guest, frame: Build) -> None:
    """Section 8.4: the id goes to the slot, and with bit 15 nothing does."""
    first = guest.send(frame(), slot=5)
    assert guest.feedback(5) == first
    guest.send(frame(), slot=None)
    assert guest.feedback(5) == first
    assert guest.send(frame(), slot=2047) == guest.feedback(2047)


def test_feedback_outside_the_page_is_refused(guest: Guest, frame: Build) -> None:
    """A slot beyond the feedback page writes nothing, not even in mapped memory."""
    before = guest.memory[:]
    guest.write(reg.PORT_ENABLED, 0, 1)
    guest.send(frame(), slot=0x7FFF)
    assert guest.memory[:] == before
    assert guest.card.counters()["dma_faults"] == 1


@pytest.mark.parametrize("offset", [4, 0x2_0000, 0x1_FFFC, 0x3_FFF8, 0xFFFF_FFF8, 0xFFFF_FFFF])
def test_commands_outside_the_region(fabric: Fabric, guest: Guest, offset: int) -> None:
    """Section 8.1: misaligned, another port's, beyond BAR2: nothing is sent, all is counted."""
    guest.write(reg.PORT_TX_COMMAND, offset)
    assert guest.read(reg.STATS_TX) == 0
    assert fabric.counters()["card0:0"]["tx_bad_command"] == 1


def test_length_beyond_the_region(fabric: Fabric, guest: Guest) -> None:
    """A header whose payload would leave the region is refused."""
    size = guest.read(reg.PORT_TX_SIZE)
    guest.card.write(2, size - 8, bytes([1, 0, 0, 0, 1, 0, 1, 0]))
    guest.write(reg.PORT_TX_COMMAND, size - 8)
    assert fabric.counters()["card0:0"]["tx_bad_command"] == 1


def test_unsupported_type_is_fed_back(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """A chunk the card cannot send is done with all the same."""
    guest.write(reg.PORT_TX_COMMAND, guest.place(frame(), slot=1, kind=2))
    assert guest.feedback(1) != 0
    assert fabric.counters()["card0:0"]["tx_bad_chunk"] == 1
    assert guest.read(reg.STATS_TX) == 0


def test_counter_and_time(guest: Guest, frame: Build) -> None:
    """Section 8.6: the counter advances by one and TX_LAST_TIME lies between two clock reads."""
    before = guest.read(reg.HW_TIME)
    guest.send(frame())
    sent, after = guest.read(reg.PORT_TX_LAST_TIME), guest.read(reg.HW_TIME)
    assert guest.read(reg.STATS_TX) == 1
    assert (sent - before) % 2**32 <= (after - before) % 2**32
    guest.write(reg.STATS_RESET, 0)
    assert guest.read(reg.STATS_TX) == 0


def test_no_link(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """Without a link the chunk is done with, and no frame counted."""
    fabric.link("card0:0", False)
    assert guest.send(frame(), slot=1) == guest.feedback(1)
    assert guest.read(reg.STATS_TX) == 0
    assert fabric.counters()["card0:0"]["tx_no_link"] == 1


def test_loopback(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """FLAGS bit 4: what a port sends it receives, cable or not; nothing leaves."""
    fabric.apply([])
    guest.write(reg.PORT_FLAGS, reg.PORT_FLAGS.mask("LOOPBACK"))
    guest.send(frame(MAC0))
    assert guest.receive(0) is not None
    assert guest.receive(1) is None


def test_without_padding_and_crc(guest: Guest, frame: Build) -> None:
    """FLAGS bits 5 and 6: the frame goes as it is, and its last bytes are taken for the CRC."""
    guest.write(reg.PORT_FLAGS, reg.PORT_FLAGS.mask("NO_TX_PAD"))
    guest.send(frame(size=30))
    got = guest.receive(1)
    assert got is not None and len(got.frame) == 34 and got.status == 0
    guest.write(reg.PORT_FLAGS, reg.PORT_FLAGS.mask("NO_TX_PAD") | reg.PORT_FLAGS.mask("NO_TX_CRC"))
    guest.send(frame(size=64))
    got = guest.receive(1)
    assert got is not None and len(got.frame) == 64 and got.status == 2
    assert guest.read(reg.STATS_RX_ERROR, 1) == 1


def test_mirroring(guest: Guest, frame: Build) -> None:
    """FEATURE_CFG: what port 0 sends, port 1 sends too (and port 0 receives it over the cable)."""
    guest.write(reg.FEATURE_CFG, 1 << 20 | 0b10)
    guest.write(reg.PORT_FLAGS, 1)
    guest.send(frame(MAC1))
    assert guest.receive(1) is not None
    mirrored = guest.receive(0)
    assert mirrored is not None and mirrored.frame[:6] == MAC1


def test_mirroring_of_what_is_received(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """FEATURE_CFG: what port 0 receives, port 1 sends."""
    seen: list[bytes] = []
    fabric.wire.attach("tester:a", seen.append)
    fabric.wire.attach("tester:b", lambda frame: None)
    cables = [["card0:1", "tester:a"], ["card0:0", "tester:b"]]
    fabric.wire.apply([{"kind": "cable", "ends": ends} for ends in cables])
    guest.write(reg.FEATURE_CFG, 1 << 20 | 0b01)
    fabric.inject("card0:0", frame(MAC0))
    fabric.engine.poll()
    assert [one[:6] for one in seen] == [MAC0]


def test_bridging_with_a_loop_ends(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """Ports bridged and cabled to each other are a loop: the frame does not live for ever."""
    guest.write(reg.FEATURE_CFG, reg.FEATURE_CFG.mask("BRIDGE"))
    guest.send(frame(b"\xff" * 6))
    assert 1 <= len(guest.receive_all(1)) < 50
    counters = fabric.counters()
    assert any(
        counters[f"card0:{port}"]["tx_no_link"] + counters[f"card0:{port}"]["looped"] for port in (0, 1)
    )
    assert counters["card0:0"]["tx"] < 50


def test_tx_memory_cannot_be_cut(guest: Guest) -> None:
    """The guest's side holds BAR2's descriptor: it must not be able to take the memory from under the
    card."""
    fd = guest.card.regions[2].fd
    assert fd is not None
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 4096)


def test_a_stalled_port_fetches_when_it_goes_on(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """Commands wait in order, without feedback; what is sent then is what their chunks have become."""
    fabric.fault("card0", "stall", port=0)
    first = guest.send(frame(size=60), slot=3)
    second = guest.send(frame(size=61), at=512, slot=3)
    assert (guest.receive(1), guest.feedback(3)) == (None, 0)
    guest.place(frame(size=62), at=512, slot=4)
    third = second + 1
    fabric.fault("card0", "stall", port=0, on=False)
    sizes = [len(got.frame) - 4 for got in guest.receive_all(1)]
    assert (sizes, guest.feedback(3), guest.feedback(4)) == ([60, 62], first, third)


def test_a_reset_empties_the_fifo(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """What a stalled port was told before a reset is never sent."""
    fabric.fault("card0", "stall", port=0)
    guest.send(frame())
    fabric.fault("card0", "reset")
    for port in (0, 1):
        guest.up(port)
    fabric.fault("card0", "stall", port=0, on=False)
    assert guest.receive(1) is None


def test_the_fifo_is_bounded(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """A stalled port takes one command for each 512 bytes of its region; more are counted (8.1)."""
    fabric.fault("card0", "stall", port=0)
    room = guest.read(reg.PORT_TX_SIZE) // 512
    offset = guest.place(frame())
    for _ in range(room + 2):
        guest.write(reg.PORT_TX_COMMAND, offset)
    assert fabric.counters()["card0:0"]["tx_bad_command"] == 2
    fabric.fault("card0", "stall", port=0, on=False)
    assert guest.read(reg.STATS_TX) == room

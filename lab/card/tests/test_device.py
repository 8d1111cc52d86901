"""Registers that do something, and everything a guest may do to them. Sections are the reference's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.card import registers as reg
from lab.card.guest import Guest, I2cMaster
from lab.card.models import MODELS
from lab.card.tests.conftest import CABLE, MAC0, MAC1
from lab.wire.fabric import CoreName, Fabric

Build = Callable[..., bytes]


def test_identity(guest: Guest) -> None:
    """Sections 1, 3 and 13: what a driver looks at before it believes in the card."""
    assert guest.card.identity.vendor == 0x1CE4
    assert guest.card.identity.device == 0x0009
    assert guest.read(reg.PCIE_IF_VER) == 1
    assert guest.read(reg.HW_ID) == 9
    assert guest.read(reg.FUNCTION_ID) == 0
    assert guest.read(reg.DMA_ADDR_WIDTH) == 64
    assert guest.read(reg.CAPS) & 0x04000101 == 0x04000101
    assert not guest.read(reg.FEATURE_CFG) & reg.FEATURE_CFG.mask("BUSY")
    assert guest.read(reg.CLK_HZ) == 250_000_000
    assert guest.read(reg.NUM_FILTER_BUFFERS) == 0


def test_temperature_is_plausible(guest: Guest) -> None:
    """Section 4: the UltraScale+ formula gives an unworried temperature."""
    assert 30 < guest.read(reg.TEMPERATURE) * 509.314 / 4096 - 280.231 < 70
    assert 0.8 < guest.read(reg.VCCINT) * 3 / 4096 < 1.0


def test_warm_up_write_is_harmless(guest: Guest) -> None:
    """Section 3: libexanic writes 0xDEADBEEF to register 0."""
    guest.write(reg.PCIE_IF_VER, 0xDEADBEEF)
    assert guest.read(reg.PCIE_IF_VER) == 1
    assert guest.card.bad_accesses == 0


def test_absent_ports(guest: Guest) -> None:
    """Section 2: STATUS bit 31 of ports that are not there, in both banks."""
    assert [guest.read(reg.PORT_STATUS, port) >> 31 for port in range(16)] == [0, 0] + [1] * 14


def test_tx_regions(guest: Guest) -> None:
    """Section 8.1: page-aligned, disjoint, within BAR2."""
    end = 0
    for port in (0, 1):
        offset, size = guest.read(reg.PORT_TX_OFFSET, port), guest.read(reg.PORT_TX_SIZE, port)
        assert offset >= end and offset % 4096 == 0 and size % 4096 == 0 and size > 40960
        end = offset + size
    assert end <= guest.card.regions[2].size


def test_clock(guest: Guest) -> None:
    """Section 10: set with the high half first, then it runs on; all 64 bits."""
    guest.write(reg.CLK_SET_HI, 0x12)
    guest.write(reg.CLK_SET, 0xFFFF_FF00)
    low = guest.read(reg.HW_TIME)
    high = guest.read(reg.HW_TIME_HI)
    assert high in (0x12, 0x13)
    assert (high == 0x13) == (low < 0x8000_0000) or low > 0xFFFF_FF00


def test_eeprom(guest: Guest) -> None:
    """Section 11: MAC and serial over I2C, bus 4; a written page reads back."""
    master = I2cMaster(guest, 4)
    assert master.read(0x50, 0x00, 6) == MAC0
    assert master.read(0x50, 0x10, 16) == b"EXA0001".ljust(16, b"\0")
    assert master.read(0x51, 0, 1) is None
    assert master.write(0x50, 0x5E, b"abcd")
    assert master.read(0x50, 0x5E, 2) == b"ab"
    assert master.read(0x50, 0x50, 2) == b"cd", "writes wrap within their 16-byte page"


def test_module_pages(guest: Guest) -> None:
    """Section 11: an SFP's identifier, its checksums, its diagnostics; nothing when unplugged."""
    master = I2cMaster(guest, 1)
    page = master.read(0x50, 0, 128)
    assert page is not None
    assert page[0] == 3 and page[92] & 0x40
    assert page[63] == sum(page[:63]) & 0xFF and page[95] == sum(page[64:95]) & 0xFF
    diagnostics = master.read(0x51, 96, 10)
    assert diagnostics is not None and diagnostics[0] == 38
    assert master.read(0x56, 0, 1) is None, "no copper PHY"
    guest.card.set_module(1, False)
    assert I2cMaster(guest, 1).read(0x50, 0, 1) is None
    assert not guest.read(reg.PORT_STATUS, 1) & reg.PORT_STATUS.mask("MODULE")


def test_link_needs_cable_power_and_speed(fabric: Fabric, guest: Guest) -> None:
    """Sections 4 and 5: link is up with a cable, both transmitters on and one speed."""
    link = reg.PORT_STATUS.mask("LINK")
    assert guest.read(reg.PORT_STATUS) & link
    guest.write(reg.PORT_SPEED, 25000)
    assert not guest.read(reg.PORT_STATUS) & link
    guest.write(reg.PORT_SPEED, 25000, 1)
    assert guest.read(reg.PORT_STATUS) & link
    guest.write(reg.POWERDOWN, 1 << 4)
    assert not guest.read(reg.PORT_STATUS) & link
    guest.write(reg.POWERDOWN, 3 << 4)
    fabric.link("card0:1", False)
    assert not guest.read(reg.PORT_STATUS) & link
    fabric.link("card0:1", True)
    assert guest.read(reg.PORT_STATUS) & link
    fabric.apply([])
    assert not guest.read(reg.PORT_STATUS) & link


def test_macs_follow_the_eeprom_and_can_change(guest: Guest, frame: Build) -> None:
    """Section 5: consecutive addresses after power-on; 0x30 then 0x0C changes the filter at once."""
    assert guest.read(reg.PORT_MAC_NIC, 1) == int.from_bytes(MAC1[3:], "little")
    new = bytes.fromhex("0213579bdf01")
    guest.write(reg.PORT_MAC_OUI, int.from_bytes(new[:3], "little"), 1)
    guest.write(reg.PORT_MAC_NIC, int.from_bytes(new[3:], "little"), 1)
    guest.send(frame(MAC1))
    assert guest.receive(1) is None
    guest.send(frame(new))
    assert guest.receive(1) is not None


def test_feature_bits(guest: Guest) -> None:
    """Section 3: the host changes mirroring and bridging, not what the card says of itself."""
    guest.write(reg.FEATURE_CFG, 0xFFFF_FFFF)
    assert guest.read(reg.FEATURE_CFG) == 0x00F0_007F


def test_surprise_removal_and_return(guest: Guest, frame: Build) -> None:
    """All ones while gone; nothing moves; a power-on when it comes back."""
    guest.card.set_present(False)
    assert guest.read(reg.PCIE_IF_VER) == 0xFFFF_FFFF
    assert guest.card.read(2, 0, 16) == b"\xff" * 16
    guest.write(reg.PORT_TX_COMMAND, 0)
    guest.card.set_present(True)
    assert guest.read(reg.PCIE_IF_VER) == 1
    assert guest.read(reg.PORT_ENABLED) == 0
    for port in (0, 1):
        guest.up(port)
    guest.send(frame())
    assert guest.receive(1) is not None


def test_reset_keeps_the_eeprom(guest: Guest) -> None:
    """A reset is a power-on; what was burnt in stays."""
    assert I2cMaster(guest, 4).write(0x50, 0x80, b"kept")
    guest.card.reset()
    assert guest.read(reg.PORT_ENABLED) == 0 and guest.read(reg.POWERDOWN) == 0
    assert I2cMaster(guest, 4).read(0x50, 0x80, 4) == b"kept"


def test_disconnect_keeps_wire_and_statistics(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """The client went away: no DMA any more, the counters stay."""
    guest.send(frame())
    guest.card.disconnected()
    fabric.inject("card0:1", frame())
    assert guest.read(reg.STATS_RX, 1) == 1
    assert guest.read(reg.PORT_ENABLED, 1) == 0


def test_reads_of_parts(guest: Guest) -> None:
    """Bytes, halves and double words of registers read as what memory would give."""
    word = guest.card.read(0, 4, 4)
    assert guest.card.read(0, 4, 1) == word[:1]
    assert guest.card.read(0, 6, 2) == word[2:]
    assert guest.card.read(0, 0, 8) == b"\1\0\0\0" + word


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_odd_writes_are_counted_only(guest: Guest, size: int) -> None:
    """A write that is not of whole registers changes nothing and harms nothing."""
    guest.card.write(0, 8, b"\xff" * size)
    assert guest.read(reg.FEATURE_CFG) == 0
    assert guest.card.bad_accesses == 1


_REGISTERS = st.sampled_from(reg.REGISTERS)
_VALUES = st.one_of(st.integers(0, 0xFFFF_FFFF), st.sampled_from([0, 1, 0xFFFF_FFFF, 0x8000_0000]))
_WRITES = st.one_of(
    st.tuples(st.builds(lambda r, p: int(r.address(p)), _REGISTERS, st.integers(0, 15)), _VALUES),
    st.tuples(st.integers(0, 0x7F_FFFC), _VALUES),
)


@pytest.mark.parametrize("core", ["python", "c"])
@settings(max_examples=60, deadline=None)
@given(writes=st.lists(_WRITES, max_size=40), blob=st.binary(max_size=64))
def test_no_write_harms_the_card(core: CoreName, writes: list[tuple[int, int]], blob: bytes) -> None:
    """Whatever is written wherever: no exception, and afterwards a reset gives a working card."""
    fabric = Fabric(seed=1, core=core)
    card = fabric.add_card("card0", "X10", serial="S", mac=MAC0)
    guest = Guest(card)
    fabric.apply(CABLE)
    for port in (0, 1):
        guest.up(port)
    card.write(2, 0, blob)
    for address, value in writes:
        card.write(0, address, value.to_bytes(4, "little"))
        assert len(card.read(0, address, 4)) == 4
    card.reset()
    guest.write(reg.TX_FEEDBACK_BASE_HI, 1)
    for port in (0, 1):
        guest.up(port, MAC1)
    guest.send(MAC1 + MAC0 + b"\x88\xb5")
    assert guest.receive(1) is not None
    guest.close()
    fabric.close()


def test_autonegotiation_reports_what_came_of_it(guest: Guest) -> None:
    """Section 5: with FLAGS bit 3 and a link, STATUS and AN_STATUS say it is done, and at what."""
    assert guest.read(reg.EXT_AN_STATUS) == 0
    guest.write(reg.PORT_FLAGS, reg.PORT_FLAGS.mask("AUTONEG"))
    assert guest.read(reg.PORT_STATUS) & reg.PORT_STATUS.mask("AUTONEG_DONE")
    assert guest.read(reg.EXT_AN_STATUS) == 0x1101


def test_refused_dma_is_logged_seldom(guest: Guest, frame: Build, caplog: pytest.LogCaptureFixture) -> None:
    """Counted each, reported together."""
    for _ in range(50):
        guest.send(frame(), slot=0x7FFF)
    guest.card.report()
    guest.card.report()
    assert len(caplog.records) == 1 and "50 DMA accesses" in caplog.text


def test_sixteen_ports_as_data(core: CoreName, monkeypatch: pytest.MonkeyPatch, frame: Build) -> None:
    """A model with QSFP-DD cages broken out is a row of numbers: ports 8 and up are in the second bank."""
    big = dataclasses.replace(MODELS["X25"], name="BIG", cages=2, lanes=8, bar2_size=1 << 20)
    monkeypatch.setitem(MODELS, "BIG", big)
    fabric = Fabric(seed=1, core=core)
    guest = Guest(fabric.add_card("card0", "BIG", serial="S", mac=MAC0))
    fabric.apply([{"kind": "cable", "ends": ["card0:7", "card0:15"]}])
    for port in (7, 15):
        guest.up(port)
    assert [guest.read(reg.PORT_STATUS, port) >> 31 for port in range(16)] == [0] * 16
    data = frame(guest.card.card_identity.port_mac(15))
    guest.send(data, port=7)
    got = guest.receive(15)
    assert got is not None and got.frame[:-4] == data
    assert guest.read(reg.STATS_RX, 15) == 1 and guest.read(reg.STATS_TX, 7) == 1
    guest.close()
    fabric.close()


def test_link_flaps(fabric: Fabric, guest: Guest) -> None:
    """The link goes down by order and comes back from the event loop, as often as told."""
    seen: list[bool] = []
    end = fabric.wire.ends["card0:1"]
    tell = end.on_link

    def on_link(up: bool) -> None:
        seen.append(up)
        tell(up)

    end.on_link = on_link
    fabric.fault("card0", "flap", port=0, down_s=0.001, times=2)
    assert not guest.read(reg.PORT_STATUS) & reg.PORT_STATUS.mask("LINK")
    for _ in range(200):
        fabric.poll(timeout=5)
        if len(seen) == 4:
            break
    assert seen == [False, True, False, True]
    with pytest.raises(ValueError, match="no fault"):
        fabric.fault("card0", "melt")
    with pytest.raises(ValueError, match="melt"):
        fabric.fault("card0", "gone", melt=True)

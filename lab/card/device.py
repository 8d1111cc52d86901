"""One emulated ExaNIC: its BARs and registers, over a data path. Source: reference/exanic-hardware.md.

A :class:`Card` is a :class:`lab.vfio_user.device.PciDevice`. Nothing a guest does raises anything but the
ValueError of an access that cannot be decoded; what it does wrong is counted in :meth:`Card.counters`.
"""

from __future__ import annotations

import logging
import mmap
import time
from collections.abc import Callable, Mapping

from lab.card import registers as reg
from lab.card import sfp
from lab.card.clock import Clock
from lab.card.eeprom import ADDRESS, BUS, eeprom
from lab.card.i2c import I2cGpio, Memory
from lab.card.identity import CardIdentity
from lab.card.layout import PAGE_SIZE, VENDOR_ID, RxStatus
from lab.card.models import Model
from lab.card.plane import CardPlane, InterruptFault, PortSettings
from lab.card.register_file import RegisterFile
from lab.card.register_table import MAX_PORTS, Register
from lab.card.transmit import TxMemory
from lab.vfio_user.device import Bar, MmapArea, PciIdentity, Region

LOG = logging.getLogger("lab.card")
_MASK32 = 0xFFFFFFFF
#: At most one line a second about what a guest does wrong.
_LOG_EVERY_S = 1.0
_STAT_NAMES: tuple[tuple[Register, str], ...] = (
    (reg.STATS_TX, "tx"),
    (reg.STATS_RX, "rx"),
    (reg.STATS_RX_IGNORED, "rx_ignored"),
    (reg.STATS_RX_ERROR, "rx_error"),
    (reg.STATS_RX_DROPPED, "rx_dropped"),
)


class Card:
    """A card: see the module. ``changed`` is called with a port when its transmitter or speed changes."""

    def __init__(
        self,
        model: Model,
        identity: CardIdentity,
        tx_memory: TxMemory,
        plane: CardPlane,
        changed: Callable[[int, bool, int], None],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.model = model
        self.name = identity.name
        self.card_identity = identity
        self.plane = plane
        self.present = True
        self.on_power: Callable[[], None] = lambda: None
        self.identify_seconds = 0
        self.bad_accesses = 0
        self._changed = changed
        self._tx_memory = tx_memory
        self._carrier = [False] * model.ports
        self._module = [True] * model.ports
        self._clock = Clock(model.clock_hz, now_ns)
        self._clock_high = 0
        self._last_log = -_LOG_EVERY_S
        self._reported_faults = 0
        bars = (Bar(0, model.bar0_size), Bar(2, model.bar2_size, prefetch=True))
        self.identity = PciIdentity(VENDOR_ID, model.device_id, VENDOR_ID, model.device_id, bars=bars)
        self.regions: Mapping[int, Region] = {
            0: Region(0, model.bar0_size),
            2: Region(2, model.bar2_size, mmap=(MmapArea(0, model.bar2_size),), fd=tx_memory.fd),
        }
        self.eeprom: Memory = eeprom(identity.mac, identity.serial, (model.speeds[0],) * model.ports)
        self.i2c = I2cGpio()
        self.registers = RegisterFile(model.ports, plane.publish)
        self._wire_up()
        self._power_on()

    # ---- PciDevice

    def read(self, region: int, offset: int, size: int) -> bytes:
        """See PciDevice. Reads of BAR0 that are not whole words get their part of the words they touch."""
        if not self.present:
            return b"\xff" * size
        if region == 2:
            return self._tx_memory.memory[offset : offset + size]
        if region != 0:
            raise ValueError(f"region {region} is not ours")
        if size == 4 and not offset % 4:
            return self._read_register(offset).to_bytes(4, "little")
        first, end = offset & ~3, offset + size
        words = b"".join(self._read_register(at).to_bytes(4, "little") for at in range(first, end, 4))
        return words[offset - first : end - first]

    def write(self, region: int, offset: int, data: bytes) -> None:
        """See PciDevice. Writes to BAR0 that are not whole words are counted and otherwise ignored."""
        if not self.present:
            return
        if region == 2:
            self._tx_memory.memory[offset : offset + len(data)] = data
            return
        if region != 0:
            raise ValueError(f"region {region} is not ours")
        if offset % 4 or len(data) % 4:
            self._complain(f"write of {len(data)} bytes at 0x{offset:x} is not of whole registers")
            return
        for at in range(0, len(data), 4):
            self._write_register(offset + at, int.from_bytes(data[at : at + 4], "little"))

    def dma_map(self, iova: int, size: int, memory: mmap.mmap | None, prot: int) -> None:
        """See PciDevice."""
        if memory is not None:
            self.plane.dma_map(iova, size, memory, prot)

    def dma_unmap(self, iova: int, size: int) -> None:
        """See PciDevice."""
        self.plane.dma_unmap(iova, size)

    def dma_unmap_all(self) -> None:
        """See PciDevice."""
        self.plane.dma_unmap_all()

    def set_msi(self, eventfd: int | None) -> None:
        """See PciDevice."""
        self.plane.set_msi(eventfd)

    def reset(self) -> None:
        """See PciDevice. The EEPROM, the clock's rate source and what is plugged in stay."""
        for port in self.plane.ports:
            port.stop()
            port.arm(0)
            port.forget()
            port.reset_counters()
        self.plane.withdraw_interrupt()
        self._clock.adjust(0, False, 0)
        self._set_clock(0)
        self._power_on()

    def disconnected(self) -> None:
        """See PciDevice."""
        self.plane.dma_unmap_all()
        self.plane.set_msi(None)
        for number, port in enumerate(self.plane.ports):
            port.stop()
            port.arm(0)
            self.registers.set(reg.PORT_ENABLED, 0, number)
            self._refresh(number)
        self.plane.withdraw_interrupt()

    # ---- what the lab does to the card

    def set_carrier(self, port: int, carrier: bool) -> None:
        """The wire's word on the port's link."""
        self._carrier[port] = carrier
        self._refresh(port)

    def set_module(self, port: int, present: bool) -> None:
        """Plug the port's module in or out; without one there is neither light nor I2C."""
        self._module[port] = present
        self._plug(port)
        self._transmitter(port)
        self._refresh(port)

    def set_present(self, present: bool) -> None:
        """Surprise removal (False): reads give all ones, nothing moves. Coming back is a power-on."""
        if present == self.present:
            return
        self.present = present
        self.plane.set_present(present)
        if present:
            self.reset()
            self.on_power()
        else:
            for port in range(self.model.ports):
                self._transmitter(port)

    def spoil(self, port: int, status: RxStatus, count: int = 1) -> None:
        """Report the next ``count`` frames received on a port with this status."""
        self.plane.ports[port].spoil(status, count)

    def stall(self, port: int, stalled: bool) -> None:
        """Pause a port's transmitter, or let it go on: what it was told meanwhile it does then."""
        self.plane.ports[port].stall(stalled)

    def set_interrupt_fault(self, fault: InterruptFault | None) -> None:
        """Delay, repeat or lose interrupts from now on; None stops it."""
        self.plane.set_interrupt_fault(fault)

    def mac(self, port: int) -> bytes:
        """The MAC address that the port's registers hold."""
        high = self.registers.get(reg.PORT_MAC_OUI, port).to_bytes(4, "little")[:3]
        return high + self.registers.get(reg.PORT_MAC_NIC, port).to_bytes(4, "little")[:3]

    def counters(self) -> dict[str, int]:
        """Card-wide counters: refused DMA, accesses that made no sense, interrupts that a fault changed."""
        return {
            "dma_faults": self.plane.dma_faults(),
            "bad_accesses": self.bad_accesses,
            "faulted_interrupts": self.plane.faulted_interrupts(),
        }

    def report(self) -> None:
        """Say so in the log when DMA was refused since the last call; the owner calls now and then."""
        faults = self.plane.dma_faults()
        if faults != self._reported_faults:
            new = faults - self._reported_faults
            LOG.warning("%s: %d DMA accesses outside the guest's memory (%d in all)", self.name, new, faults)
            self._reported_faults = faults

    def close(self) -> None:
        """Give back memory and descriptors; the data path is gone before."""
        self._tx_memory.close()

    # ---- registers

    def _read_register(self, offset: int) -> int:
        value = self.registers.read(offset)
        if value == 0 and offset in _STATUS_ADDRESSES and _STATUS_ADDRESSES[offset] >= self.model.ports:
            return reg.PORT_STATUS.mask("ABSENT")
        return value

    def _write_register(self, offset: int, value: int) -> None:
        if not self.registers.write(offset, value) and offset != reg.PCIE_IF_VER.address():
            self._complain(f"write of 0x{value:x} to 0x{offset:x}, where nothing takes it")

    def _complain(self, text: str) -> None:
        self.bad_accesses += 1
        now = time.monotonic()
        if now - self._last_log >= _LOG_EVERY_S:
            self._last_log = now
            LOG.warning("%s: %s (%d such so far)", self.name, text, self.bad_accesses)

    def _wire_up(self) -> None:
        """Give the live registers their behaviour; the others are plain storage."""
        file, plane = self.registers, self.plane
        file.on_read(reg.HW_TIME, lambda _: self._clock.ticks())
        file.on_read(reg.HW_TIME_HI, lambda _: self._clock.ticks() >> 32)
        file.on_write(reg.CLK_SET_HI, self._write_clock_high)
        file.on_write(reg.CLK_SET, lambda _, low: self._set_clock(self._clock_high << 32 | low))
        for register in (reg.CLK_ADJ, reg.CLK_ADJ_EXT):
            file.on_write(register, self._storing(register, lambda _: self._adjust_clock()))
        file.on_write(reg.FEATURE_CFG, self._write_features)
        file.on_write(reg.MIRROR_ENABLE_EXT, self._storing(reg.MIRROR_ENABLE_EXT, self._refresh_all))
        file.on_write(reg.IDENTIFY_TIMER, self._identify)
        for register in (reg.TX_FEEDBACK_BASE_LO, reg.TX_FEEDBACK_BASE_HI):
            file.on_write(register, self._storing(register, lambda _: self._set_feedback()))
        file.on_write(reg.RELOAD_RESET, lambda _, value: self.reset() if value & 1 else None)
        file.on_read(reg.I2C_GPIO, lambda _: self.i2c.read())
        file.on_write(reg.I2C_GPIO, lambda _, value: self.i2c.write(value))
        file.on_write(reg.POWERDOWN, self._storing(reg.POWERDOWN, self._transmitters))
        file.on_write(reg.PORT_ENABLED, self._write_enabled)
        file.on_write(reg.PORT_SPEED, self._storing(reg.PORT_SPEED, self._transmitter))
        for register in (reg.PORT_MAC_NIC, reg.PORT_MAC_OUI, reg.PORT_FLAGS):
            file.on_write(register, self._storing(register, self._refresh))
        ports = plane.ports
        file.on_write(reg.PORT_TX_COMMAND, lambda port, offset: ports[port].transmit(offset))
        file.on_read(reg.PORT_TX_LAST_TIME, lambda port: ports[port].last_sent())
        file.on_write(reg.PORT_IRQ_CONFIG, lambda port, value: ports[port].arm(value))
        file.on_read(reg.PORT_IRQ_CONFIG, lambda port: ports[port].armed())
        file.on_write(reg.STATS_RESET, lambda port, _: ports[port].reset_counters())
        for register, name in _STAT_NAMES:
            file.on_read(register, self._counter(name))

    def _counter(self, name: str) -> Callable[[int], int]:
        return lambda port: self.plane.ports[port].counters()[name]

    def _storing(self, register: Register, then: Callable[[int], None]) -> Callable[[int, int], None]:
        """A writer that stores the value, then does something about it."""

        def write(port: int, value: int) -> None:
            self.registers.set(register, value, port)
            then(port)

        return write

    def _power_on(self) -> None:
        """All registers to their values after power-on."""
        model, file = self.model, self.registers
        file.reset()
        file.set(reg.HW_ID, model.hardware_id)
        file.set(reg.CLK_HZ, model.clock_hz)
        file.set(reg.CAPS, model.capabilities)
        file.set(reg.MAC_ADDR_OUI, int.from_bytes(self.card_identity.mac[:3], "little"))
        file.set(reg.TEMPERATURE, model.temperature_raw)
        file.set(reg.VCCINT, model.vccint_raw)
        file.set(reg.VCCAUX, model.vccaux_raw)
        self.identify_seconds = 0
        self._clock_high = 0
        self.i2c = I2cGpio()
        self.i2c.buses[BUS].devices[ADDRESS] = self.eeprom
        for port, region in enumerate(self._tx_memory.regions(model.ports)):
            mac = self.card_identity.port_mac(port)
            file.set(reg.PORT_SPEED, model.speeds[0], port)
            file.set(reg.PORT_MAC_OUI, int.from_bytes(mac[:3], "little"), port)
            file.set(reg.PORT_MAC_NIC, int.from_bytes(mac[3:], "little"), port)
            file.set(reg.PORT_TX_OFFSET, region.offset, port)
            file.set(reg.PORT_TX_SIZE, region.size, port)
            self._plug(port)
        for port in range(model.ports, MAX_PORTS):
            self.plane.publish(reg.PORT_STATUS.address(port), reg.PORT_STATUS.mask("ABSENT"))
        self.plane.set_clock(self._clock.state)
        self._set_feedback()
        self._transmitters(0)
        self._refresh_all(0)

    def _plug(self, port: int) -> None:
        """The port's module answers on its I2C bus, or (taken out) nothing does."""
        if not self.model.has_sfp:
            return
        devices = self.i2c.buses[port].devices
        for address in (sfp.IDENTITY_ADDRESS, sfp.DIAGNOSTICS_ADDRESS):
            devices.pop(address, None)
        if self._module[port]:
            serial = f"{self.card_identity.serial[-10:]}P{port}"
            devices.update(sfp.module(max(self.model.speeds), serial))

    def _write_clock_high(self, _: int, value: int) -> None:
        self._clock_high = value

    def _set_clock(self, ticks: int) -> None:
        self._clock.set(ticks)
        self.plane.set_clock(self._clock.state)

    def _adjust_clock(self) -> None:
        coarse = self.registers.get(reg.CLK_ADJ)
        extended = self.registers.get(reg.CLK_ADJ_EXT)
        if extended & 1 << 31:
            extended -= 1 << 32
        add = bool(coarse & reg.CLK_ADJ.mask("ADD"))
        self._clock.adjust(coarse & reg.CLK_ADJ.mask("TICKS"), add, extended)
        self.plane.set_clock(self._clock.state)

    def _write_features(self, _: int, value: int) -> None:
        """Mirroring, bridging and the auxiliary switch are the host's; the rest it cannot change."""
        writable = 0
        for name in ("MIRROR", "BRIDGE", "AUX_ENABLE", "MIRROR_OUT"):
            writable |= reg.FEATURE_CFG.mask(name)
        old = self.registers.get(reg.FEATURE_CFG)
        if not old & reg.FEATURE_CFG.mask("AUX_ENABLE"):
            writable &= ~reg.FEATURE_CFG.mask("AUX_ENABLE")
        self.registers.set(reg.FEATURE_CFG, old & ~writable | value & writable)
        self._refresh_all(0)

    def _identify(self, _: int, seconds: int) -> None:
        self.identify_seconds = seconds

    def _set_feedback(self) -> None:
        self.plane.set_feedback(self._address(reg.TX_FEEDBACK_BASE_HI, reg.TX_FEEDBACK_BASE_LO, 0))

    def _address(self, high: Register, low: Register, port: int) -> int:
        """A page-aligned DMA address from its two registers."""
        value = self.registers.get(low, port)
        upper = 0 if value & 1 else self.registers.get(high, port)
        return upper << 32 | value & ~(PAGE_SIZE - 1) & _MASK32

    def _write_enabled(self, port: int, value: int) -> None:
        """The ring starts over when the port goes from disabled to enabled, at the address given by then."""
        was = self.registers.get(reg.PORT_ENABLED, port)
        self.registers.set(reg.PORT_ENABLED, value & 1, port)
        if value & 1 and not was:
            self.plane.ports[port].start(self._address(reg.PORT_RX_BASE_HI, reg.PORT_RX_BASE_LO, port))
        elif was and not value & 1:
            self.plane.ports[port].stop()
        self._refresh(port)

    # ---- ports

    def _transmitters(self, _: int) -> None:
        for port in range(self.model.ports):
            self._transmitter(port)

    def _transmitter(self, port: int) -> None:
        """Tell the wire whether the port's module sends light, and how fast."""
        power = self.registers.get(reg.POWERDOWN) >> (4 + port) & 1
        ready = self.present and self._module[port] and bool(power)
        self._changed(port, ready, self.registers.get(reg.PORT_SPEED, port))
        self._refresh(port)

    def _refresh_all(self, _: int) -> None:
        features = self.registers.get(reg.FEATURE_CFG)
        output = (features & reg.FEATURE_CFG.mask("MIRROR_OUT")) >> 20
        bridge = bool(features & reg.FEATURE_CFG.mask("BRIDGE"))
        self.plane.set_mirror(output if output < self.model.ports else None, bridge)
        for port in range(self.model.ports):
            self._refresh(port)

    def _refresh(self, port: int) -> None:
        """Bring the data path's settings and STATUS in line with registers, module and link."""
        file = self.registers
        flags = file.get(reg.PORT_FLAGS, port)
        features = file.get(reg.FEATURE_CFG) & reg.FEATURE_CFG.mask("MIRROR") if port < 3 else 0
        mirrors = (features | file.get(reg.MIRROR_ENABLE_EXT)) >> 2 * port
        loopback = bool(flags & reg.PORT_FLAGS.mask("LOOPBACK"))
        negotiating = bool(flags & reg.PORT_FLAGS.mask("AUTONEG"))
        carrier = self._carrier[port] and self._module[port]
        self.plane.ports[port].configure(
            PortSettings(
                mac=self.mac(port),
                promiscuous=bool(flags & reg.PORT_FLAGS.mask("PROMISC")),
                loopback=loopback,
                pad=not flags & reg.PORT_FLAGS.mask("NO_TX_PAD"),
                crc=not flags & reg.PORT_FLAGS.mask("NO_TX_CRC"),
                link=carrier,
                mirror_rx=bool(mirrors & 1),
                mirror_tx=bool(mirrors & 2),
            )
        )
        status = 0
        for name, on in (
            ("ENABLED", bool(file.get(reg.PORT_ENABLED, port))),
            ("MODULE", self._module[port]),
            ("SIGNAL", carrier),
            ("LINK", carrier or loopback),
            ("AUTONEG_DONE", carrier and negotiating),
        ):
            status |= reg.PORT_STATUS.mask(name) if on else 0
        file.set(reg.PORT_STATUS, status, port)
        file.set(reg.EXT_AN_STATUS, self._negotiated(port) if carrier and negotiating else 0, port)

    def _negotiated(self, port: int) -> int:
        """AN_STATUS of a link that was negotiated: good, and at which technology."""
        result = {10000: 1, 25000: 3}.get(self.registers.get(reg.PORT_SPEED, port), 0)
        good = reg.EXT_AN_STATUS.mask("GOOD") | reg.EXT_AN_STATUS.mask("PARTNER_ABLE")
        return good | result << 12


_STATUS_ADDRESSES = {reg.PORT_STATUS.address(port): port for port in range(MAX_PORTS)}

"""I2C as the card's GPIO register drives it: open-drain lines, one clock for seven data lines.

Source: reference/exanic-hardware.md section 11; the protocol is that of the I2C specification (UM10204 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

BUSES = 7
_SCL_LOW = 1 << 7
_SCL_IN = 1 << 15
_DRIVEN = 0xFFFF_00FF


class I2cDevice(Protocol):
    """A slave: it is addressed, then takes or gives bytes."""

    def start(self) -> None:
        """A transfer that addresses us begins."""

    def write(self, value: int) -> bool:
        """Take a byte; False refuses it (NACK)."""

    def read(self) -> int:
        """Give the next byte."""


class Memory(I2cDevice):
    """A serial memory of 256-byte blocks: a written byte sets the position, reads and writes go on from it.

    ``page`` is the size of the write page within which writes wrap (24AA08: 16); 0 makes it read-only.
    """

    def __init__(self, content: bytearray, page: int = 0) -> None:
        self.content = content
        self._page = page
        self._position = 0
        self._positioned = False

    def start(self) -> None:
        self._positioned = False

    def write(self, value: int) -> bool:
        if not self._positioned:
            self._position = value % len(self.content)
            self._positioned = True
            return True
        if not self._page:
            return False
        self.content[self._position] = value
        base = self._position - self._position % self._page
        self._position = base + (self._position + 1) % self._page
        return True

    def read(self) -> int:
        value = self.content[self._position]
        self._position = (self._position + 1) % len(self.content)
        return value


class _State(Enum):
    IDLE = auto()
    TAKING = auto()
    ACKING = auto()
    GIVING = auto()
    ACKED = auto()


@dataclass
class I2cBus:
    """One data line and the slaves on it, by 7-bit address.

    Bits are sampled when the clock rises and change when it falls; a change of data while the clock is high
    is a start or a stop.
    """

    devices: dict[int, I2cDevice] = field(default_factory=dict)
    _state: _State = _State.IDLE
    _scl: bool = True
    _master: bool = True
    _pull: bool = False
    _shift: int = 0
    _bits: int = 0
    _device: I2cDevice | None = None
    _addressing: bool = False
    _reading: bool = False
    _refused: bool = False

    @property
    def sda(self) -> bool:
        """Level of the data line."""
        return self._master and not self._pull

    def drive(self, scl: bool, sda: bool) -> None:
        """The master's lines, True for released. Where both change, the clock falls first or rises last."""
        if not scl:
            self._clock(scl)
        before = self.sda
        self._master = sda
        if self._scl and self.sda != before:
            self._start() if before else self._stop()
        if scl:
            self._clock(scl)

    def _start(self) -> None:
        self._state = _State.TAKING
        self._addressing = True
        self._device = None
        self._shift = self._bits = 0

    def _stop(self) -> None:
        self._state = _State.IDLE
        self._pull = False

    def _clock(self, level: bool) -> None:
        if level == self._scl:
            return
        self._scl = level
        if level:
            self._rise()
        else:
            self._fall()

    def _rise(self) -> None:
        if self._state is _State.TAKING:
            self._shift = self._shift << 1 & 0xFF | self.sda
            self._bits += 1
        elif self._state is _State.GIVING:
            self._bits += 1
        elif self._state is _State.ACKED:
            self._refused = self.sda

    def _fall(self) -> None:
        if self._state is _State.TAKING and self._bits == 8:
            self._pull = self._take(self._shift)
            self._state = _State.ACKING if self._pull else _State.IDLE
        elif self._state is _State.ACKING:
            self._pull = False
            self._shift = self._bits = 0
            if self._reading:
                self._give()
            else:
                self._state = _State.TAKING
        elif self._state is _State.GIVING:
            if self._bits == 8:
                self._pull = False
                self._state = _State.ACKED
            else:
                self._pull = not self._shift >> (7 - self._bits) & 1
        elif self._state is _State.ACKED:
            if self._refused:
                self._state = _State.IDLE
            else:
                self._give()

    def _take(self, value: int) -> bool:
        """A byte is complete: the address after a start, else data. Returns whether to acknowledge it."""
        if not self._addressing:
            return self._device is not None and self._device.write(value)
        self._addressing = False
        self._device = self.devices.get(value >> 1)
        self._reading = bool(value & 1)
        if self._device is None:
            return False
        if not self._reading:
            self._device.start()
        return True

    def _give(self) -> None:
        assert self._device is not None
        self._state = _State.GIVING
        self._shift = self._device.read()
        self._bits = 0
        self._pull = not self._shift >> 7 & 1


class I2cGpio:
    """The I2C_GPIO register over its seven buses."""

    def __init__(self) -> None:
        self.buses = [I2cBus() for _ in range(BUSES)]
        self._value = 0

    def write(self, value: int) -> None:
        """Drive the lines: bit n pulls SDA of bus n low, bit 7 the shared SCL."""
        self._value = value & _DRIVEN
        scl = not value & _SCL_LOW
        for number, bus in enumerate(self.buses):
            bus.drive(scl, not value >> number & 1)

    def read(self) -> int:
        """What was driven, with the levels of the lines in bits 8 to 15."""
        value = self._value
        for number, bus in enumerate(self.buses):
            value |= bus.sda << (8 + number)
        return value if value & _SCL_LOW else value | _SCL_IN

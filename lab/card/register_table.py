"""How a register is declared: blocks, registers and their fields, as plain data.

The rows themselves are in :mod:`lab.card.registers`; the C header, the documentation page and the Python
model are made from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

#: Ports in the first bank of port blocks; ports 8 to 15 are in a second bank 0x1000 higher.
BANK_PORTS = 8
#: Most ports a card can have.
MAX_PORTS = 16


class Access(Enum):
    """What the host may do with a register; the other direction has no effect, or reads 0."""

    RO = "RO"
    RW = "RW"
    WO = "WO"


@dataclass(frozen=True)
class Block:
    """A group of registers at ``base``; a port block is repeated every ``stride`` bytes.

    ``bank_base`` is where the same block of ports 8 to 15 starts. Bytes from the start of BAR0.
    """

    name: str
    base: int
    title: str
    section: str
    stride: int = 0
    bank_base: int = 0

    @property
    def per_port(self) -> bool:
        """True when the block exists once per port."""
        return self.stride != 0

    def address(self, port: int = 0) -> int:
        """Offset of the block in BAR0; ``port`` counts only where the block is per port."""
        if not self.per_port:
            return self.base
        if not 0 <= port < MAX_PORTS:
            raise ValueError(f"port {port} is not in 0..{MAX_PORTS - 1}")
        if port < BANK_PORTS:
            return self.base + self.stride * port
        return self.bank_base + self.stride * (port - BANK_PORTS)


@dataclass(frozen=True)
class Field:
    """A run of bits of a register, ``high`` and ``low`` inclusive."""

    name: str
    high: int
    low: int
    meaning: str

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << (self.high - self.low + 1)) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """One 32-bit little-endian register.

    ``offset`` is from the start of its block. ``reset`` is the value after power-on; where a model decides
    it, :mod:`lab.card.models` gives the value and this one is the fallback. ``section`` names the part of
    reference/exanic-hardware.md that says so.
    """

    name: str
    block: Block
    offset: int
    access: Access
    meaning: str
    section: str
    reset: int = 0
    fields: tuple[Field, ...] = field(default=())

    def address(self, port: int = 0) -> int:
        """Offset of the register in BAR0."""
        return self.block.address(port) + self.offset

    def mask(self, name: str) -> int:
        """Mask of the field called ``name``. Raises KeyError when there is none."""
        for item in self.fields:
            if item.name == name:
                return item.mask
        raise KeyError(f"{self.name} has no field {name}")

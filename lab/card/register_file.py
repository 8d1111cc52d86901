"""The registers of one card at run time: the table's rows with their values, and what reading or writing
does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.card.register_table import Access, Register
from lab.card.registers import REGISTERS

_MASK32 = 0xFFFFFFFF
Reader = Callable[[int], int]
Writer = Callable[[int, int], None]


@dataclass(frozen=True)
class _Place:
    register: Register
    port: int


class RegisterFile:
    """Values and behaviour by address in BAR0; ``ports`` says how many port blocks there are.

    A register without a reader gives the stored value, one without a writer stores. ``published`` is told of
    every stored value that a plain read may return.
    """

    def __init__(self, ports: int, published: Callable[[int, int], None]) -> None:
        self._places: dict[int, _Place] = {}
        self._values: dict[int, int] = {}
        self._readers: dict[int, Reader] = {}
        self._writers: dict[int, Writer] = {}
        self._published = published
        for register in REGISTERS:
            for port in range(ports if register.block.per_port else 1):
                self._places[register.address(port)] = _Place(register, port)
                self._values[register.address(port)] = register.reset

    def reset(self) -> None:
        """Every value as after power-on, as far as the table knows."""
        for address, place in self._places.items():
            self._store(address, place.register.reset)

    def on_read(self, register: Register, reader: Reader) -> None:
        """Reads of the register return ``reader(port)``."""
        for address, place in self._places.items():
            if place.register is register:
                self._readers[address] = reader

    def on_write(self, register: Register, writer: Writer) -> None:
        """Writes call ``writer(port, value)``; storing the value, or not, is up to it."""
        for address, place in self._places.items():
            if place.register is register:
                self._writers[address] = writer

    def get(self, register: Register, port: int = 0) -> int:
        """The stored value."""
        return self._values[register.address(port)]

    def set(self, register: Register, value: int, port: int = 0) -> None:
        """Store a value, whatever the access of the register for the host."""
        self._store(register.address(port), value & _MASK32)

    def read(self, address: int) -> int:
        """What the host reads; 0 where nothing is, or what is there is write-only."""
        place = self._places.get(address)
        if place is None or place.register.access is Access.WO:
            return 0
        reader = self._readers.get(address)
        return reader(place.port) & _MASK32 if reader else self._values[address]

    def write(self, address: int, value: int) -> bool:
        """The host writes; returns False where no register takes it (read-only, or nothing there)."""
        place = self._places.get(address)
        if place is None or place.register.access is Access.RO:
            return False
        writer = self._writers.get(address)
        if writer:
            writer(place.port, value)
        else:
            self._store(address, value)
        return True

    def dump(self) -> dict[str, int]:
        """Every readable register's value as the host would read it, by name (``PORT1.STATUS``)."""
        found: dict[str, int] = {}
        for address, place in self._places.items():
            register = place.register
            if register.access is Access.WO:
                continue
            prefix = f"{register.block.name}{place.port}." if register.block.per_port else ""
            found[prefix + register.name] = self.read(address)
        return found

    def _store(self, address: int, value: int) -> None:
        self._values[address] = value
        if address not in self._readers and self._places[address].register.access is not Access.WO:
            self._published(address, value)

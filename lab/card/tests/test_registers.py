"""The register table: generated files follow it, and it contradicts neither itself nor the compiler."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.card import registers as reg
from lab.card.register_table import Register
from lab.card.registers import REGISTERS
from lab.card.registers_generate import HEADER, drifted


def test_generated_files_are_current() -> None:
    """Header and page say what the table says; else run ``python -m lab.card.registers_generate``."""
    assert drifted() == []


def test_no_two_registers_share_an_address() -> None:
    """Every (block, port, offset) is one register, within its block, on a word boundary."""
    seen: dict[int, str] = {}
    for register in REGISTERS:
        assert register.offset % 4 == 0
        for port in range(16) if register.block.per_port else (0,):
            address = register.address(port)
            if register.block.per_port:
                assert register.offset < register.block.stride
            assert address not in seen, f"{register.name} and {seen[address]} share 0x{address:x}"
            seen[address] = register.name


def test_fields_fit_and_do_not_repeat() -> None:
    """Fields are within 32 bits and have distinct names in their register."""
    for register in REGISTERS:
        names = [field.name for field in register.fields]
        assert len(names) == len(set(names))
        for field in register.fields:
            assert 0 <= field.low <= field.high <= 31


@pytest.mark.parametrize(
    ("register", "port", "address"),
    [
        (reg.PORT_TX_COMMAND, 0, 0x220),
        (reg.PORT_IRQ_CONFIG, 1, 0x274),
        (reg.PORT_STATUS, 7, 0x3C8),
        (reg.PORT_STATUS, 8, 0x1208),
        (reg.STATS_TX, 0, 0x404),
        (reg.STATS_RX, 15, 0x15C8),
        (reg.EXT_AN_CONTROL, 1, 0x940),
        (reg.EXT_AN_CONTROL, 9, 0x1940),
        (reg.I2C_GPIO, 0, 0x12C),
    ],
)
def test_addresses_of_section_2(register: Register, port: int, address: int) -> None:
    """Spot checks of the block addresses, both port banks."""
    assert register.address(port) == address


def test_header_compiles_and_agrees(tmp_path: Path) -> None:
    """The header is valid C by itself and its macros give the table's addresses in both banks."""
    source = tmp_path / "check.c"
    asserts = [
        f"_Static_assert(EXANIC_REG_{r.block.name + '_' if r.block.per_port else ''}{r.name}"
        f'{f"({port})" if r.block.per_port else ""} == 0x{r.address(port):x}, "{r.name}");'
        for r in REGISTERS
        for port in ((0, 7, 8, 15) if r.block.per_port else (0,))
    ]
    source.write_text(f'#include "{HEADER}"\n' + "\n".join(asserts) + "\n")
    done = subprocess.run(
        ["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

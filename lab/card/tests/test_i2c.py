"""The I2C slave at the level of lines, beyond what a driver's master does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab.card.guest import I2cMaster
from lab.card.i2c import I2cGpio, Memory


def test_released_lines_are_high() -> None:
    """Section 11: all sense bits are 1 when nobody pulls."""
    gpio = I2cGpio()
    gpio.write(0)
    assert gpio.read() == 0xFF00
    gpio.write(0x90)
    assert gpio.read() == 0x6F90


def test_nine_clocks_free_the_bus() -> None:
    """A transfer broken off in the middle of a read is cleared by clocking."""
    gpio = I2cGpio()
    gpio.buses[2].devices[0x50] = Memory(bytearray(16))
    master = I2cMaster(gpio, 2)
    master._start()
    assert master._byte(0xA1)
    assert not gpio.read() >> 10 & 1
    for _ in range(100):
        gpio.write(1 << 7)
        gpio.write(0)
        if gpio.read() >> 10 & 1:
            break
    assert gpio.read() >> 10 & 1


@given(st.lists(st.integers(0, 0xFFFF_FFFF), max_size=200))
def test_any_wiggling_leaves_a_working_bus(values: list[int]) -> None:
    """Nothing written to the register breaks the slave for good: clear the bus, then it answers."""
    gpio = I2cGpio()
    gpio.buses[4].devices[0x50] = Memory(bytearray(b"exalab"))
    for value in values:
        gpio.write(value)
        gpio.read()
    for _ in range(100):
        gpio.write(1 << 7)
        gpio.write(0)
        if gpio.read() >> 12 & 1:
            break
    master = I2cMaster(gpio, 4)
    master._stop()
    assert master.read(0x50, 0, 6) == b"exalab"

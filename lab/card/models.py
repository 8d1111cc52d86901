"""Card models as data: a new one is a row here.

Source: reference/exanic-hardware.md section 1 for identifiers and extras. The clock rates, sensor values and
BAR sizes are plausible choices of ours, not facts about hardware.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.card import registers as reg


@dataclass(frozen=True)
class Model:
    """What distinguishes one card model from another.

    Sizes are bytes, ``clock_hz`` ticks per second, ``speeds`` Mb/s with the one after power-on first; the raw
    sensor values are in the units of section 4.
    """

    name: str
    device_id: int
    hardware_id: int
    cages: int
    lanes: int
    clock_hz: int
    capabilities: int
    speeds: tuple[int, ...]
    temperature_raw: int
    vccint_raw: int
    vccaux_raw: int
    bar0_size: int = 0x80_0000
    bar2_size: int = 0x4_0000

    @property
    def ports(self) -> int:
        """Ethernet ports of the card: one per lane of every cage."""
        return self.cages * self.lanes

    @property
    def has_sfp(self) -> bool:
        """Whether each port has an SFP of its own, on the I2C bus of its number (section 11).

        Modules of QSFP cages are not modelled: drivers get no answer from them and carry on.
        """
        return self.lanes == 1


def _caps(*names: str) -> int:
    value = 0
    for name in names:
        value |= reg.CAPS.mask(name)
    return value


_BASE = ("RX_MSI", "CLK_64", "CLK_ADJ_EXT", "IDENTIFY", "BRIDGING", "MIRRORING", "NO_TX_PAD", "NO_TX_CRC")

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "X10",
            device_id=0x0003,
            hardware_id=4,
            cages=2,
            lanes=1,
            clock_hz=161_132_812,
            capabilities=_caps(*_BASE, "MIRROR_EXT", "100M", "1G", "10G"),
            speeds=(10000, 1000, 100),
            temperature_raw=2626,  # 50 degrees by the UltraScale formula
            vccint_raw=1297,  # 0.95 V
            vccaux_raw=2458,  # 1.80 V
        ),
        Model(
            "X25",
            device_id=0x0009,
            hardware_id=9,
            cages=2,
            lanes=1,
            clock_hz=250_000_000,
            capabilities=_caps(*_BASE, "MIRROR_EXT", "1G", "10G", "25G"),
            speeds=(10000, 25000, 1000),
            temperature_raw=2656,  # 50 degrees by the UltraScale+ formula
            vccint_raw=1161,  # 0.85 V
            vccaux_raw=2458,  # 1.80 V
        ),
    )
}


def model(name: str) -> Model:
    """The model called ``name``, as printed on the card. Raises KeyError with the known names."""
    try:
        return MODELS[name.upper()]
    except KeyError:
        raise KeyError(f"no card model {name!r}; there are {', '.join(sorted(MODELS))}") from None

"""Cards on a wire, for the tests of the card, the wire and the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.card.guest import Guest
from lab.wire.fabric import CoreName, Fabric

MAC0 = bytes.fromhex("643f5f010000")
MAC1 = bytes.fromhex("643f5f010001")
OTHER = bytes.fromhex("020000000001")
CABLE = [{"kind": "cable", "ends": ["card0:0", "card0:1"]}]


@pytest.fixture(params=["python", "c"])
def core(request: pytest.FixtureRequest) -> CoreName:
    """Which data path the fabric uses."""
    name: CoreName = request.param
    return name


@pytest.fixture
def fabric(core: CoreName, tmp_path: Path) -> Iterator[Fabric]:
    """A fabric with one X25 ``card0``, nothing plugged in."""
    built = Fabric(capture_dir=tmp_path / "capture", tester_dir=tmp_path, seed=7, core=core)
    built.add_card("card0", "X25", serial="EXA0001", mac=MAC0)
    yield built
    built.close()


@pytest.fixture
def guest(fabric: Fabric) -> Iterator[Guest]:
    """A guest on card0, both ports up, cabled to each other."""
    driver = Guest(fabric.cards["card0"])
    fabric.apply(CABLE)
    for port in (0, 1):
        driver.up(port)
    yield driver
    driver.close()


@pytest.fixture
def frame() -> Callable[..., bytes]:
    """Builds frames: ``frame(dst, size=60)``, without FCS, recognisable content."""

    def build(dst: bytes = MAC1, src: bytes = MAC0, size: int = 60, kind: int = 0x88B5) -> bytes:
        head = dst + src + kind.to_bytes(2, "big")
        return head + bytes(number % 251 for number in range(size - len(head)))

    return build

"""The core against a guest that changes its memory while the core works on it, and against overload."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.card import registers as reg
from lab.card.guest import Guest
from lab.card.tests.conftest import CABLE, MAC0, MAC1
from lab.core.engine import CoreEngine
from lab.wire.fabric import Fabric
from lab.wire.frame import seal


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A guest on the C core, ports cabled."""
    fabric = Fabric(seed=1, core="c")
    driver = Guest(fabric.add_card("card0", "X25", serial="S", mac=MAC0))
    fabric.apply(CABLE)
    for port in (0, 1):
        driver.up(port)
    yield driver
    driver.close()
    fabric.close()


def test_chunk_that_changes_while_it_is_read(guest: Guest) -> None:
    """Another thread rewrites header and payload without pause: no access outside, no frame of impossible
    size."""
    frame = MAC1 + MAC0 + b"\x88\xb5" + bytes(1400)
    offset = guest.place(frame)
    stop = threading.Event()
    region = guest.card.regions[2]

    def scribble() -> None:
        lengths = (0, 2, 3, 62, 1402, 9214, 9218, 65535)
        turn = 0
        while not stop.is_set():
            turn += 1
            guest.card.write(2, offset + 4, lengths[turn % 8].to_bytes(2, "little"))
            guest.card.write(2, offset + 64, bytes([turn & 0xFF]) * 64)

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        for _ in range(4000):
            guest.write(reg.PORT_TX_COMMAND, offset)
            guest.write(reg.PORT_TX_COMMAND, guest.read(reg.PORT_TX_SIZE) - 8)
    finally:
        stop.set()
        thread.join()
    assert region.size == guest.card.model.bar2_size
    counters = guest.card.plane.ports[0].counters()
    assert counters["tx"] + counters["tx_bad_chunk"] + counters["tx_bad_command"] == 8000


def test_notes_are_bounded(tmp_path: Path) -> None:
    """Nobody polls: the outbox fills, drops and counts; afterwards everything it kept comes in order."""
    fabric = Fabric(seed=1, core="c", tester_dir=tmp_path)
    fabric.add_card("card0", "X25", serial="S", mac=MAC0)
    seen: list[bytes] = []
    for name in "ab":
        fabric.wire.attach(f"tester:{name}", seen.append)
    fabric.wire.apply([{"kind": "cable", "ends": ["tester:a", "tester:b"]}])
    frames = [seal(MAC1 + MAC0 + number.to_bytes(4, "big") + bytes(9000 - number)) for number in range(1200)]
    for frame in frames:
        fabric.wire.send("tester:a", frame)
    engine = fabric.engine
    assert isinstance(engine, CoreEngine)
    dropped = engine.dropped()
    assert dropped > 0
    fabric.poll()
    assert seen == frames[: len(frames) - dropped]
    for frame in frames[:500] * 3:
        fabric.wire.send("tester:a", frame)
        engine.poll()
    assert engine.dropped() == dropped
    assert seen[-1] == frames[499]
    fabric.close()


def test_outbox_wraps_in_order() -> None:
    """Frames put while others are taken, round and round: none is lost, mixed up or out of order."""
    fabric = Fabric(seed=1, core="c")
    seen: list[bytes] = []
    for name in "ab":
        fabric.wire.attach(f"tester:{name}", seen.append)
    fabric.wire.apply([{"kind": "cable", "ends": ["tester:a", "tester:b"]}])
    engine = fabric.engine
    assert isinstance(engine, CoreEngine)
    sent: list[bytes] = []
    for turn in range(12):
        for number in range(400):
            frame = seal(MAC1 + MAC0 + turn.to_bytes(2, "big") + bytes((turn * 400 + number) * 37 % 9000))
            sent.append(frame)
            fabric.wire.send("tester:a", frame)
        engine.poll(notes=390)
    engine.poll()
    assert engine.dropped() == 0
    assert seen == sent
    fabric.close()

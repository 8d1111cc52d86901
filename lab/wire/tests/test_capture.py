"""Captures: readable by others' tools, bounded, prompt."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket, InterfaceDescription
from scapy.utils import rdpcap

from lab.card.guest import Guest
from lab.wire.capture import Capture
from lab.wire.fabric import CoreName, Fabric

Build = Callable[..., bytes]
# python-pcapng warns about its own option tables.
pytestmark = pytest.mark.filterwarnings("ignore:Field type should not be:DeprecationWarning")


def blocks(path: Path, kind: type[Any]) -> list[Any]:
    """The blocks of one kind in a capture."""
    with path.open("rb") as file:
        return [block for block in FileScanner(file) if isinstance(block, kind)]


def test_what_passed_is_there(fabric: Fabric, guest: Guest, frame: Build, tmp_path: Path) -> None:
    """Both ports record: direction, FCS length, nanoseconds, interface name."""
    before = time.time()
    fabric.fault("card0", "bad_frame", port=1, status="bad_crc")
    guest.send(frame(size=101))
    guest.send(frame(size=200), port=1)
    fabric.flush()
    path = tmp_path / "capture" / "card0-1.pcapng"
    (interface,) = blocks(path, InterfaceDescription)
    assert interface.options["if_name"] == "card0:1"
    assert interface.timestamp_resolution == 1e-9
    assert interface.options["if_fcslen"] == 4
    received, sent = blocks(path, EnhancedPacket)
    assert received.packet_data[:-4] == frame(size=101)
    assert received.options.get_raw("epb_flags") == (0x01000081).to_bytes(4, "little")
    assert sent.options.get_raw("epb_flags") == (0x82).to_bytes(4, "little")
    assert before - 1 <= received.timestamp <= time.time() + 1
    assert len(rdpcap(str(path))) == 2


def test_visible_without_asking(fabric: Fabric, guest: Guest, frame: Build, tmp_path: Path) -> None:
    """A running event loop writes what was captured, soon."""
    path = tmp_path / "capture" / "card0-0.pcapng"
    guest.send(frame())
    for _ in range(100):
        fabric.poll(timeout=5)
        if blocks(path, EnhancedPacket):
            break
    assert len(blocks(path, EnhancedPacket)) == 1


def test_two_bounded_segments(core: CoreName, frame: Build, tmp_path: Path) -> None:
    """A full segment becomes the previous one; both can be read, together they hold the newest frames."""
    fabric = Fabric(capture_dir=tmp_path, seed=1, core=core, capture_limit=100_000)
    guest = Guest(fabric.add_card("card0", "X10", serial="S", mac="64:3f:5f:01:00:00"))
    fabric.apply([{"kind": "cable", "ends": ["card0:0", "card0:1"]}])
    for port in (0, 1):
        guest.up(port)
    for number in range(400):
        guest.send(frame(size=1000 + number % 100))
    guest.close()
    fabric.close()
    sizes: list[int] = []
    for name in ("card0-1.1.pcapng", "card0-1.pcapng"):
        assert (tmp_path / name).stat().st_size <= 100_000
        sizes += [len(block.packet_data) - 4 for block in blocks(tmp_path / name, EnhancedPacket)]
    assert sizes == [1000 + number % 100 for number in range(400 - len(sizes), 400)]
    assert len(sizes) > 90


def test_lost_captures_are_counted(core: CoreName, tmp_path: Path) -> None:
    """The card runs on without its captures, and the counters say so."""
    (tmp_path / "file").write_text("")
    fabric = Fabric(capture_dir=tmp_path / "file" / "deeper", seed=1, core=core)
    fabric.add_card("card0", "X10", serial="S", mac="64:3f:5f:01:00:00")
    assert fabric.counters()["core"]["captures_lost"] == 2
    fabric.close()


def test_unwritable_directory_does_not_stop_the_card(tmp_path: Path) -> None:
    """No capture is better than no card; the reason is kept."""
    (tmp_path / "file").write_text("")
    capture = Capture(tmp_path / "file" / "x.pcapng", "x", time.time_ns, lambda: None)
    capture.write(b"\0" * 64, 1)
    capture.flush()
    assert capture.failed is not None

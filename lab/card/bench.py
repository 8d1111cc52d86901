"""How many frames a second the card model moves by itself, driven without a guest.

``python -m lab.card.bench`` prints the figures; ``make bench`` calls :func:`figures`. One X25, both ports
up and captured, ports 0 and 1 and a tester on one switch.

- TX: per frame one 4-byte write to TX_COMMAND through :meth:`lab.card.device.Card.write`, which is what the
Python   server calls for a guest's doorbell. The card fetches the chunk from BAR2, pads it, appends the FCS,
  captures it,
  forwards it through the switch to the other port (captured there, stopped by the address filter) and
  writes the
  feedback of every frame. ``card_tx_fps_64_pump`` rings through ``exa_register_write`` instead, the entry
  that the message pump in C uses, called from here, so with the cost of a cffi call on top.
- RX: per frame one :meth:`lab.wire.wire.Wire.send` by the tester's end, as its socket does. The frame
passes the
  switch, is checked, captured, filtered and written to the ring; the interrupt is armed again every 16
  frames, as a polling driver would, and its eventfd read.

Frames are 64 bytes with FCS. Every frame is counted at its end, and a run that lost one raises RuntimeError.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lab.card import registers as reg
from lab.card.guest import Guest
from lab.card.layout import RX_POSITIONS
from lab.core.plane import CorePlane
from lab.wire.fabric import CoreName, Fabric
from lab.wire.frame import seal

_MAC = bytes.fromhex("643f5f010000")
_ELSEWHERE = bytes.fromhex("020000000009")
_BATCH = 16
_SECONDS = 0.6
_WIRING = [
    {"kind": "switch", "ports": [{"end": end} for end in ("card0:0", "card0:1", "tester:t0")]},
]


def _rate(batch: Callable[[], None], seconds: float) -> float:
    """Frames a second of repeating a batch of :data:`_BATCH` for about so long, after a warm-up."""
    batch()
    frames = 0
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        for _ in range(16):
            batch()
        frames += 16 * _BATCH
    return frames / passed


def _transmit(guest: Guest, ring: Callable[[int], object], seconds: float) -> float:
    """TX frames a second; ``ring`` is given the offset of each chunk."""
    offsets = [
        guest.place(_ELSEWHERE + _MAC + b"\x88\xb5" + bytes(40), at=128 * number) for number in range(_BATCH)
    ]
    before = guest.read(reg.STATS_TX)
    sent = 0

    def batch() -> None:
        nonlocal sent
        for offset in offsets:
            ring(offset)
        sent += _BATCH

    rate = _rate(batch, seconds)
    counted = guest.read(reg.STATS_TX) - before
    if counted != sent:
        raise RuntimeError(f"{sent} doorbells sent {counted} frames")
    return rate


def _receive(fabric: Fabric, guest: Guest, seconds: float) -> float:
    """RX frames a second."""
    frame = seal(_MAC + _ELSEWHERE + b"\x88\xb5" + bytes(46))
    send = fabric.wire.send
    before = guest.read(reg.STATS_RX)
    sent = 0

    def batch() -> None:
        nonlocal sent
        guest.arm(0)
        for _ in range(_BATCH):
            send("tester:t0", frame)
        guest.position[0] = (guest.position[0] + _BATCH) % RX_POSITIONS
        sent += _BATCH
        if guest.interrupts() != 1:
            raise RuntimeError("a batch of frames must raise its interrupt")

    rate = _rate(batch, seconds)
    counted = guest.read(reg.STATS_RX) - before
    if counted != sent:
        raise RuntimeError(f"{sent} frames sent, {counted} delivered")
    return rate


def _measure(core: CoreName, suffix: str, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="exalab-bench-") as folder:
        fabric = Fabric(capture_dir=Path(folder), tester_dir=Path(folder), seed=1, core=core)
        card = fabric.add_card("card0", "X25", serial="BENCH", mac=_MAC)
        guest = Guest(card)
        fabric.apply(_WIRING)
        for port in (0, 1):
            guest.up(port)
        # The switch learns where the frames' address is, so that nothing is flooded.
        guest.send(_MAC + _ELSEWHERE + b"\x88\xb5", port=1)
        guest.send(_ELSEWHERE + _MAC + b"\x88\xb5", port=0)
        command = reg.PORT_TX_COMMAND.address(0)

        def doorbell(offset: int) -> None:
            card.write(0, command, offset.to_bytes(4, "little"))

        found = {f"card_tx_fps_64{suffix}": _transmit(guest, doorbell, seconds)}
        if isinstance(card.plane, CorePlane):
            plane = card.plane
            pumped = _transmit(guest, lambda offset: plane.register_write(command, offset), seconds)
            found["card_tx_fps_64_pump"] = pumped
        guest.send(_ELSEWHERE + _MAC + b"\x88\xb5", port=0)
        found[f"card_rx_fps_64{suffix}"] = _receive(fabric, guest, seconds)
        guest.close()
        fabric.close()
    return found


def figures(seconds: float = _SECONDS) -> dict[str, float]:
    """Frames per second by name: the C core, then (``_python``) the Python model."""
    found = _measure("c", "", seconds)
    found.update(_measure("python", "_python", seconds))
    return found


def main() -> None:
    """Print the figures."""
    for name, value in figures().items():
        print(f"{name:28} {value:12,.0f} frames/s")


if __name__ == "__main__":
    main()

"""One lab twice, on the Python model and on the C core, driven alike and compared."""

from __future__ import annotations

import mmap
import shutil
import tempfile
from pathlib import Path
from typing import Any

from lab.card import registers as reg
from lab.card.guest import MEMORY_BASE, Guest
from lab.card.layout import RxStatus
from lab.card.register_table import MAX_PORTS, Access
from lab.card.registers import REGISTERS
from lab.core.engine import CoreEngine
from lab.core.plane import CorePlane
from lab.vfio_user.device import DMA_READ, DMA_WRITE
from lab.wire.fabric import CoreName, Fabric
from lab.wire.frame import seal

MACS = [
    bytes.fromhex(text)
    for text in ("643f5f010000", "643f5f010001", "020000000001", "01005e000001", "ffffffffffff")
]
TESTERS = ("tester:a", "tester:b")
PORTS = ("card0:0", "card0:1")
EXTRA_BASE = MEMORY_BASE + (1 << 32)
EXTRA_SIZE = 3 * 4096 + 64


def _switch(*ports: tuple[str, int | None, Any]) -> dict[str, Any]:
    return {
        "kind": "switch",
        "ports": [{"end": end, "pvid": pvid, "tagged": tagged} for end, pvid, tagged in ports],
    }


#: Wirings to choose from.
WIRINGS: list[list[dict[str, Any]]] = [
    [],
    [{"kind": "cable", "ends": PORTS}],
    [{"kind": "cable", "ends": ["card0:0", "tester:a"]}, {"kind": "cable", "ends": ["tester:b", "card0:1"]}],
    [_switch(*((end, 1, "all") for end in (*PORTS, *TESTERS)))],
    [
        _switch(
            ("card0:0", 10, []),
            ("card0:1", None, [10, 20]),
            ("tester:a", 20, [10]),
            ("tester:b", 10, "all"),
        )
    ],
]


class Rig:
    """One of the two labs. Every public method is an operation of the differential test."""

    def __init__(self, core: CoreName, folder: Path) -> None:
        self.mono, self.wall = 1_000_000_007, 1_700_000_000_000_000_001
        self.folder = folder / core
        self.fabric = Fabric(
            capture_dir=self.folder,
            seed=3,
            core=core,
            capture_limit=20_000,
            now_ns=lambda: self.mono,
            wall_ns=lambda: self.wall,
        )
        self._tell_time()
        self.seen: dict[str, list[bytes]] = {end: [] for end in TESTERS}
        for end in TESTERS:
            self.fabric.wire.attach(end, self.seen[end].append)
        self.card = self.fabric.add_card("card0", "X25", serial="EXA0001", mac=MACS[0])
        self.guest = Guest(self.card)
        self.extra = mmap.mmap(-1, EXTRA_SIZE)
        self.extra_mapped = False
        self.masked = False
        self.fabric.wire.apply(WIRINGS[1])
        for port in (0, 1):
            self.guest.up(port)

    def register(self, name: str, port: int, value: int) -> None:
        """Write a register."""
        register = next(r for r in REGISTERS if f"{r.block.name}.{r.name}" == name)
        self.guest.write(register, value, port)

    def send(self, port: int, at: int, frame: bytes, slot: int, kind: int) -> None:
        """Place a chunk and ring the doorbell, whatever that gives."""
        header = b"\x34\x12" + slot.to_bytes(2, "little") + (len(frame) + 2).to_bytes(2, "little")
        offset = (self.guest.read(reg.PORT_TX_OFFSET, port) + at) % self.card.model.bar2_size
        chunk = header + bytes((kind, 0, 0, 0)) + frame
        self.card.write(2, offset, chunk[: self.card.model.bar2_size - offset])
        self.guest.write(reg.PORT_TX_COMMAND, offset, port)

    def inject(self, end: str, frame: bytes, good: bool) -> None:
        """A frame from outside."""
        data = seal(frame)
        if not good:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if end in TESTERS:
            self.fabric.wire.send(end, data)
        else:
            self.fabric.inject(end, data, sealed=True)

    def wire(self, number: int) -> None:
        """Rewire."""
        self.fabric.wire.apply(WIRINGS[number])

    def link(self, end: str, up: bool) -> None:
        """Pull or plug."""
        self.fabric.link(end, up)

    def spoil(self, port: int, status: int, count: int) -> None:
        """Bad frames."""
        self.card.spoil(port, RxStatus(status), count)

    def interrupts(self, lose: bool, repeat: int) -> None:
        """Bad interrupts."""
        self.fabric.fault("card0", "interrupts", lose=lose, repeat=repeat)

    def stall(self, port: int, stalled: bool) -> None:
        """Pause a port and let it go on."""
        self.fabric.fault("card0", "stall", port=port, on=stalled)

    def present(self, present: bool) -> None:
        """Surprise removal and return."""
        self.card.set_present(present)

    def reset(self) -> None:
        """Device reset, and the driver's way back."""
        self.card.reset()
        for port in (0, 1):
            self.guest.up(port)

    def lap(self, port: int, chunks: int) -> None:
        """Many frames; in parts, because a bridge behind a switch makes up to 1,020 of each for the testers,
        and what a poll carries out is bounded, as is the core's outbox."""
        for start in range(0, chunks, 8):
            self.fabric.fault("card0", "lap", port=port, chunks=min(8, chunks - start))
            self._carry_out()

    def extra_memory(self, mapped: bool, read_only: bool) -> None:
        """Map or unmap another, oddly sized range."""
        if mapped and not self.extra_mapped:
            self.card.dma_map(
                EXTRA_BASE, EXTRA_SIZE, self.extra, DMA_READ if read_only else DMA_READ | DMA_WRITE
            )
        elif self.extra_mapped and not mapped:
            self.card.dma_unmap(EXTRA_BASE, EXTRA_SIZE)
        self.extra_mapped = mapped

    def mask(self, masked: bool) -> None:
        """MSI off and on."""
        self.card.set_msi(None if masked else self.guest.eventfd)

    def rules(self, end: str, rules: list[dict[str, Any]]) -> None:
        """Rules of an end."""
        self.fabric.rules(end, rules)

    def time(self, nanoseconds: int) -> None:
        """Time passes."""
        self.mono += nanoseconds
        self.wall += nanoseconds
        self._tell_time()

    def settle(self) -> int:
        """Let the core's notes be carried out; returns the interrupts since the last time."""
        self._carry_out()
        return self.guest.interrupts()

    def memory(self) -> bytes:
        """Everything the card may have written."""
        return self.guest.memory[:] + self.extra[:]

    def state(self) -> dict[str, Any]:
        """All that both labs must agree on besides memory."""
        addresses = [
            register.address(port)
            for register in REGISTERS
            if register.access is not Access.WO
            for port in (range(MAX_PORTS) if register.block.per_port else (0,))
        ]
        return {
            "registers": {hex(at): self.card.read(0, at, 4) for at in addresses},
            "counters": self.fabric.counters(),
            "seen": self.seen,
        }

    def served_differently(self) -> list[str]:
        """Registers that the core answers by itself otherwise than Python does. Only for the core's rig."""
        plane = self.card.plane
        assert isinstance(plane, CorePlane)
        wrong: list[str] = []
        for register in REGISTERS:
            for port in range(MAX_PORTS) if register.block.per_port else (0,):
                at = register.address(port)
                served = plane.register_read(at)
                if served is not None and served.to_bytes(4, "little") != self.card.read(0, at, 4):
                    wrong.append(f"{register.name} of port {port}: {served:#x}")
        return wrong

    def captures(self) -> dict[str, bytes]:
        """The capture files' bytes."""
        self.fabric.flush()
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    def close(self) -> None:
        """Give everything back."""
        self.guest.close()
        self.fabric.close()
        self.extra.close()

    def _carry_out(self) -> None:
        for _ in range(4):
            self.fabric.engine.poll()

    def _tell_time(self) -> None:
        if isinstance(self.fabric.engine, CoreEngine):
            self.fabric.engine.set_time(self.mono, self.wall)


class Pair:
    """Both labs."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="exalab-core-"))
        self.python = Rig("python", self._folder)
        self.c = Rig("c", self._folder)

    def do(self, name: str, *arguments: Any) -> None:
        """One operation on both; their interrupts must agree at once."""
        for rig in (self.python, self.c):
            getattr(rig, name)(*arguments)
        raised = self.python.settle(), self.c.settle()
        assert raised[0] == raised[1], (
            f"{name}{arguments}: interrupts {raised[0]} in Python, {raised[1]} in C"
        )

    def compare(self) -> None:
        """Everything else must agree too."""
        assert self.c.served_differently() == []
        assert self.c.state() == self.python.state()
        assert self.c.memory() == self.python.memory(), "guest memory differs"
        assert self.c.captures() == self.python.captures(), "captures differ"

    def counted(self) -> set[str]:
        """The names of all counters that are not zero, rules' among them."""
        found: set[str] = set()
        for values in self.python.fabric.counters().values():
            for name, value in values.items():
                inner = value.items() if isinstance(value, dict) else ((name, value),)
                found |= {one for one, count in inner if count}
        return found

    def close(self) -> None:
        """Give everything back."""
        self.python.close()
        self.c.close()
        shutil.rmtree(self._folder)

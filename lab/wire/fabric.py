"""A lab's hardware in one object: cards, the outsides of real ones, testers, the wire, captures and timers.

For an event loop: watch :meth:`Fabric.fileno` for reading and call :meth:`Fabric.poll` when it is ready;
that is all. Everything runs in the caller's thread.

>>> fabric = Fabric(capture_dir=out, tester_dir=run, seed=1)                       # doctest: +SKIP
>>> card = fabric.add_card("card0", "X25", serial="EXA0001", mac=bytes.fromhex("643f5f010000"))
>>> fabric.apply([{"kind": "cable", "ends": ["card0:0", "tester:t0"]}])            # doctest: +SKIP

``core`` chooses the data path: "c" (:mod:`lab.core`) or "python" (the oracle); by default the environment's
EXALAB_CORE, else "c". The time sources are for tests (a test of the C core tells the core as well).
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from lab.card.device import Card
from lab.card.identity import CardIdentity
from lab.card.layout import RX_RING_CHUNKS, RxStatus
from lab.card.models import model
from lab.card.plane import InterruptFault
from lab.card.transmit import TxMemory
from lab.wire import segments as wire_segments
from lab.wire.capture import FLUSH_AFTER_S, SEGMENT_SIZE, Capture
from lab.wire.engine import Engine, PythonEngine
from lab.wire.frame import seal
from lab.wire.nic import Nic
from lab.wire.segments import tester_name
from lab.wire.tester import Tester
from lab.wire.timers import Timers
from lab.wire.wire import WiringError

LOG = logging.getLogger("lab.wire")
#: How often refused DMA accesses are logged.
REPORT_EVERY_S = 1.0
CoreName = Literal["c", "python"]


def _core_name(wanted: CoreName | None) -> CoreName:
    name = wanted or os.environ.get("EXALAB_CORE") or "c"
    if name not in ("c", "python"):
        raise ValueError(f"EXALAB_CORE is {name!r}; it can be c or python")
    return "c" if name == "c" else "python"


class Fabric:
    """Cards, testers and wire of one lab. See the module."""

    def __init__(
        self,
        *,
        capture_dir: Path | None = None,
        tester_dir: Path | None = None,
        seed: int = 0,
        core: CoreName | None = None,
        capture_limit: int = SEGMENT_SIZE,
        now_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.core: CoreName = _core_name(core)
        self._now_ns = now_ns
        self._wall_ns = wall_ns
        self.timers = Timers()
        self.cards: dict[str, Card] = {}
        self.testers: dict[str, Tester] = {}
        self.nics: dict[str, Nic] = {}
        self._nic_captures: list[Capture] = []
        self._nic_flush_planned = False
        self._capture_limit = capture_limit
        self._tester_dir = tester_dir
        self._reported_at = 0.0
        self._captures_lost = 0
        self._capture_dir = capture_dir
        self._poller = select.epoll()
        self.engine = self._new_engine(seed, capture_dir, capture_limit)
        self.wire = self.engine.wire
        self._poller.register(self.timers.fileno(), select.EPOLLIN)
        self._engine_fd = self.engine.fileno()
        if self._engine_fd is not None:
            self._poller.register(self._engine_fd, select.EPOLLIN)

    def _new_engine(self, seed: int, capture_dir: Path | None, capture_limit: int) -> Engine:
        if self.core == "c":
            # Late: the oracle must work where there is no compiler.
            from lab.core.engine import CoreEngine

            return CoreEngine(seed, self.timers, capture_dir, capture_limit)
        return PythonEngine(seed, self.timers, capture_dir, capture_limit, self._now_ns, self._wall_ns)

    # ---- event loop

    def fileno(self) -> int:
        """Watch this for reading, then :meth:`poll`."""
        return self._poller.fileno()

    def poll(self, timeout: float = 0) -> None:
        """Serve testers, timers and what the core left for Python; waits at most ``timeout`` seconds."""
        for fd, events in self._poller.poll(timeout):
            if fd == self.timers.fileno():
                self.timers.run_due()
                self._report()
            elif fd == self._engine_fd:
                self.engine.poll()
            else:
                served: list[Tester | Nic] = [*self.testers.values(), *self.nics.values()]
                for one in served:
                    if fd in one.filenos():
                        one.ready(fd, events)
                        break

    def _report(self) -> None:
        """Log what guests did wrong, at most once a second. Traffic sets timers, so this is called then."""
        now = time.monotonic()
        if now - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = now
            for card in self.cards.values():
                card.report()
            lost = self.engine.captures_lost()
            if lost > self._captures_lost:
                LOG.error("%d captures in %s cannot be written: is it full?", lost, self._capture_dir)
            self._captures_lost = lost

    def close(self) -> None:
        """Flush the captures, close sockets, give the cards' memory back."""
        for tester in self.testers.values():
            tester.close()
        for nic in self.nics.values():
            nic.close()
        self._flush_nics()
        self.engine.close()
        for card in self.cards.values():
            card.close()
        self.timers.close()
        self._poller.close()

    # ---- hardware

    def add_card(self, name: str, model_name: str, serial: str, mac: bytes | str) -> Card:
        """A new card, unplugged. Raises KeyError for an unknown model, ValueError for a bad name or
        EEPROM data."""
        if name in self.cards or name == "tester":
            raise ValueError(f"a card cannot be called {name!r}: the name is taken")
        kind = model(model_name)
        address = bytes.fromhex(mac.replace(":", "")) if isinstance(mac, str) else mac
        tx_memory = TxMemory(kind.bar2_size)
        plane = self.engine.plane(name, kind, tx_memory)

        def changed(port: int, ready: bool, speed: int) -> None:
            self.wire.set_ready(f"{name}:{port}", ready, speed)

        identity = CardIdentity(name, serial, address)
        card = Card(kind, identity, tx_memory, plane, changed, self._now_ns)
        for port in range(kind.ports):
            self.wire.ends[f"{name}:{port}"].on_link = self._linker(card, port)
        self.cards[name] = card
        return card

    def add_nic(self, end: str, interface: str) -> Nic:
        """The port ``end`` of a real card, by this machine's interface that is cabled to it.

        Raises ValueError when the end is there, OSError when the interface is not.
        """
        if end in self.wire.ends or tester_name(end):
            raise ValueError(f"{end} is there already, or no port")
        capture = None
        if self._capture_dir is not None:
            path = self._capture_dir / f"{end.replace(':', '-')}.pcapng"
            capture = Capture(path, end, self._wall_ns, self._nic_dirty, self._capture_limit)
            self._nic_captures.append(capture)

        def arrived(frame: bytes) -> None:
            self.wire.send(end, frame)

        def linked(link: bool) -> None:
            # Its speed is its own: frames between two speeds wait here, not on the cable.
            self.wire.set_ready(end, link, None)

        nic = Nic(interface, self._poller, arrived, linked, capture)
        self.nics[end] = nic
        self.wire.attach(end, nic.deliver, ready=False)
        nic.tell_link()
        return nic

    def _nic_dirty(self) -> None:
        if not self._nic_flush_planned:
            self._nic_flush_planned = True
            self.timers.after(FLUSH_AFTER_S, self._flush_nics)

    def _flush_nics(self) -> None:
        self._nic_flush_planned = False
        for capture in self._nic_captures:
            capture.flush()

    @staticmethod
    def _linker(card: Card, port: int) -> Callable[[bool], None]:
        return lambda up: card.set_carrier(port, up)

    def apply(self, segments: Iterable[Mapping[str, Any]] | wire_segments.Wiring) -> None:
        """Rewire. Testers come and go with the segments that name them.

        Raises pydantic.ValidationError for bad data, WiringError for a port that no card has.
        """
        wiring = segments if isinstance(segments, wire_segments.Wiring) else wire_segments.parse(segments)
        wanted = [end for end in wiring.ends() if tester_name(end)]
        for end in wiring.ends():
            if end not in wanted and end not in self.wire.ends:
                raise WiringError(f"no port {end!r}; there are: {', '.join(self._ports()) or 'none'}")
        for end in wanted:
            if end not in self.testers:
                self._add_tester(end)
        self.wire.apply(wiring)
        for end in [end for end in self.testers if end not in wanted]:
            self.testers.pop(end).close()
            self.wire.detach(end)

    def link(self, end: str, up: bool) -> None:
        """Pull an end's cable, or plug it in again."""
        self.wire.set_link(end, up)
        if end in self.nics:
            self.nics[end].plug(up)

    def flap(self, end: str, down_s: float = 0.1, times: int = 1) -> None:
        """Pull an end's cable and plug it in again after ``down_s`` seconds, ``times`` times over."""
        self.link(end, False)

        def plug() -> None:
            if end not in self.wire.ends:
                return
            self.link(end, True)
            if times > 1:
                self.timers.after(down_s, lambda: self.flap(end, down_s, times - 1))

        self.timers.after(down_s, plug)

    def rules(self, end: str, rules: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Replace the rules of an end (:mod:`lab.wire.rules`); returns what those it had did."""
        return self.wire.rules(end, rules)

    def inject(self, end: str, frame: bytes, sealed: bool = False) -> None:
        """A frame arrives at a port out of nowhere, or is sent by a tester.

        ``frame`` is without FCS and padded; with ``sealed`` it is taken as it is, its last four bytes being
        the FCS.
        """
        data = frame if sealed else seal(frame)
        if tester_name(end):
            self.wire.send(end, data)
        elif end in self.nics:
            self.nics[end].deliver(data)
        else:
            card, port = self._port(end)
            card.plane.ports[port].receive(data)

    def counters(self) -> dict[str, dict[str, Any]]:
        """Everything counted, by end, card and switch."""
        found = self.wire.counters()
        found["core"] = {"dropped": self.engine.dropped(), "captures_lost": self.engine.captures_lost()}
        for name, card in self.cards.items():
            found[name] = dict(card.counters())
            for number, port in enumerate(card.plane.ports):
                found.setdefault(f"{name}:{number}", {}).update(port.counters())
        for end, tester in self.testers.items():
            found.setdefault(end, {}).update(vars(tester.counters), clients=tester.clients)
        for end, nic in self.nics.items():
            found.setdefault(end, {}).update(vars(nic.counters))
        return found

    def flush(self) -> None:
        """Make every frame captured so far visible to readers of the files."""
        self._flush_nics()
        self.engine.flush()

    def registers(self, card: str) -> dict[str, int]:
        """What every readable register of a card reads as now."""
        return self._card(card).registers.dump()

    def fault(self, card: str, kind: str, **args: Any) -> None:
        """Make a card misbehave. Kinds and their arguments (``port`` is 0 by default):

        - ``bad_frame``: status ("aborted", "bad_crc", "overflow"), count: spoil the next frames received;
        - ``gone``: on (default True): surprise removal, or return after a power-on;
        - ``flap``: port, down_s, times: the link goes down and comes back by itself;
        - ``module``: port, present: plug a module in or out;
        - ``interrupts``: delay_s, repeat, lose; none given: interrupts as they should be;
        - ``stall``: port, on (default True): commands to send wait, as under pause frames, until it is off;
        - ``lap``: port, chunks: write this many one-chunk frames at once (default: a ring and a bit);
        - ``reset``: as after power-on.

        Raises ValueError for an unknown kind or argument.
        """
        target = self._card(card)
        action = _FAULTS.get(kind)
        if action is None and kind != "flap":
            raise ValueError(f"no fault {kind!r}; there are: flap, {', '.join(_FAULTS)}")
        try:
            if action is None:
                self.flap(f"{card}:{args.pop('port', 0)}", **args)
            else:
                action(target, **args)
        except (TypeError, IndexError, KeyError) as error:
            raise ValueError(f"fault {kind!r}: {error}") from error

    def _ports(self) -> list[str]:
        return [end for end in self.wire.ends if not tester_name(end)]

    def _card(self, name: str) -> Card:
        try:
            return self.cards[name]
        except KeyError:
            raise WiringError(f"no card {name!r}; there are: {', '.join(self.cards) or 'none'}") from None

    def _port(self, end: str) -> tuple[Card, int]:
        if end not in self._ports():
            raise WiringError(f"no port {end!r}; there are: {', '.join(self._ports()) or 'none'}")
        name, _, port = end.partition(":")
        return self._card(name), int(port)

    def _add_tester(self, end: str) -> None:
        name = tester_name(end)
        if self._tester_dir is None:
            raise WiringError(f"{end}: this fabric was given no directory for tester sockets")

        def send(frame: bytes) -> None:
            self.wire.send(end, frame)

        tester = Tester(self._tester_dir / f"{name}.sock", self._poller, send)
        self.testers[end] = tester
        self.wire.attach(end, tester.deliver)


def _fault_bad_frame(card: Card, status: str = "bad_crc", count: int = 1, port: int = 0) -> None:
    card.spoil(port, RxStatus[status.upper()], count)


def _fault_gone(card: Card, on: bool = True) -> None:
    card.set_present(not on)


def _fault_module(card: Card, present: bool, port: int = 0) -> None:
    card.set_module(port, present)


def _fault_interrupts(card: Card, delay_s: float = 0.0, repeat: int = 0, lose: bool = False) -> None:
    fault = InterruptFault(delay_s, repeat, lose)
    card.set_interrupt_fault(None if fault == InterruptFault() else fault)


def _fault_stall(card: Card, on: bool = True, port: int = 0) -> None:
    card.stall(port, on)


def _fault_lap(card: Card, port: int = 0, chunks: int = RX_RING_CHUNKS + 64) -> None:
    frame = seal(card.mac(port) + bytes.fromhex("0200000000ff88b5"))
    for _ in range(chunks):
        card.plane.ports[port].receive(frame)


_FAULTS: dict[str, Callable[..., None]] = {
    "bad_frame": _fault_bad_frame,
    "gone": _fault_gone,
    "module": _fault_module,
    "interrupts": _fault_interrupts,
    "stall": _fault_stall,
    "lap": _fault_lap,
    "reset": Card.reset,
}

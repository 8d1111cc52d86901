"""The daemon itself: a fabric, a vfio-user server per card, the control service, in one loop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.cardd.loop import Loop
from lab.cardd.service import Method, Service
from lab.cardd.spec import Spec
from lab.cardd.trace import Trace
from lab.core.plane import CorePlane
from lab.errors import LabError
from lab.vfio_user.pump import PumpSet
from lab.vfio_user.server import Server
from lab.vfio_user.session import Options
from lab.wire.fabric import Fabric
from lab.wire.segments import Cable

log = logging.getLogger(__name__)


class Daemon:
    """Everything a spec asks for. Nothing is left behind by :meth:`close`, nor by a failing start."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.started = time.monotonic()
        for directory in (spec.capture_dir, spec.tester_dir):
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
        self.fabric = Fabric(
            capture_dir=spec.capture_dir, tester_dir=spec.tester_dir, seed=spec.seed, core=spec.core
        )
        self.pumps = PumpSet(spec.spin_us * 1000) if self.fabric.core == "c" else None
        self.loop = Loop(self.pumps.wait if self.pumps else None)
        self.servers: dict[str, Server] = {}
        self.traces: dict[str, Trace] = {}
        self.tracing = False
        self._service: Service | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until :meth:`stop`, or SIGTERM or SIGINT (main thread only).

        ``ready`` is called once, when a signal would already end the daemon cleanly.
        """
        wake, waker = socket.socketpair()
        waker.setblocking(False)
        wake.setblocking(False)
        # A signal alone does not end the wait for events; a byte from its handler does.
        old_waker = signal.set_wakeup_fd(waker.fileno())
        old = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        self.loop.watch(wake.fileno(), lambda _events: _drain(wake))
        try:
            ready()
            self.loop.run()
        finally:
            self.loop.forget(wake.fileno())
            for number, handler in old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_waker)
            wake.close()
            waker.close()

    def stop(self) -> None:
        self.loop.stop()

    def close(self) -> None:
        """Flush the captures, disconnect everybody, remove the sockets."""
        if self._service is not None:
            self._service.close()
        for server in self.servers.values():
            server.close()
        self.loop.forget(self.fabric.fileno())
        self.fabric.close()
        self.loop.close()

    def methods(self) -> Mapping[str, Method]:
        """The control API by name; see :class:`lab.cardd.control.Control`."""
        return {
            "status": self._status,
            "ports": self._ports,
            "wire": self._wire,
            "link": self._link,
            "rules": self._rules,
            "inject": self._inject,
            "counters": self.fabric.counters,
            "flush": self.fabric.flush,
            "fault": self._fault,
            "registers": self._registers,
            "trace": self._trace,
            "trace_dump": self._trace_dump,
        }

    def _start(self) -> None:
        for card in self.spec.cards:
            device = self.fabric.add_card(card.name, card.model, card.serial, card.mac)
            options = Options(name=card.name, allow_unsealed=self.spec.allow_unsealed)
            card.socket.parent.mkdir(parents=True, exist_ok=True)
            plane = device.plane
            core_card = plane.pointer if isinstance(plane, CorePlane) else None
            self.servers[card.name] = Server(
                device,
                card.socket,
                self.loop,
                options,
                pumps=self.pumps if core_card is not None else None,
                core_card=core_card,
            )
        for nic in self.spec.nics:
            try:
                self.fabric.add_nic(nic.end, nic.interface)
            except OSError as problem:
                raise LabError(
                    f"interface {nic.interface}, the outside of {nic.end}: {problem.strerror or problem}",
                    hint="check that it exists (ip link), and run as root",
                ) from problem
        self._trace(True)
        self.fabric.apply([segment.model_dump() for segment in self.spec.wiring])
        self.loop.watch(self.fabric.fileno(), lambda _events: self.fabric.poll())
        self._service = Service(self.spec.control, self.methods(), self.loop)

    def _signalled(self, number: int, _frame: object) -> None:
        log.info("%s: ending", signal.Signals(number).name)
        self.stop()

    def _status(self) -> dict[str, Any]:
        cards = []
        for card in self.spec.cards:
            server, device = self.servers[card.name], self.fabric.cards[card.name]
            cards.append(
                {
                    "name": card.name,
                    "model": device.model.name,
                    "serial": card.serial,
                    "mac": card.mac,
                    "socket": str(card.socket),
                    "connected": server.connected,
                    "clients": server.clients_served,
                    "present": device.present,
                    "ports": device.model.ports,
                }
            )
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self.started, 3),
            "core": self.fabric.core,
            "seed": self.spec.seed,
            "trace": self.tracing,
            "cards": cards,
            "wiring": [segment.model_dump(mode="json") for segment in self.fabric.wire.wiring.segments],
        }

    def _ports(self) -> list[dict[str, Any]]:
        plugged: dict[str, str] = {}
        for segment in self.fabric.wire.wiring.segments:
            if isinstance(segment, Cable):
                first, second = segment.ends
                plugged |= {first: second, second: first}
            else:
                plugged |= {port.end: segment.name for port in segment.ports}
        found = []
        for name, end in self.fabric.wire.ends.items():
            owner, _, port = name.partition(":")
            card = self.fabric.cards.get(owner)
            found.append(
                {
                    "end": name,
                    "link": end.carrier,
                    "up": end.up,
                    "speed": self.fabric.nics[name].speed if name in self.fabric.nics else end.speed,
                    "mac": card.mac(int(port)).hex(":") if card else None,
                    "interface": self.fabric.nics[name].name if name in self.fabric.nics else None,
                    "peer": plugged.get(name),
                }
            )
        return found

    def _wire(self, segments: list[dict[str, Any]]) -> None:
        self.fabric.apply(segments)

    def _link(self, end: str, up: bool) -> None:
        self.fabric.link(end, bool(up))

    def _rules(self, end: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.fabric.rules(end, rules)

    def _inject(self, end: str, frame: str, sealed: bool = False) -> None:
        self.fabric.inject(end, bytes.fromhex(frame), sealed)

    def _fault(self, card: str, kind: str, args: dict[str, Any]) -> None:
        self.fabric.fault(card, kind, **args)

    def _registers(self, card: str) -> dict[str, int]:
        return self.fabric.registers(card)

    def _trace(self, on: bool) -> None:
        if on == self.tracing:
            return
        if on:
            self.traces = {name: Trace(name) for name in self.servers}
        self.tracing = on
        for name, server in self.servers.items():
            server.trace(self.traces[name] if on else None)

    def _trace_dump(self, directory: str | None = None) -> list[str]:
        target = Path(directory) if directory else self.spec.trace_dir
        if target is None:
            raise ValueError("the spec gives no trace_dir, and no directory was asked for")
        for server in self.servers.values():
            server.catch_up()
        return [str(trace.dump(target)) for trace in self.traces.values()]


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        sock.recv(64)

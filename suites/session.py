"""The lab under the suites: attached once, watched by the health check, replaced when a test soils it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab import api
from lab.cardd.control import Control
from lab.deadline import Deadline, scaled
from lab.guest.client import Agent, Process
from lab.real.facts import addresses
from lab.wire import segments as wire_segments
from suites import timeline
from suites.guest import (
    capabilities,
    dummy,
    echo,
    exasock,
    exchange,
    health,
    iproute,
    messages,
    namespaces,
    past,
    pump,
    records,
    sockets,
    streams,
)
from suites.topology import Topology

#: Modules of the agent itself, and of the programs that carry traffic, each after what it imports.
AGENT_MODULES = (iproute, namespaces, sockets, health, exasock, capabilities)
PROGRAM_MODULES = (exasock, streams, past, records, sockets, echo, exchange, messages, dummy, pump)


@dataclass(frozen=True)
class SocketKind:
    """How programs get their sockets: ``prefix`` is the command that starts a program so."""

    name: str
    prefix: tuple[str, ...] = ()


#: The kernel's own: the oracle of every other kind.
KERNEL = SocketKind("kernel")
#: Accelerated: the same program, unmodified, behind the wrapper.
EXASOCK = SocketKind("exasock", ("exasock",))
#: Kinds of sockets that tests run through.
SOCKET_KINDS = (KERNEL, EXASOCK)


#: Real seconds to look through the guest's memory for what nobody points to, twice at least.
LEAKS_SECONDS = 300.0


class Programs:
    """The programs under test: started here and nowhere else, so that one parameter says how."""

    def __init__(self, agent: Agent, kind: SocketKind) -> None:
        self.agent, self.kind = agent, kind
        self._workers: dict[str, Agent] = {}

    def worker(self, name: str) -> Agent:
        """A Python process in the guest with the traffic modules, started on first use."""
        worker = self._workers.get(name)
        if worker is None or not worker.alive:
            worker = self.agent.worker(self.kind.prefix, timeout=scaled(6))
            worker.load(*PROGRAM_MODULES)
            self._workers[name] = worker
        return worker

    @property
    def servers(self) -> Agent:
        return self.worker("servers")

    @property
    def clients(self) -> Agent:
        return self.worker("clients")

    def start(self, argv: Sequence[str], netns: str | None = None) -> Process:
        """Any other program, in a namespace."""
        return self.agent.spawn([*self.kind.prefix, *argv], netns=netns)

    def pids(self) -> set[str]:
        return {str(worker.hello.pid) for worker in self._workers.values() if worker.alive}

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


class Session:
    """The attached lab. Its parts change when the lab is replaced: ask for them here each time."""

    def __init__(self, lab: api.Lab) -> None:
        self.lab = lab
        self.agent: Agent
        self.control: Control
        #: The net device of each port: {"card0:0": "eth0"}.
        self.devices: dict[str, str] = {}
        self.baseline: dict[str, Any] = {}
        self.replaced: list[str] = []
        self._can: dict[str, Any] | None = None
        self._programs: dict[str, Programs] = {}
        self._prepare()

    def _prepare(self) -> None:
        """Load the guest's modules, forget what an earlier client left, find the ports."""
        self.agent, self.control = self.lab.agent, self.lab.control
        self._programs = {}
        self.agent.load(*AGENT_MODULES)
        self.agent.call(exasock.ready, seconds=scaled(3))
        self.agent.call(namespaces.clear)
        shared = bool(self.lab.facts.get("host"))
        if not shared:
            self.agent.call(namespaces.quiet)
            self.agent.call(namespaces.single_answers)
        self.agent.call(health.begin)
        self.devices = self.await_devices()
        if shared:
            self.agent.call(namespaces.quiet_ports, devices=list(self.devices.values()))
        for device in self.devices.values():
            self.agent.call(namespaces.change, name=None, device=device, up=True)
        if self.lab.facts.get("reporting"):
            self.agent.call(health.leaked, timeout=LEAKS_SECONDS)  # what the boot leaves is no test's
        self.baseline = self.agent.call(health.snapshot, timeout=scaled(6))

    def _ends(self) -> dict[str, str]:
        """The MAC address of each port on the lab's wire: as its card has it; of a real one, as the driver
        said when it found it.
        """
        emulated = {one["end"]: one["mac"].lower() for one in self.control.ports() if one.get("mac")}
        return emulated | addresses(self.lab.facts)

    def can(self) -> dict[str, Any]:
        """What the card of the first port can do (``suites.guest.capabilities``); nothing without a port."""
        if self._can is None:
            first = next(iter(self.devices.values()), None)
            self._can = dict(self.agent.call(capabilities.of, device=first)) if first is not None else {}
        return self._can

    def missing(self, topology: Topology) -> list[str]:
        """The ports that a topology speaks of and this lab has not, on its wire."""
        wired = [dict(segment) for segment in topology.wiring or ()]
        plugged = {end for end in wire_segments.parse(wired).ends() if not wire_segments.tester_name(end)}
        return sorted((plugged | set(topology.ports())) - self.devices.keys())

    def has(self) -> str:
        """The ports on this lab's wire, for people."""
        return ", ".join(self.devices) or "none"

    def find_devices(self) -> dict[str, str]:
        """Ports by MAC address: the card knows which is which, whatever the guest named them."""
        found = {port["mac"].lower(): port["name"] for port in self.agent.call(health.ports)}
        return {end: found[mac] for end, mac in sorted(self._ends().items()) if mac in found}

    def await_devices(self) -> dict[str, str]:
        """The same, once all of them are there: those of a namespace that is going come home when the kernel
        ends it, which is after its name is gone."""
        ends = self._ends().keys()
        limit = Deadline(f"{', '.join(sorted(ends))} are in the initial namespace", scaled(3))
        limit.wait_until(lambda: self.find_devices().keys() == ends, every=0.05)
        return self.find_devices()

    def programs(self, kind: SocketKind) -> Programs:
        """Programs with this kind of sockets; their processes live on from test to test."""
        if kind.name not in self._programs:
            self._programs[kind.name] = Programs(self.agent, kind)
        return self._programs[kind.name]

    def end_programs(self, *kinds: SocketKind) -> None:
        """End the processes of these kinds, or of all: they hold a module, or do not come to rest."""
        for name in [kind.name for kind in kinds] or list(self._programs):
            programs = self._programs.pop(name, None)
            if programs is not None:
                programs.close()

    def program_pids(self) -> set[str]:
        return {pid for programs in self._programs.values() for pid in programs.pids()}

    def replace(self, reason: str) -> None:
        """A fresh guest: the machine boots again from its read-only image."""
        self.replaced.append(reason)
        with timeline.step("replacing the guest"):
            self.lab.restart()
            self._prepare()

    def close(self) -> None:
        for programs in self._programs.values():
            programs.close()


def facts(lab: api.Lab) -> dict[str, str]:
    """What a report must say to mean something later: accelerator, kernel, image digests."""
    return {
        "accelerator": f"{lab.accelerator.name}: {lab.accelerator.reason}",
        "kernel": lab.agent.hello.kernel,
        **{f"image.{name}": digest for name, digest in image_digests().items()},
    }


def image_digests() -> dict[str, str]:
    """The digest of each image there is."""
    import json

    from lab.paths import images

    found = {}
    for path in sorted(images().glob("*/manifest.json")):
        found[path.parent.name] = str(json.loads(path.read_text()).get("digest", "unknown"))
    return found

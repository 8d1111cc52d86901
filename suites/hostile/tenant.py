"""A tenant: root of a user namespace of its own, with a device that the host's owner gave it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from lab.deadline import scaled
from lab.guest.client import Agent
from suites.driver import guest_exanic
from suites.exasock import guest_boundary, guest_fuzz
from suites.guest import exasock, iproute, namespaces, sockets, streams
from suites.hostile import guest_card, guest_devices, guest_sockets, guest_tenancy
from suites.place import Placed
from suites.session import Session
from suites.topology import Device, Namespace, Topology

#: What its process needs to know of, each after what it imports.
MODULES = (
    iproute, sockets, exasock, streams, guest_boundary, guest_fuzz, guest_exanic, guest_devices,
    guest_sockets, guest_card,
)  # fmt: skip
#: Everything; what container engines leave; nothing.
CAPABILITIES = {
    "root": ",".join(map(str, range(41))),
    "container": "0,1,3,4,5,6,7,8,10,13,18,27,29,31",
    "nobody": "",
}
#: What a tenant is started by, here and in the guest.
ENTERING, ENTER = Path(__file__).with_name("guest_enter.py"), "/run/hostile/enter.py"


@dataclass
class Tenant:
    """A process that is root in its own user namespace, its network namespace ``t``, and what it has."""

    session: Session
    capabilities: str
    device: Device
    tags: tuple[int, ...]
    nodes: tuple[str, ...] = ()
    worker: Agent = field(init=False)
    group: str = field(init=False)
    mac: str = ""
    undo: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> str:
        return self.device.ip

    def enter(self, standing: Placed) -> None:
        agent = self.session.agent
        agent.load(guest_tenancy)
        agent.exec(["mkdir", "-p", "/run/hostile"])
        agent.write_file(ENTER, ENTERING.read_text(encoding="utf-8"))
        self.group = agent.call(guest_tenancy.group, name="tenant")
        self.undo.callback(
            agent.call, guest_tenancy.evict, path=self.group, seconds=scaled(3), timeout=scaled(4)
        )
        prefix = ["/usr/bin/python3", "-S", ENTER, self.group]
        prefix += [CAPABILITIES[self.capabilities], ",".join(self.nodes)]
        self.worker = agent.worker(prefix, timeout=scaled(6))
        self.undo.callback(self.worker.close)
        self.worker.load(*MODULES)
        topology = Topology("tenant", (Namespace("t", (self.device,)),))
        spec = topology.specs(self.session.devices)[0]
        # Registered first: what is done half is undone as well; the process has ended by then.
        with ExitStack() as last:
            last.callback(self._forget)
            agent.call(guest_tenancy.adopt, name="t", pid=self.worker.hello.pid, spec=spec)
            last.push(self.undo.pop_all())
            self.undo = last.pop_all()
        self.worker.call(guest_sockets.attend, address=self.address, port=7000)
        self.known()

    def _forget(self) -> None:
        """Its namespace is gone, or something pins it (N7)."""
        given = {"names": ["t"], "seconds": scaled(6), "missing_ok": True}
        self.session.agent.call(namespaces.destroy, **given, timeout=scaled(8))

    def known(self) -> None:
        """Its MAC address is the one that it has now."""
        self.mac = self.session.agent.call(namespaces.macs, names=["t"])["t"][self.device.name]

    def head(self, source: str) -> bytes:
        """The start of a frame for it."""
        tags = b"".join(b"\x81\x00" + vid.to_bytes(2, "big") for vid in self.tags)
        return bytes.fromhex((self.mac + source).replace(":", "")) + tags + b"\x08\x00"

    def knows(self, address: str) -> None:
        """A neighbour that is nobody."""
        line = f"neigh replace {address} lladdr 02:00:00:00:ee:99 dev {self.device.name} nud permanent"
        self.session.agent.call(iproute.run, netns="t", lines=[line])

    def leave(self) -> None:
        self.undo.close()

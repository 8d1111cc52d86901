"""A topology that stands: built in the guest and on the wire, and taken away again whatever happened."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from lab.deadline import scaled
from suites import timeline
from suites.guest import namespaces
from suites.oracle import Oracle
from suites.session import Session
from suites.topology import INITIAL, Device, Namespace, Topology, device_spec


class Placed:
    """The namespaces of ``topology``, up. ``seconds``: what creating them took, for each."""

    def __init__(self, session: Session, topology: Topology) -> None:
        self.session, self.topology = session, topology
        self.seconds: dict[str, float] = {}
        self._undo = ExitStack()
        try:
            with timeline.step(f"placing {topology.name}: {len(topology.namespaces)} namespaces"):
                self._build()
        except BaseException:
            self._undo.close()
            raise

    def __getitem__(self, name: str) -> Namespace:
        return self.topology[name]

    def _call(self, function: Any, **arguments: Any) -> Any:
        return self.session.agent.call(function, timeout=scaled(30), **arguments)

    def _build(self) -> None:
        session, topology = self.session, self.topology
        if topology.wiring is not None:
            before = session.control.status()["wiring"]
            self._undo.callback(session.control.wire, before)
            session.control.wire(topology.wiring)
        specs = topology.specs(session.devices)
        if specs:
            # Registered first: a creation that fails half way leaves those before it.
            self._undo.callback(self._destroy, [spec["name"] for spec in specs])
        for told in self._call(namespaces.create, specs=specs) if specs else ():
            self.seconds[told["name"]] = told["seconds"]
        for namespace in topology.namespaces:
            if namespace.name == INITIAL:
                for device in namespace.devices:
                    self._initial(device)

    def _initial(self, device: Device) -> None:
        """A device of the initial namespace: the port is there already, the rest is made."""
        spec = device_spec(device, self.session.devices)
        if device.kind == "port":
            self._call(namespaces.change, name=None, device=spec["on"], up=True)
            for address in device.addresses:
                given = {"name": None, "device": spec["on"], "interface": address}
                self._call(namespaces.address, **given)
                self._undo.callback(self._call, namespaces.address, **given, remove=True)
        else:
            spec["on"] = spec["on"].removeprefix("./")
            self._call(namespaces.add_device, name=None, device=spec)
            self._undo.callback(self._call, namespaces.delete_device, name=None, device=device.name)

    def _destroy(self, names: list[str]) -> None:
        self._call(namespaces.destroy, names=names, seconds=scaled(6), missing_ok=True)
        for device in self.session.devices.values():
            self._call(namespaces.change, name=None, device=device, up=True, mtu=1500)

    def destroy(self) -> None:
        """Take everything away, the last first; quick when that was done."""
        with timeline.step(f"removing {self.topology.name}"):
            self._undo.close()

    def device(self, namespace: Namespace, device: Device) -> str:
        """The name a device has in the guest."""
        if namespace.name == INITIAL and device.kind == "port":
            return self.session.devices[device.on]
        return device.name

    def links(self, namespace: Namespace) -> dict[str, dict[str, Any]]:
        """What the guest says of a namespace's interfaces, by name."""
        return {link["name"]: link for link in self._call(namespaces.links, name=namespace.netns)}

    def mac(self, namespace: Namespace, name: str | None = None) -> str:
        """The MAC address of a device; the only or first one without ``name``."""
        device = namespace.device(name)
        address: str = self.links(namespace)[self.device(namespace, device)]["address"]
        return address

    def oracle(self) -> Oracle:
        """Who may send what where, by the addresses the devices have now."""
        made = [one.name for one in self.topology.namespaces if one.name != INITIAL]
        known = self._call(namespaces.macs, names=made)
        macs = {}
        for namespace in self.topology.namespaces:
            for device in namespace.devices:
                if namespace.name == INITIAL:
                    macs[namespace.name, device.name] = self.mac(namespace, device.name)
                else:
                    macs[namespace.name, device.name] = known[namespace.name][device.name]
        return Oracle.of(self.topology, macs)

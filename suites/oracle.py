"""A small oracle of the wire: whose frame is this, and may it be where it was seen?

Rule N3 read backwards: port, VLAN tags and source MAC name one device of the topology, hence one namespace. A
frame that no device of the topology can have sent there, or that carries another namespace's flow, is a leak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface

from suites.capture import ARP, IGMP, IPV4, Captured, Frame
from suites.topology import Namespace, Topology

Place = tuple[str, tuple[int, ...], str]


@dataclass
class Oracle:
    """``owners``: namespace by (port, tags, source MAC). ``flows``: the namespaces in a flow."""

    owners: dict[Place, str] = field(default_factory=dict)
    addresses: dict[str, set[str]] = field(default_factory=dict)
    flows: dict[int, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, topology: Topology, macs: Mapping[tuple[str, str], str]) -> Oracle:
        """``macs``: the address of each (namespace, device) as the guest says."""
        oracle = cls()
        for namespace in topology.namespaces:
            oracle.addresses[namespace.name] = {
                str(IPv4Interface(text).ip) for device in namespace.devices for text in device.addresses
            }
            for device in namespace.devices:
                port, tags = topology.place(namespace, device)
                key = (port, tags, macs[namespace.name, device.name])
                if key in oracle.owners and oracle.owners[key] != namespace.name:
                    raise ValueError(f"{namespace.name} and {oracle.owners[key]} cannot be told apart: {key}")
                oracle.owners[key] = namespace.name
        return oracle

    def flow(self, number: int, *members: Namespace) -> None:
        """Say which namespaces a flow is between."""
        self.flows[number] = {member.name for member in members}

    def owner(self, end: str, frame: Frame) -> str | None:
        return self.owners.get((end, frame.tags, frame.src))

    def objection(self, end: str, frame: Frame) -> str | None:
        """Why the card must not have sent this frame through this port; None: it may."""
        owner = self.owner(end, frame)
        if owner is None:
            return "no device of the topology sends this here"
        if frame.ethertype not in (ARP, IPV4):
            return f"{owner} has no business with ethertype {frame.ethertype:#06x}"
        allowed = self.addresses[owner] | ({"0.0.0.0"} if frame.protocol == IGMP else set())
        if frame.ip_src is not None and frame.ip_src not in allowed:
            return f"{owner} does not have the address {frame.ip_src}"
        if frame.record is not None and owner not in self.flows.get(frame.record.flow, {owner}):
            return f"{owner} has no part in flow {frame.record.flow}"
        return None

    def leaks(self, end: str, frames: Iterable[Captured]) -> list[str]:
        """Every objection to what the card sent through a port, with its frame."""
        found = []
        for one in frames:
            if one.sent and (objection := self.objection(end, one.frame)) is not None:
                found.append(f"{end}: {one.frame}: {objection}")
        return found

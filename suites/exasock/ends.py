"""Namespaces with one device each on the ports of the card, and their acquaintance."""

from __future__ import annotations

from suites.exasock.compare import Compared
from suites.guest import exasock, iproute
from suites.place import Placed
from suites.topology import Device, Namespace

LINKS = ("port", "vlan", "macvlan")
VID = 5


def subject(
    name: str, link: str, address: str = "10.1.0.1/24", port: str = "card0:0", mtu: int | None = None
) -> Namespace:
    """A namespace with one device of this kind on a port."""
    if link == "vlan":
        device = Device("vlan", "lan0", port, vid=VID, addresses=(address,))
    elif link == "macvlan":
        device = Device("macvlan", "lan0", port, mac="02:00:00:00:aa:01", addresses=(address,))
    else:
        device = Device("port", "lan0", port, mtu=mtu, addresses=(address,))
    return Namespace(name, (device,))


def peer(link: str, mtu: int | None = None) -> Namespace:
    """The other side, on the card's other port, in the same VLAN."""
    return subject("peer", "vlan" if link == "vlan" else "port", "10.1.0.2/24", "card0:1", mtu)


def acquaint(compared: Compared, standing: Placed, one: Namespace, other: Namespace) -> None:
    """Both know each other's MAC address, and have just had it confirmed."""
    for namespace in (one, other):
        compared.session.agent.call(exasock.unlimited_errors, netns=namespace.netns)
    for here, there in ((one, other), (other, one)):
        mac, device = standing.mac(there), standing.device(here, here.device())
        line = f"neigh replace {there.ip} lladdr {mac} dev {device} nud reachable"
        compared.session.agent.call(iproute.run, netns=here.netns, lines=[line])

"""The example of docs/how-to/a-test.md: two tenants with one address, each in a VLAN of its own.

card0:0 --- red   lan0 (vlan 10)   10.1.0.1/24
        --- blue  lan0 (vlan 20)   10.1.0.1/24
switch sw0: card0:0 === tester:t0 (scapy)
"""

from collections.abc import Callable

from scapy.layers.inet import IP, UDP

from suites.guest import records
from suites.outside import Outside
from suites.place import Placed
from suites.topology import Device, Namespace, Topology
from suites.traffic import PORT, Traffic


def tenant(name: str, vid: int) -> Namespace:
    """A namespace with a VLAN device on port 0, and the address that every tenant has."""
    return Namespace(name, (Device("vlan", "lan0", "card0:0", vid=vid, addresses=("10.1.0.1/24",)),))


def test_one_address_two_tenants(
    place: Callable[[Topology], Placed], traffic: Traffic, wire: Outside
) -> None:
    """N3: a datagram for the address that both tenants have is answered by the one whose VLAN it came in."""
    standing = place(Topology("two tenants", (tenant("red", 10), tenant("blue", 20))))
    traffic.serve("udp", standing["red"], standing["blue"])
    for number, name in enumerate(("red", "blue"), start=1):
        owner = standing[name]
        station = wire.station(number, "10.1.0.9", owner.device().vid)
        mac = wire.resolve(station, "10.1.0.1")
        datagram = IP(src="10.1.0.9", dst="10.1.0.1") / UDP(sport=4000, dport=PORT)
        ask = station.ether(mac) / datagram / records.encode(number, 0, 64)
        reply = wire.ask(f"the echo of {name}", ask, lambda frame: frame.dport == 4000)
        assert reply.tags == station.tags
        assert reply.record is not None and reply.record.tag == traffic.tag(owner)

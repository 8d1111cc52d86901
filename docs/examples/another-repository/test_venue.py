"""A test in a repository of its own, on exalab's fixtures.

card0:0 --- one    lan0 (port)   10.1.0.1/24
card0:1 --- other  lan0 (port)   10.1.0.2/24
"""

from collections.abc import Callable

from suites.place import Placed
from suites.topology import Device, Namespace, Topology
from suites.traffic import Traffic


def end(name: str, number: int) -> Namespace:
    """A namespace with a port of the card."""
    return Namespace(
        name, (Device("port", "lan0", f"card0:{number}", addresses=(f"10.1.0.{number + 1}/24",)),)
    )


def test_two_namespaces_speak(place: Callable[[Topology], Placed], traffic: Traffic) -> None:
    """UDP passes exactly once between two namespaces with a port each."""
    standing = place(Topology("two ports", (end("one", 0), end("other", 1))))
    traffic.serve("udp", standing["one"], standing["other"])
    traffic.exactly_once("udp", [(standing["one"], standing["other"])], count=20)

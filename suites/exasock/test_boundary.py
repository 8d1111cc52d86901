"""What a process writes says that it looks and what it has taken, and nothing else (N6, B1, B2).

card0:0 -+- a   vlan 5  10.1.0.1      the attacker: nobody, without any capability
         +- v   vlan 6  10.1.0.1      a victim, and a listener for what nobody sent
         +- (the initial namespace)   another one
card0:1 -+- b   vlan 5  10.1.0.2      sends the attacker datagrams with slot headers in them
         +- w   vlan 6  10.1.0.2      reaches the victim
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.deadline import scaled
from suites.exasock import guest_boundary
from suites.exasock.compare import Compared
from suites.exasock.ends import acquaint
from suites.guest import exasock, iproute, streams
from suites.outside import Outside
from suites.place import Placed
from suites.session import KERNEL, Session
from suites.topology import Device, Namespace, Topology

#: Of the frames that are claimed: too short, plausible, longer than what was held, and one whose buffer's
#: size does not fit into 32 bits.
LENGTHS = (60, 2000, 0, 0xFFFFFFE0)
FORGER = guest_boundary.FORGER.hex(":")


def topology() -> Topology:
    made = []
    for name, port, vid, host in (("a", 0, 5, 1), ("b", 1, 5, 2), ("v", 0, 6, 1), ("w", 1, 6, 2)):
        device = Device("vlan", "lan0", f"card0:{port}", vid=vid, addresses=(f"10.1.0.{host}/24",))
        made.append(Namespace(name, (device,)))
    return Topology("an attacker and a victim on one port", tuple(made))


@pytest.mark.parametrize("length", LENGTHS, ids=lambda length: f"{length:#x}")
def test_forged_claims_deliver_nothing(
    place: Callable[[Topology], Placed],
    compared: Compared,
    session: Session,
    wire: Outside,
    length: int,
    record_property: Callable[[str, Any], None],
) -> None:
    """N6, B1, B2: a process claims slots inside datagrams, slots that were passed over, and numbers of
    another lap, in every state, and has the kernel take them by a flush, a datagram to the stack, a fragment,
    the timer, detaching and closing. What was sent arrives, whole and once; what lies in a payload and looks
    like a slot of another frame arrives nowhere: not in another namespace, not on the port, not on the wire.
    """
    standing = place(topology())
    acquaint(compared, standing, standing["a"], standing["b"])
    worker = compared.programs(KERNEL).worker("attacker")
    worker.load(exasock, streams, guest_boundary)
    v, devices = standing["v"], session.devices
    near, far = devices["card0:0"], devices["card0:1"]
    address = session.agent.call(iproute.show, netns=None, line=f"link show dev {near}")[0]["address"]
    told = worker.call(
        guest_boundary.attack,
        length=length,
        victim={"netns": v.netns, "mac": standing.mac(v), "vid": 6, "beside": standing["w"].netns},
        host={"mac": address, "beside": far},
        seconds=scaled(2),
        timeout=scaled(90),
    )
    assert "failed" not in told, told
    assert (told["uid"], told["capabilities"]) == (guest_boundary.NOBODY, 0)
    assert told["heard"] == {"victim": [], "host": [], "socket": []}
    assert (told["victim listens"], told["host listens"]) == (1, 1), (
        "a listener that hears nothing proves nothing"
    )
    assert told["wrong"] == []
    reached = told["reached"]
    for what in ("held", "taken", "forged inner", "forged padding", "forged stale", "forged future"):
        assert reached.get(what, 0) > 0, reached
    for end in ("card0:0", "card0:1"):
        ours = [frame for frame in wire.sent(end) if frame.src == FORGER]
        assert len(ours) == (2 if end == "card0:1" else 0), [str(frame) for frame in ours]
    record_property("forged", f"{length:#x}: {reached}")


def test_ring_cannot_be_written(place: Callable[[Topology], Placed], compared: Compared) -> None:
    """N6, B2: no way leads a process to write the pages that the kernel writes for it: what is delivered from
    there is what was put there."""
    place(topology())
    worker = compared.programs(KERNEL).worker("attacker")
    worker.load(exasock, streams, guest_boundary)
    told = worker.call(guest_boundary.write_ring, netns="a", seconds=scaled(5), timeout=scaled(6))
    assert "failed" not in told, told
    assert not told["changed"]
    assert [way for way, result in told["results"].items() if result == "ok"] == []

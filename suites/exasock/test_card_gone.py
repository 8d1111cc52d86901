"""The card vanishes under sockets, and comes back (N8).

card0:0 --- a      lan0 (port)   10.1.0.1/24     sends numbers, as fast as it can
card0:1 --- peer   lan0 (port)   10.1.0.2/24     takes them, some of them always held for it
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.deadline import Deadline, scaled
from suites.exasock.compare import Compared
from suites.exasock.ends import peer, subject
from suites.exasock.test_under_traffic import KINDS, NO_FAULT, SOME, Flowing
from suites.guest import exasock, health, namespaces
from suites.place import Placed
from suites.session import Session, SocketKind
from suites.topology import Topology

TWO = Topology("two ports", (subject("a", "port"), peer("port")))
DRIVER = "/sys/bus/pci/drivers/exanic"


@pytest.mark.card("emulated")
@pytest.mark.soils("the card was pulled, and came back with its devices under new names")
@pytest.mark.expects(r"exanic|exasock|eth\d|lan\d|pci|card0", "bad_accesses", "dma_faults")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_card_is_pulled_and_plugged_in(
    compared: Compared, session: Session, kind: SocketKind, defer: Callable[..., None]
) -> None:
    """N8, N9, N10: with datagrams held for one socket and another one sending, the card is gone: nothing
    hangs, nothing comes twice, and when its devices are gone sends are refused as the kernel's are. Then the
    modules go, and come back with the card: everything is fast again."""
    agent = session.agent
    flowing = Flowing(compared, kind, Placed(session, TWO))
    flowing.acquaint()
    compared.soiled = True
    flowing.start(behind=8)
    flowing.is_fast()
    defer(session.control.fault, "card0", "gone", on=False)
    session.control.fault("card0", "gone", on=True)
    before = flowing.progress()
    going_on = Deadline("sends return although the card is gone", scaled(3))
    going_on.wait_until(lambda: sum_of(flowing.progress()) > sum_of(before) + SOME)
    assert agent.exec(["ip", "-br", "link"], netns="a").code == 0
    agent.exec(["tee", f"{DRIVER}/unbind"], input=session.baseline["ports"][0]["pci"])
    refused = Deadline("sends are refused when the devices are gone", scaled(3))
    refused.wait_until(lambda: flowing.progress()["refused"] > before["refused"] + SOME)
    told = flowing.end()
    assert (told["late"], told["twice"]) == ([], [])
    assert [number for number in told["missing"] if number <= before["newest"]] == []
    # And while the card only does not answer, when the socket's buffer is full of what does not leave.
    assert "ENETUNREACH" in told["refused"] and set(told["refused"]) <= {"ENETUNREACH", "EAGAIN"}
    assert agent.call(health.taints) == session.baseline["taints"]

    session.end_programs()
    unused = Deadline("the module has no user", scaled(1))
    unused.wait_until(lambda: agent.call(exasock.references) == 0, every=0.05)
    agent.exec(["rmmod", "exasock", "exanic"])
    agent.call(namespaces.destroy, names=["a", "peer"], timeout=scaled(6))
    session.control.fault("card0", "gone", on=False)
    agent.exec(["modprobe", "exasock"], timeout=scaled(6))
    session.devices = session.await_devices()
    agent.call(exasock.stamping, on=True)
    for name, value in (("hold_us", 100_000), ("fresh_us", 10_000_000)):
        agent.call(exasock.parameter, name=name, value=value)
    again = Flowing(compared, kind, Placed(session, TWO))
    again.acquaint()
    again.start()
    again.is_fast()
    told = again.end()
    assert {what: told[what] for what in told if what != "sent"} == NO_FAULT
    compared.soiled = False


def sum_of(progress: dict[str, int]) -> int:
    """Calls to send that returned."""
    return progress["sent"] + progress["refused"]

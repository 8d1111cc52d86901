"""Every allocation of a call fails once, on a kernel that can have it so (KERNEL=kasan).

    card0:0 --- a      lan0 (VLAN 5)  10.1.0.1/24     the call under test
    card0:1 --- peer   lan0 (VLAN 5)  10.1.0.2/24     hears what it sent, and answers
                       lan1 (VLAN 6)  10.2.0.2/24     the same for a namespace that is made for one attempt

What the call says is success or an errno that the kernel's own sockets have, too; what it sent arrives once,
and a word goes each way afterwards. That nothing leaks and nothing is used after it was freed is what the
kernel looks for, and the health check finds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lab.deadline import Deadline, scaled
from suites.exasock import guest_no_memory, guest_no_memory_life
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.guest import health, iproute, namespaces, rtnetlink
from suites.place import Placed
from suites.session import KERNEL, Session, SocketKind
from suites.topology import Device, Topology

#: What a call may say when there is no memory. "no end": a FIN for which the kernel has no memory it does not
#: send (tcp_send_fin of net/ipv4/tcp_output.c), whoever's the connection was.
ALLOWED = {"ok", "ENOMEM", "ENOBUFS", "EAGAIN", "no end"}
BESIDE = Device("vlan", "lan1", "card0:1", vid=guest_no_memory_life.FRESH_VID, addresses=("10.2.0.2/24",))
#: Steps that ask for no memory where they overtake the kernel.
FREE = {("send_udp", SPINNING.name), ("receive_udp", SPINNING.name), ("receive_udp", KERNEL.name)}
#: What is done, by the guest's module that does it.
STEPS = {step: module for module in (guest_no_memory, guest_no_memory_life) for step in module.STEPS}
#: Allocations that fail in one call to the guest: each is given a while of its own.
AT_ONCE = 8


@pytest.fixture
def failing(session: Session, healthy: None) -> None:
    """A guest whose kernel can fail an allocation."""
    session.agent.load(guest_no_memory)
    if not session.agent.call(guest_no_memory.able):
        kernel = session.agent.hello.kernel
        pytest.skip(f"{kernel} cannot fail allocations (CONFIG_FAILSLAB): make suites KERNEL=kasan")


@pytest.mark.parametrize("kind", (KERNEL, SPINNING), ids=lambda kind: kind.name)
@pytest.mark.expects(r"vmalloc error|VM_FAULT_OOM leaked|kmemleak: Cannot allocate a scan area")
@pytest.mark.parametrize("step", STEPS)
def test_each_allocation_fails_once(
    record_property: Callable[[str, object], None],
    place: Callable[[Topology], Placed],
    compared: Compared,
    failing: None,
    step: str,
    kind: SocketKind,
) -> None:
    """N9, N10: whichever allocation of a call fails: an errno or the kernel's way, and nothing is lost."""
    other = peer("vlan")
    other = replace(other, devices=(*other.devices, BESIDE))
    standing = place(Topology("two ports", (subject("a", "vlan"), other)))
    acquaint(compared, standing, standing["a"], standing["peer"])
    worker = compared.programs(kind).worker("no memory")
    worker.load(iproute, namespaces, health, rtnetlink, guest_no_memory, guest_no_memory_life)
    outcomes: dict[str, int] = {}
    first, whole = 1, False
    limit = Deadline(f"every allocation of {step} to have failed", scaled(60))
    while not whole:
        limit.check()
        told = worker.call(
            STEPS[step].fail_each,
            step=step,
            patience=scaled(0.2),
            first=first,
            most=AT_ONCE,
            timeout=AT_ONCE * scaled(1.5),
        )
        for said, count in told["outcomes"].items():
            outcomes[said] = outcomes.get(said, 0) + count
        first, whole = first + AT_ONCE, told["whole"]
    faults = sum(outcomes.values())
    record_property("allocations that failed", f"{faults}: {outcomes}")
    assert (faults == 0) == ((step, kind.name) in FREE), outcomes
    assert set(outcomes) <= ALLOWED, outcomes

"""The health check would see a report: a module of the reporting kernels makes one mistake of each kind.

No card, no namespace of a topology: only the guest, `provoke.ko` and the check that runs after every test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from lab.deadline import Deadline, scaled
from suites.guest import health as guest_health
from suites.health import Checkup
from suites.kernels import guest_provoke
from suites.session import LEAKS_SECONDS, Session


@dataclass(frozen=True)
class Mistake:
    """What `provoke` is told, and what a finding must say; `callers`: how many make it at once."""

    name: str
    seen: str
    callers: int = 1


#: By kernel. What turns the lock checker off for the rest of the guest's life comes last.
MISTAKES = {
    "kasan": (
        Mistake("out-of-bounds", r"KASAN: slab-out-of-bounds in provoke_"),
        Mistake("out-of-vmalloc", r"KASAN: vmalloc-out-of-bounds in provoke_"),
        Mistake("after-free", r"KASAN: slab-use-after-free in provoke_"),
        Mistake("shift", r"UBSAN: shift-out-of-bounds"),
        Mistake("index", r"UBSAN: array-index-out-of-bounds"),
    ),
    "locks": (
        Mistake("rcu", r"WARNING: suspicious RCU usage"),
        Mistake("sleep", r"BUG: sleeping function called from invalid context"),
        Mistake("free-active", r"ODEBUG: free active"),
        Mistake("order", r"WARNING: possible circular locking dependency"),
    ),
    "race": (Mistake("race", r"BUG: KCSAN: data-race in provoke_", callers=2),),
}


@pytest.fixture
def reporting(session: Session) -> str:
    """The name of the guest's kernel; Debian's own reports nothing."""
    name = session.lab.facts.get("reporting")
    if name is None:
        pytest.skip("needs a kernel that reports: make suites KERNEL=kasan, locks or race")
    session.agent.load(guest_provoke)
    session.agent.call(guest_provoke.load)
    return str(name)


def unseen(session: Session, mistakes: tuple[Mistake, ...]) -> list[str]:
    """Make each mistake; the names of those that a checkup does not find, with what it found instead."""
    missed = []
    for mistake in mistakes:
        checkup = Checkup(session)
        session.agent.call(guest_provoke.make, name=mistake.name, callers=mistake.callers, timeout=scaled(6))
        findings = checkup.findings()
        if not any(re.search(mistake.seen, one) for one in findings):
            missed.append(f"{mistake.name}: {findings}")
    return missed


@pytest.mark.soils("its kernel has reported mistakes made on purpose")
def test_each_report_is_a_finding(session: Session, reporting: str) -> None:
    """Health: what this kernel reports, of whatever kind, is found by the check after every test."""
    assert unseen(session, MISTAKES[reporting]) == []


def test_leaked_memory_is_a_finding(session: Session, reporting: str) -> None:
    """Health: memory that nobody points to any more is found at the end of a file, with who allocated it."""
    if reporting != "kasan":
        pytest.skip("needs a kernel that looks for leaks: KERNEL=kasan")
    assert session.agent.call(guest_health.leaked, timeout=LEAKS_SECONDS)["leaks"] == []
    session.agent.call(guest_provoke.make, name="leak", timeout=scaled(6))
    found = session.agent.call(guest_health.leaked, timeout=LEAKS_SECONDS)["leaks"]
    assert any("provoke_leak" in one for one in found), found
    assert session.agent.call(guest_health.leaked, timeout=LEAKS_SECONDS)["leaks"] == []


@pytest.mark.soils("its kernel has reported references that were kept on purpose")
def test_kept_references_are_findings(session: Session, reporting: str) -> None:
    """Health: who keeps a device or a namespace that should go is found, and where it took the reference."""
    if reporting != "locks":
        pytest.skip("needs a kernel that tracks references: KERNEL=locks")
    checkup = Checkup(session)
    session.agent.call(guest_provoke.keep_device, timeout=scaled(6))
    # The kernel says so after ten seconds of waiting, whatever the processor's speed.
    limit = Deadline("the kernel to complain of the device", 30.0 + scaled(1))
    said = limit.wait_until(
        lambda: [one for one in checkup.findings(soiled=True) if "waiting for provoked" in one], every=0.5
    )
    assert said
    told = "\n".join(one["text"] for one in checkup.told)
    assert re.search(r"ref_tracker: .*provoked.* has 1/\d+ users at", told), told
    session.agent.call(guest_provoke.give_device_back, timeout=scaled(6))
    checkup = Checkup(session)
    session.agent.call(guest_provoke.keep_namespace, timeout=scaled(6))
    limit = Deadline("the kernel to complain of the namespace", scaled(3))
    assert limit.wait_until(
        lambda: [one for one in checkup.findings(soiled=True) if "ref_tracker" in one], every=0.2
    )

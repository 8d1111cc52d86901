"""What the health check reads out of what a kernel says, and what it finds worse after a test."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest

from suites.guest import health
from suites.health import Checkup
from suites.session import Session

REPORT = """\
unreferenced object 0xffff88800b3a1c40 (size 64):
  comm "python3", pid 311, jiffies 4294950000
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc f1a2b3c4):
    [<00000000c0ffee00>] __kmalloc_noprof+0x2d0/0x3f0
    [<00000000c0ffee01>] provoke_leak+0x20/0x40 [provoke]
unreferenced object 0xffff88800b3a1d00 (size 8):
  comm "ip", pid 12, jiffies 4294950001
  backtrace (crc 0):
    kstrdup+0x36/0x60
"""
ALARMS = (
    "BUG: KASAN: slab-out-of-bounds in provoke_out_of_bounds+0x5c/0x70 [provoke]",
    "UBSAN: shift-out-of-bounds in provoke.c:95:21",
    "kmemleak: 8 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "WARNING: possible circular locking dependency detected",
    "WARNING: suspicious RCU usage",
    "BUG: KCSAN: data-race in provoke_race / provoke_race",
    "unregister_netdevice: waiting for provoked to become free. Usage count = 2",
    "ref_tracker: provoked@00000000ad has 1/2 users at",
    "ref_tracker: leaked reference.",
    "ODEBUG: free active (active state 0) object: 00000000b1 object type: timer_list hint: provoke_expired",
    "BUG: sleeping function called from invalid context at provoke.c:130",
    "[ BUG: Invalid wait context ]",
    "DEBUG_LOCKS_WARN_ON(lock->magic != lock)",
)


def test_leaks_are_told_with_who_allocated_them() -> None:
    """Health: of each object of a leak report the size and the calls, the innermost first."""
    assert health.leaks(REPORT) == [
        "leaked memory 0xffff88800b3a1c40 (size 64): __kmalloc_noprof+0x2d0/0x3f0"
        " < provoke_leak+0x20/0x40 [provoke]",
        "leaked memory 0xffff88800b3a1d00 (size 8): kstrdup+0x36/0x60",
    ]
    assert health.leaks("") == []


@pytest.mark.parametrize("text", ALARMS, ids=lambda text: text[:24])
def test_reports_are_alarms(text: str) -> None:
    """Health: what a reporting kernel says of a mistake is an alarm at whatever level it is said."""
    assert health.ALARMS.search(text)


class Lab:
    """What a checkup asks of a lab: a guest with one state before and one after, a card, and cardd's log."""

    def __init__(self, log: Path) -> None:
        self.after: dict[str, Any] = {
            "messages": [], "taints": [], "namespaces": [], "links": ["lo"], "alive": [], "sockets": {},
            "processes": {}, "ports": [],
        }  # fmt: skip
        self.baseline = deepcopy(self.after)
        self.held: dict[str, Any] = {"running": [], "processes": [], "fds": 3}
        self.counted: dict[str, dict[str, Any]] = {"card0": {"dma_faults": 0, "bad_accesses": 0}}
        self.paths, self.lab, self.agent, self.control = self, self, self, self
        self.cardd_log = log
        log.write_text("", encoding="utf-8")

    def call(self, function: Any, timeout: float = 0, **given: Any) -> dict[str, Any]:
        return deepcopy(self.after)

    def status(self) -> dict[str, Any]:
        return deepcopy(self.held)

    def counters(self) -> dict[str, dict[str, Any]]:
        return deepcopy(self.counted)

    def program_pids(self) -> set[str]:
        return set()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Its leaks stay, so there is nothing to wait for."""
    monkeypatch.setattr("suites.health.scaled", lambda seconds: 0.1)
    return Lab(tmp_path / "cardd.log")


#: What is worse after a test, and what the checkup must say of it.
WORSE: dict[str, tuple[Callable[[Lab], object], str]] = {
    "a report": (
        lambda world: world.after["messages"].append({"text": "BUG: KASAN: bad", "bad": True}),
        "kernel: BUG: KASAN: bad",
    ),
    "a taint": (lambda world: world.after["taints"].append("W"), "kernel tainted: W"),
    "a namespace": (lambda world: world.after["namespaces"].append("a"), "leaked namespace a"),
    "a device": (lambda world: world.after["links"].append("v0"), "leaked network device v0"),
    "a device less": (lambda world: world.after["links"].clear(), "network device lo is gone"),
    "a pinned namespace": (
        lambda world: world.after["alive"].append(7),
        "1 deleted namespaces are still alive",
    ),
    "a socket": (lambda world: world.after["sockets"].update(UDP=1), "1 leaked UDP sockets"),
    "a process": (lambda world: world.after["processes"].update({"9": "left"}), "leaked process 9 (left)"),
    "a request": (lambda world: world.held["running"].append("wait"), "the agent's request wait never ended"),
    "descriptors": (lambda world: world.held.update(fds=99), "the agent holds 99 descriptors"),
    "a refused DMA": (
        lambda world: world.counted["card0"].update(dma_faults=1),
        "card0: dma_faults grew by 1",
    ),
    "an error of cardd": (
        lambda world: world.cardd_log.write_text("ERROR lost\n", encoding="utf-8"),
        "cardd: ERROR lost",
    ),
}


@pytest.mark.parametrize("what", WORSE)
def test_what_a_test_leaves_is_found(what: str, world: Lab) -> None:
    """Health: what is worse after a test than before is told by name; where nothing is, nothing is."""
    worsen, told = WORSE[what]
    checkup = Checkup(cast(Session, world))
    assert checkup.findings() == []
    worsen(world)
    (finding,) = checkup.findings()
    assert finding.startswith(told)


def test_what_was_meant_is_no_finding(world: Lab) -> None:
    """Health: a message that the test causes on purpose, and no other."""
    checkup = Checkup(cast(Session, world))
    world.after["messages"] = [{"text": f"BUG: {name}", "bad": True} for name in ("meant", "other")]
    assert checkup.findings(expected=["meant"]) == ["kernel: BUG: other"]

"""What the health check reads out of what a kernel says."""

from __future__ import annotations

import pytest

from suites.guest import health

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

"""What the guest looks like, for the health check after every test: cheap enough to be asked each time."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from lab.guest import agent
from lab.guest.agent import in_netns
from suites.guest import namespaces

Json = dict[str, Any]
IFF_UP = 1
#: Bits of /proc/sys/kernel/tainted that a test must never set.
TAINT_BITS = {4: "machine check", 5: "bad page", 7: "oops", 9: "warning", 14: "soft lockup"}
#: Kernel messages that are a failure at any level.
ALARMS = re.compile(
    r"\bBUG\b|WARNING:|Oops|general protection|KASAN|KCSAN|UBSAN|kmemleak|lockdep|refcount_t|Call Trace"
    r"|possible (recursive|circular)|inconsistent lock state|suspicious RCU|soft lockup|hard LOCKUP|hung task"
    r"|blocked for more than|rcu.*(stall|detected)|unregister_netdevice: waiting|NETDEV WATCHDOG"
    r"|transmit queue .* timed out|scheduling while atomic|sleeping function called|Out of memory"
    r"|page allocation failure|ref_tracker|ODEBUG|DEBUG_LOCKS_WARN_ON|[Ii]nvalid wait context"
)
#: Warnings of a machine that is slow or emulated, which say nothing about what is under test.
HARMLESS = re.compile(
    r"clocksource|TSC|hrtimer: interrupt took|workqueue: .* hogged CPU|perf: interrupt took|random: "
    r"|sched: RT thr|loading out-of-tree module taints|module verification failed|kauditd"
    r"|printk: .* messages suppressed|TCP: request_sock|Possible SYN flooding|neighbour: .*table overflow"
)
#: Memory that nobody points to: what the kernel says of it, where it looks for it at all.
_KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
#: It takes nothing for lost that is younger (MSECS_MIN_AGE of mm/kmemleak.c), or that a single look found.
_LEAK_AGE = 5.5
_LEAK = re.compile(r"^unreferenced object (.*):$")
_LEAK_FUNCTIONS = 12
#: A trace of our own, which nobody else's tracing disturbs, of the last frames that the kernel dropped.
TRACING = Path("/sys/kernel/tracing")
_DROPS = TRACING / "instances/exalab"
_DROPS_KIB = 128
#: Reasons that are no loss: somebody else's frame, flooded to everybody.
_NO_LOSS = ("OTHERHOST",)
#: What tells of frames in a namespace.
_ACCOUNT = (["nstat", "-as"], ["tc", "-s", "qdisc"], ["ip", "-s", "-s", "link"], ["ip", "-s", "neigh"])
_kmsg: int | None = None
#: Kernel threads, which need not be looked at again.
_known: dict[str, None] = {}


def begin() -> None:
    """Forget what the kernel has said so far; from now on it notes what frames it drops, and why."""
    global _kmsg
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # a kernel without tracing
        _watch_drops()
    if _kmsg is None:
        _kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.lseek(_kmsg, 0, os.SEEK_END)


def messages() -> list[Json]:
    """What the kernel said since the last time: {"level", "seconds", "text", "bad"}.

    ``bad``: an alarm at any level, or a warning or worse that is not known to be harmless.
    """
    if _kmsg is None:
        begin()
    assert _kmsg is not None
    told: list[Json] = []
    while True:
        try:
            line = os.read(_kmsg, 8192).decode(errors="replace")
        except BlockingIOError:
            return told
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            # The ring went round: records were lost, reading goes on after the gap.
            told.append({"level": 4, "seconds": 0.0, "text": "kernel messages were lost", "bad": True})
            continue
        head, _, text = line.partition(";")
        priority, _sequence, micros = head.split(",")[:3]
        text = text.split("\n", 1)[0]
        level = int(priority) & 7
        if not int(priority) >> 3:  # facility: the kernel, not a program writing to the log
            bad = bool(ALARMS.search(text)) or (level <= 4 and not HARMLESS.search(text))
            told.append({"level": level, "seconds": int(micros) / 1e6, "text": text, "bad": bad})


def leaked() -> Json:
    """Memory that was allocated and that nobody points to any more, since this was asked last; takes a while.

    {"leaks": a line each, with who allocated it; "messages": what the kernel said meanwhile, but of this}.
    Nothing where the kernel does not look (CONFIG_DEBUG_KMEMLEAK).
    """
    if not _KMEMLEAK.exists():
        return {"leaks": [], "messages": messages()}
    end = time.monotonic() + _LEAK_AGE
    while True:
        last = time.monotonic() >= end
        _KMEMLEAK.write_text("scan")
        if last:
            break
    found = leaks(_KMEMLEAK.read_text(errors="replace"))
    _KMEMLEAK.write_text("clear")
    return {"leaks": found, "messages": [one for one in messages() if "kmemleak: " not in one["text"]]}


def leaks(report: str) -> list[str]:
    """A line for each object of a report of kmemleak's: what it is, and the calls that allocated it."""
    found: list[str] = []
    calls: list[str] = []
    tracing = False
    for line in [*report.splitlines(), "unreferenced object end:"]:
        if head := _LEAK.match(line):
            if found:
                found[-1] += ": " + " < ".join(calls[:_LEAK_FUNCTIONS])
            found.append(f"leaked memory {head[1]}")
            calls, tracing = [], False
        elif line.startswith("  backtrace"):
            tracing = True
        elif tracing:
            calls.append(line.split("] ", 1)[-1].strip())
    return found[:-1]


def _watch_drops() -> None:
    if not (TRACING / "instances").is_dir():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=True)
    if not _DROPS.exists():
        _DROPS.mkdir()
        agent.at_end.append(_DROPS.rmdir)
    event = _DROPS / "events/skb/kfree_skb"
    numbers = {
        name: number for number, name in re.findall(r'{ (\d+), "(\w+)" }', (event / "format").read_text())
    }
    (_DROPS / "trace_clock").write_text("mono")
    (_DROPS / "buffer_size_kb").write_text(str(_DROPS_KIB))
    known = [numbers[name] for name in _NO_LOSS if name in numbers]
    (event / "filter").write_text(" && ".join(f"reason != {number}" for number in known) or "0")
    (event / "enable").write_text("1")
    (_DROPS / "trace").write_text("")


def drops() -> str:
    """The trace of dropped frames. A line is written into it when a snapshot is taken: after every test."""
    return (_DROPS / "trace").read_text()


def account(name: str | None) -> str:
    """The kernel's own counters of a namespace (None: the initial one): protocols, queues, links, neighbours,
    and those of the card's ports."""
    told = []
    with in_netns(name):
        for argv in (*_ACCOUNT, *(["ethtool", "-S", device] for device in namespaces.device_names())):
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
            if not done.returncode:
                told.append(f"# {' '.join(argv)}\n{done.stdout}")
    return "\n".join(told)


def processes() -> dict[str, str]:
    """Every process with a program of its own, as {pid: name}; kernel threads and zombies are left out. Of a
    machine that is others', too, those that were started here.
    """
    if agent.shared:
        pids = {str(pid) for pid in agent.descendants()}
    else:
        pids = {entry.name for entry in os.scandir("/proc") if entry.name.isdigit()}
    for gone in set(_known) - pids:
        del _known[gone]
    found: dict[str, str] = {}
    for pid in pids:
        if pid not in _known:
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text()
                name, _, rest = stat[stat.index("(") + 1 :].rpartition(") ")
                fields = rest.split()
                if int(fields[6]) & 0x00200000:  # PF_KTHREAD, which it stays
                    _known[pid] = None
                elif fields[0] != "Z":
                    found[pid] = name
    return found


def open_sockets() -> dict[str, int]:
    """Sockets in use in the initial namespace (sockstat), without those that only wait for their end. Nothing
    on a machine that is others', too: the kernel does not tell whose they are.
    """
    counts: dict[str, int] = {}
    if agent.shared:
        return counts
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        family, _, rest = line.partition(": ")
        fields = rest.split()
        counts[family] = int(fields[fields.index("inuse") + 1]) if "inuse" in fields else 0
    counts.pop("sockets", None)
    with contextlib.suppress(OSError):
        counts["PACKET"] = max(0, len(Path("/proc/net/packet").read_text().splitlines()) - 1)
    return counts


def ports(driver: str = "exanic") -> list[Json]:
    """The card's net devices in the initial namespace, by PCI address and port number.

    {"name", "pci", "port", "mac", "up", "carrier", "mtu", "statistics"}.
    """
    found: list[Json] = []
    for entry in sorted(Path("/sys/class/net").iterdir()):
        device = entry / "device"
        with contextlib.suppress(OSError):
            if (device / "driver").resolve().name != driver:
                continue
            up = bool(int((entry / "flags").read_text(), 16) & IFF_UP)
            statistics = {
                one.name: int(one.read_text()) for one in (entry / "statistics").iterdir() if one.is_file()
            }
            found.append(
                {
                    "name": entry.name,
                    "pci": device.resolve().name,
                    "port": int((entry / "dev_port").read_text()),
                    "mac": (entry / "address").read_text().strip(),
                    "up": up,
                    "carrier": up and (entry / "carrier").read_text().strip() == "1",
                    "mtu": int((entry / "mtu").read_text()),
                    "statistics": statistics,
                }
            )
    found.sort(key=lambda one: (one["pci"], one["port"]))
    return found


def taints() -> list[str]:
    value = int(Path("/proc/sys/kernel/tainted").read_text())
    return [name for bit, name in TAINT_BITS.items() if value >> bit & 1]


def memory(slabs: bool = False) -> dict[str, int]:
    """Bytes: memory available, in slabs (reclaimable or not), page tables, per-cpu data, kernel stacks.

    ``slabs``: the bytes of each slab cache too, as ``slab:NAME``.
    """
    wanted = {"MemAvailable", "MemFree", "Slab", "SReclaimable", "SUnreclaim", "Percpu", "KernelStack"}
    found: dict[str, int] = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in wanted:
            found[name] = int(rest.split()[0]) * 1024
    if slabs:
        for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
            fields = line.split()
            found[f"slab:{fields[0]}"] = int(fields[2]) * int(fields[3])
    return found


def snapshot() -> Json:
    """Everything the health check compares, in one call."""
    with contextlib.suppress(OSError):
        (_DROPS / "trace_marker").write_text("the guest was looked at")
    return {
        "messages": messages(),
        "taints": taints(),
        "namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        "alive": namespaces.alive(),
        "links": sorted(namespaces.device_names()),
        "sockets": open_sockets(),
        "processes": processes(),
        "ports": ports(),
    }

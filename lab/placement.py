"""Which processors of the host the lab's processes run on.

A doorbell is three hand-overs: the virtual processor to cardd, cardd to QEMU's vfio-user thread, that thread
back to the virtual processor. Between two processors each of them wakes one that sleeps; on one processor it
is a context switch. So a guest without KVM on a small host is gathered on one processor once it is up (it
boots on all). With KVM, or on a larger host, the scheduler knows better. `make bench` measures the two.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from lab.errors import LabError

HUGEPAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
#: A host with more processors than this is left to its scheduler.
SMALL_HOST = 2


def together(wanted: str, accelerator: str) -> bool:
    """Whether to gather a lab. ``wanted``: ``auto``, ``together`` or ``spread``, of lab.toml."""
    if wanted != "auto":
        return wanted == "together"
    return accelerator == "tcg" and len(os.sched_getaffinity(0)) <= SMALL_HOST


def processor(name: str) -> int:
    """The processor that the lab of this name is gathered on: labs side by side spread by their names."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[zlib.crc32(name.encode()) % len(allowed)]


def gather(name: str, pids: Iterable[int]) -> int:
    """Bind these processes, their children and all their threads to one processor, and return it."""
    at = processor(name)
    bind(pids, {at})
    return at


def check(processors: Sequence[int]) -> None:
    """Raise ``LabError`` for processors that we may not run on, or that are not there."""
    missing = sorted(set(processors) - os.sched_getaffinity(0))
    if missing:
        raise LabError(
            f"the guest cannot have processor {', '.join(map(str, missing))} of this machine",
            hint=f"processors in [machine] of lab/lab.toml: of {_ranges(os.sched_getaffinity(0))}",
        )


def check_hugepages(memory: int) -> None:
    """Raise ``LabError`` unless ``memory`` MiB are free in pages of 2 MiB."""
    wanted = (memory + 1) // 2
    try:
        free = int((HUGEPAGES / "free_hugepages").read_text())
    except (OSError, ValueError):
        raise LabError(
            "this machine has no pages of 2 MiB", hint="leave hugepages in [machine] of lab/lab.toml out"
        ) from None
    if free < wanted:
        raise LabError(
            f"the guest's {memory} MiB need {wanted} free pages of 2 MiB; there are {free}",
            hint=f"echo {wanted} > {HUGEPAGES}/nr_hugepages (vm.nr_hugepages in /etc/sysctl.d keeps them)",
        )


def pin(threads: Sequence[int], processors: Sequence[int]) -> None:
    """Each of the guest's processors, which are threads, to one of the host's, in order."""
    for thread, processor in zip(threads, processors, strict=True):
        os.sched_setaffinity(thread, {processor})


def _ranges(numbers: Iterable[int]) -> str:
    """``0-3,7`` of 0, 1, 2, 3 and 7."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][-1] == number - 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, one)) for one in found)


def spread(pids: Iterable[int]) -> None:
    """Let them run on every processor that we may use: what :func:`gather` did is undone."""
    bind(pids, os.sched_getaffinity(0))


def bind(pids: Iterable[int], processors: set[int]) -> None:
    """These processes, their children and all their threads run on these processors from now on.

    A thread or process that ends meanwhile is passed over. Raises ``LabError`` when the host refuses.
    """
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(pid)
            for process in (parent, *parent.children(recursive=True)):
                _bind(process.pid, processors)


def _bind(pid: int, processors: set[int]) -> None:
    try:
        tasks = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return
    for task in tasks:
        try:
            os.sched_setaffinity(task, processors)
        except ProcessLookupError:
            continue
        except OSError as problem:
            raise LabError(
                f"cannot bind process {pid} to processors {sorted(processors)}: {problem.strerror}",
                hint='placement = "spread" in [machine] of lab/lab.toml leaves all where they are',
            ) from problem

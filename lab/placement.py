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
from collections.abc import Iterable
from pathlib import Path

import psutil

from lab.errors import LabError

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

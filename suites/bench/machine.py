"""The machine the figures come from, and how busy a lab's processes kept it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from lab import api


def describe() -> dict[str, str | float]:
    """Processor, cores, memory, kernel, load before the run."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "host_cpu": model,
        "host_cores": float(os.cpu_count() or 0),
        "host_memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "host_kernel": platform.release(),
        "host_load": round(os.getloadavg()[0], 2),
    }


@dataclass
class Share:
    """Percent of one core that each part of the lab used while something was measured."""

    machine: float
    cardd: float

    def __str__(self) -> str:
        return f"QEMU {self.machine:.0f} %, cardd {self.cardd:.0f} % of a core"


class Meter:
    """Measures the processor time of a lab's QEMU and cardd between its start and :meth:`share`."""

    def __init__(self, lab: api.Lab) -> None:
        self._pids = {name: part.pid for name, part in lab.state.parts.items() if part.pid}
        self._began = time.monotonic()
        self._before = self._used()

    def _used(self) -> dict[str, float]:
        used = {}
        for name, pid in self._pids.items():
            seconds = 0.0
            try:
                process = psutil.Process(pid)
                for one in (process, *process.children(recursive=True)):
                    times = one.cpu_times()
                    seconds += times.user + times.system
            except psutil.NoSuchProcess:
                pass
            used[name] = seconds
        return used

    def share(self) -> Share:
        passed = max(time.monotonic() - self._began, 0.001)
        now = self._used()
        percent = {name: 100 * (now[name] - self._before[name]) / passed for name in now}
        cardd = percent.pop("cardd", 0.0)
        return Share(sum(percent.values()), cardd)


class GuestClock:
    """Processor time of the guest's own processors, ns: what others run on the host does not count in it.

    Neither does waiting for a card: of a doorbell it has what the guest's thread does itself.
    """

    def __init__(self, lab: api.Lab) -> None:
        self._files: list[Path] = []
        for pid in lab.state.pids():
            for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
                for task in Path(f"/proc/{process.pid}/task").iterdir():
                    if (task / "comm").read_text().strip().endswith(("/TCG", "/KVM")):
                        self._files.append(task / "schedstat")

    def now(self) -> int:
        return sum(int(file.read_text().split()[0]) for file in self._files)

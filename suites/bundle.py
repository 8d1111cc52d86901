"""One directory and one archive with everything a person needs to look into a failed test."""

from __future__ import annotations

import contextlib
import json
import platform
import re
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import paths
from lab.errors import LabError
from suites import topology as topologies
from suites.guest import health
from suites.session import Session, facts
from suites.topology import Topology

#: Lines of each log kept, from its end.
LOG_LINES = 20000


class Bundle:
    """A bundle being filled. What cannot be had is noted in ``missing.txt``, never an error: the lab may be
    the thing that is broken."""

    def __init__(self, name: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[-100:]
        self.directory = paths.out() / "bundles" / f"{safe}-{time.strftime('%Y%m%dT%H%M%S')}"
        self.directory.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, make: Callable[[], str | bytes | dict[str, Any]]) -> None:
        try:
            content = make()
        except (LabError, OSError, KeyError, ValueError, RuntimeError) as error:
            with (self.directory / "missing.txt").open("a") as file:
                file.write(f"{name}: {type(error).__name__}: {error}\n")
            return
        target = self.directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        elif isinstance(content, str):
            target.write_text(content, encoding="utf-8")
        else:
            target.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")

    def archive(self) -> Path:
        """Pack the directory beside itself; returns the archive."""
        target = self.directory.with_name(self.directory.name + ".tar.gz")
        with tarfile.open(target, "w:gz", compresslevel=3) as tar:
            tar.add(self.directory, arcname=self.directory.name)
        return target


def tail(path: Path, lines: int = LOG_LINES) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-lines:])


def collect(
    session: Session, nodeid: str, report: str, topology: Topology | None, counters: dict[str, Any]
) -> Path:
    """Write the bundle of a failed test; returns its archive. ``counters``: those from before the test."""
    lab = session.lab
    bundle = Bundle(nodeid.split("::", 1)[-1].replace("::", "-"))
    bundle.put("failure.txt", lambda: report)
    if topology is not None:
        bundle.put("topology.txt", lambda: str(topology) + "\n")
        bundle.put("topology.svg", lambda: topologies.svg(topology))
    bundle.put("dmesg.txt", lambda: session.agent.exec(["dmesg"], timeout=30).stdout)
    bundle.put("guest.json", lambda: dict(session.agent.call(health.snapshot)))
    bundle.put("counters-before.json", lambda: counters)
    bundle.put("counters-after.json", session.control.counters)
    bundle.put("card.json", session.control.status)
    for card in {end.split(":")[0] for end in session.devices}:
        bundle.put(f"registers-{card}.json", lambda card=card: session.control.registers(card))  # type: ignore[misc]
    with contextlib.suppress(LabError, OSError):
        session.control.flush()
        (bundle.directory / "trace").mkdir(exist_ok=True)
        session.control.trace_dump(bundle.directory / "trace")
    for log in (lab.paths.serial_log, lab.paths.cardd_log, lab.paths.qemu_log, lab.paths.supervisor_log):
        bundle.put(log.name, lambda log=log: tail(log))  # type: ignore[misc]
    for capture in sorted(lab.paths.capture.glob("*.pcapng")):
        with contextlib.suppress(OSError):
            (bundle.directory / "capture").mkdir(exist_ok=True)
            shutil.copy2(capture, bundle.directory / "capture" / capture.name)
    bundle.put("environment.json", lambda: environment(session, nodeid))
    bundle.put("README.txt", lambda: replay(nodeid, lab.name, bundle.directory))
    return bundle.archive()


def environment(session: Session, nodeid: str) -> dict[str, Any]:
    """Versions, digests and the seed: what a replay needs to be the same."""
    return {
        "test": nodeid,
        "seed": session.control.status().get("seed"),
        "host": platform.platform(),
        "python": sys.version,
        **facts(session.lab),
        "lab": session.lab.facts,
    }


def replay(nodeid: str, lab: str, directory: Path) -> str:
    """How to see it again, and where to look first."""
    return f"""{nodeid} failed.

Again, on the same lab:   LAB={lab} python -m pytest '{nodeid}'
Only its topology:        LAB={lab} python -m pytest '{nodeid}' --topology-only
Stop where it fails:      LAB={lab} python -m pytest '{nodeid}' --pdb

failure.txt        what the test said
topology.txt/.svg  what it stood on
capture/           what passed each port (wireshark, tcpdump -r)
dmesg.txt          what the guest's kernel said; serial.log: its console
counters-*.json    the card's and the wire's counters before and after
registers-*.json   the card's registers; trace/: the last accesses
environment.json   versions, image digests, seed
{directory}
"""

"""One archive with everything a person needs to look into a failed test, and to see it again."""

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
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from lab import paths
from lab.card.models import MODELS
from lab.config import MAC_PREFIX, Config
from lab.errors import LabError
from lab.replacing import replacing
from suites import capture, drawing
from suites import topology as topologies
from suites.guest import health
from suites.report.origin import source
from suites.session import Session, facts
from suites.topology import Topology

#: What ``suites.replay`` reads: what stood, and what chose what the test did.
REPLAY, REPLAY_FORMAT, REPLAY_SCHEMA = "replay.json", "exalab-replay", 1
#: Lines of each log kept, from its end.
LOG_LINES = 20000
#: Namespaces and flows that are looked into, of those that the failure names.
LOOKED_INTO = 8
#: A port's counters of frames that its capture has, too.
_CAPTURED = ("tx", "rx", "rx_ignored", "rx_error", "rx_dropped")
_MISSING = re.compile(r"flow (\d+) \(.*missing \[([\d, ]+)\]")


class Bundle:
    """A bundle being filled. What cannot be had is noted in ``missing.txt``, never an error: the lab may be
    the thing that is broken."""

    def __init__(self, name: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[-100:]
        self.directory = paths.out() / "bundles" / f"{safe}-{time.strftime('%Y%m%dT%H%M%S')}"
        self.directory.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, make: Callable[[], str | bytes | dict[str, Any]]) -> bool:
        """Add a file; whether it could be had."""
        try:
            content = make()
        except (LabError, OSError, KeyError, ValueError, RuntimeError) as error:
            with (self.directory / "missing.txt").open("a") as file:
                file.write(f"{name}: {type(error).__name__}: {error}\n")
            return False
        target = self.directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        elif isinstance(content, str):
            target.write_text(content, encoding="utf-8")
        else:
            target.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        return True

    def archive(self) -> Path:
        """Pack the directory into one file beside it, and remove it; returns the archive."""
        target = self.directory.with_name(self.directory.name + ".tar.gz")
        with replacing(target) as fresh, tarfile.open(fresh, "w:gz", compresslevel=3) as tar:
            tar.add(self.directory, arcname=self.directory.name)
        shutil.rmtree(self.directory)
        return target


def tail(path: Path, lines: int = LOG_LINES) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-lines:])


def collect(
    session: Session,
    nodeid: str,
    report: str,
    topology: Topology | None,
    counters: dict[str, Any],
    began: int = 0,
    options: dict[str, Any] | None = None,
) -> Path:
    """Write the bundle of a failed test; returns its archive. ``counters``: those from before the test, which
    ``began`` then (ns since the epoch); ``options``: those of pytest's that choose what the test does."""
    lab = session.lab
    bundle = Bundle(nodeid.split("::", 1)[-1].replace("::", "-"))
    bundle.put("failure.txt", lambda: report)
    if topology is not None:
        bundle.put("topology.txt", lambda: str(topology) + "\n")
        bundle.put("topology.svg", lambda: drawing.svg(topology))
    # First what goes on changing: drops, and the counters of namespaces that still stand.
    bundle.put("drops.txt", lambda: str(session.agent.call(health.drops, timeout=30)))
    for netns in (None, *named(report, topology)):
        if not bundle.put(f"account-{netns or 'initial'}.txt", partial(account, session, netns)):
            break
    bundle.put("dmesg.txt", lambda: session.agent.exec(["dmesg"], timeout=30).stdout)
    bundle.put("guest.json", lambda: dict(session.agent.call(health.snapshot)))
    bundle.put("counters-before.json", lambda: counters)
    bundle.put("counters-after.json", session.control.counters)
    bundle.put("card.json", session.control.status)
    for card in {end.split(":")[0] for end in session.devices}:
        bundle.put(f"registers-{card}.json", lambda card=card: session.control.registers(card))  # type: ignore[misc]
    with contextlib.suppress(LabError, OSError):
        session.control.flush()
        bundle.put("lost.txt", lambda: lost(report, frames(session, counters)))
        (bundle.directory / "trace").mkdir(exist_ok=True)
        session.control.trace_dump(bundle.directory / "trace")
    for log in (
        lab.paths.serial_log,
        lab.paths.host_log,
        lab.paths.cardd_log,
        lab.paths.qemu_log,
        lab.paths.supervisor_log,
    ):
        bundle.put(log.name, lambda log=log: tail(log))  # type: ignore[misc]
    for path in sorted(lab.paths.capture.glob("*.pcapng")):
        with contextlib.suppress(OSError):
            passed = capture.since(path, began)
            if capture.has_packets(passed) or not path.name.endswith(".1.pcapng"):
                bundle.put(f"capture/{path.name}", lambda passed=passed: passed)  # type: ignore[misc]
    bundle.put("environment.json", lambda: environment(session, nodeid))
    bundle.put(REPLAY, lambda: again(session, nodeid, topology, options or {}))
    bundle.put("README.txt", lambda: readme(nodeid, lab.name, bundle.directory.name + ".tar.gz"))
    return bundle.archive()


def account(session: Session, netns: str | None) -> str:
    """What the guest's kernel counted in a namespace (None: the initial one)."""
    return str(session.agent.call(health.account, name=netns, timeout=30))


def named(report: str, topology: Topology | None) -> list[str]:
    """The namespaces of the topology that a failure speaks of, as far as they are looked into."""
    words = set(re.findall(r"[\w.-]+", report))
    known = [one.netns for one in topology.namespaces if one.name in words] if topology is not None else []
    return [netns for netns in known if netns is not None][:LOOKED_INTO]


def frames(session: Session, counters: dict[str, Any]) -> dict[str, list[capture.Captured]]:
    """What passed each port of the cards since ``counters`` were read."""
    now = session.control.counters()
    found = {}
    for end in session.devices:
        grown = sum(now[end].get(name, 0) - counters.get(end, {}).get(name, 0) for name in _CAPTURED)
        found[end] = capture.read(session.lab.paths.capture, end)[-grown:] if grown > 0 else []
    return found


def lost(report: str, passed: dict[str, list[capture.Captured]]) -> str:
    """Where the records that a failure calls missing were seen: one that left no port was lost by the
    sender's kernel, one that left but did not arrive by the wire, one that arrived by the receiver's kernel.
    """
    lines = []
    for flow, missing in _MISSING.findall(report)[:LOOKED_INTO]:
        for sequence in missing.split(","):
            lines.append(f"flow {flow} number {int(sequence)}:")
            for end, captured in passed.items():
                seen = [
                    one
                    for one in captured
                    if one.frame.record is not None
                    and (one.frame.record.flow, one.frame.record.sequence) == (int(flow), int(sequence))
                ]
                lines += [f"  {end}: not seen"] if not seen else []
                for one in seen:
                    assert one.frame.record is not None
                    what = f"the answer of {one.frame.record.tag}" if one.frame.record.tag else "the question"
                    bad = ", bad FCS" if one.bad_fcs else ""
                    way = "left" if one.sent else "arrived"
                    lines.append(f"  {end}: {what} {way} at {one.time / 1e9:.6f}{bad}: {one.frame}")
    return "\n".join(lines or ["the failure names no missing record"]) + "\n"


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


def again(
    session: Session, nodeid: str, topology: Topology | None, options: dict[str, Any]
) -> dict[str, Any]:
    """What ``suites.replay`` needs: the lab, what stood in it, and the test with its options."""
    facts = session.lab.facts
    told = {name: facts[name] for name in ("profile", "wiring", "cpus", "memory", "images") if name in facts}
    if facts.get("host"):
        # A replay is in a guest, as its card is emulated.
        told |= {"profile": "fast", "cpus": Config.cpus, "memory": Config.memory}
    return {
        "format": REPLAY_FORMAT,
        "schema": REPLAY_SCHEMA,
        "test": nodeid,
        "options": options,
        "seed": session.control.status().get("seed", 1),
        "source": asdict(source()),
        "lab": told | {"cards": emulated(facts["cards"])},
        "topology": topologies.as_json(topology) if topology is not None else None,
    }


def emulated(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cards for a replay, which is on emulated ones: whoever has the bundle may not have the card."""
    found = []
    for number, card in enumerate(cards):
        if card.get("kind") == "real":
            model = card["model"] if card["model"] in MODELS else "X25"
            card = {
                "name": card["name"],
                "model": model,
                "serial": f"E{number:07d}",
                "mac": f"{MAC_PREFIX}:{number:02x}:00",
            }
        found.append(card)
    return found


def readme(nodeid: str, lab: str, archive: str) -> str:
    """How to see it again, and where to look first."""
    python = ".venv/bin/python"
    return f"""{nodeid} failed.

What stood, once more:    {python} -m lab --name replay replay out/bundles/{archive}
The test, on the same lab: LAB={lab} {python} -m pytest '{nodeid}'
Only its topology:        LAB={lab} {python} -m pytest '{nodeid}' --topology-only
Stop where it fails:      LAB={lab} {python} -m pytest '{nodeid}' --shell-on-error

failure.txt        what the test said
topology.txt/.svg  what it stood on
lost.txt           where the records that are missing were seen last
drops.txt          frames the kernel dropped, and why; a line says when the guest was looked at, between tests
account-*.txt      protocol, queue, link, neighbour and port counters of the namespaces that the failure names
capture/           what passed each port while the test ran (wireshark, tcpdump -r)
dmesg.txt          what the guest's kernel said; serial.log: its console
counters-*.json    the card's and the wire's counters before and after
registers-*.json   the card's registers; trace/: the last accesses
environment.json   versions, image digests, seed; {REPLAY}: what `lab replay` brings up
"""

"""The bench's own health, checked after every test: what a test leaves behind fails that test, by name."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.deadline import Deadline, scaled
from lab.errors import DeadlineExpired, LabError
from suites.guest import health, namespaces
from suites.session import Session

#: Processes of the guest's own that come and go.
_COMERS = re.compile(r"ssh|systemd|agetty|login|sftp|iperf3?$|dhc|udev|kworker|modprobe")
#: Statistics of a port that must not grow unnoticed: the driver's own failures, not the wire's.
_PORT_ERRORS = ("tx_errors", "tx_aborted_errors", "tx_fifo_errors", "tx_heartbeat_errors")
_CARD_ERRORS = ("dma_faults", "bad_accesses")
_LOG_ALARM = re.compile(r"\b(ERROR|CRITICAL)\b|Traceback")


class Checkup:
    """What was so before a test, and what is worse after it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.before = session.baseline
        self.counters = session.control.counters()
        self.log = session.lab.paths.cardd_log
        self.log_size = self.log.stat().st_size if self.log.exists() else 0
        self.status = session.agent.status()
        self.began = time.time_ns()
        #: What the kernel has said since, and the counters after: known once `findings` was asked.
        self.told: list[dict[str, Any]] = []
        self.after: dict[str, dict[str, Any]] = {}

    def findings(self, expected: Sequence[str] = (), soiled: bool = False) -> list[str]:
        """Named reasons why the guest cannot be trusted with another test; nothing when it can.

        ``expected``: patterns of kernel and cardd messages that this test is meant to cause. ``soiled``: what
        it leaves behind does not matter, only what the kernel says.
        """
        told = self.told
        limit = Deadline("the guest comes to rest", scaled(0.5))
        while True:
            try:
                after = self.session.agent.call(health.snapshot, timeout=scaled(3))
                status = self.session.agent.status()
            except LabError as error:
                return [f"the guest does not answer: {error.message}"]
            told.extend(after["messages"])
            leaks = [] if soiled else self._leaks(after, status)
            if not leaks:
                break
            try:
                limit.wait_until(lambda: True, every=0.05)
                limit.check()
            except DeadlineExpired:
                break
        found = [f"kernel: {one['text']}" for one in told if one["bad"] and not _meant(one["text"], expected)]
        if not soiled:  # what it was tainted for, it has said
            found += [
                f"kernel tainted: {taint}" for taint in after["taints"] if taint not in self.before["taints"]
            ]
        return found + leaks + self._card(expected)

    def _leaks(self, after: dict[str, Any], status: dict[str, Any]) -> list[str]:
        before = self.before
        found = []
        for what, name in (("namespaces", "namespace"), ("links", "network device")):
            found += [f"leaked {name} {one}" for one in sorted(set(after[what]) - set(before[what]))]
        found += [
            f"network device {one} is gone" for one in sorted(set(before["links"]) - set(after["links"]))
        ]
        alive = set(after["alive"]) - set(before["alive"])
        if alive:
            found.append(f"{len(alive)} deleted namespaces are still alive: a reference pins them (N7)")
        for family, count in after["sockets"].items():
            if count > before["sockets"].get(family, 0):
                found.append(f"{count - before['sockets'].get(family, 0)} leaked {family} sockets")
        ours = self.session.program_pids()
        for pid, name in after["processes"].items():
            if pid not in before["processes"] and pid not in ours and not _COMERS.match(name):
                found.append(f"leaked process {pid} ({name})")
        stuck = [one for one in status["running"] if one not in self.status["running"]]
        found += [f"the agent's request {one} never ended" for one in stuck]
        more = max(0, len(status["processes"]) - len(self.status["processes"]))
        allowed = self.status["fds"] + 8 * more + 8
        if status["fds"] > allowed:
            found.append(f"the agent holds {status['fds']} descriptors, {self.status['fds']} before")
        for port in after["ports"]:
            if not port["up"]:  # a port that came home with its namespace's end is down: no fault of the test
                self.session.agent.call(namespaces.change, name=None, device=port["name"], up=True)
        statistics = {one["name"]: one["statistics"] for one in before["ports"]}
        for port in after["ports"]:
            for counter in _PORT_ERRORS:
                grown = port["statistics"].get(counter, 0) - statistics.get(port["name"], {}).get(counter, 0)
                if grown > 0:
                    found.append(f"driver: {counter} of {port['name']} grew by {grown}")
        return found

    def _card(self, expected: Sequence[str]) -> list[str]:
        """What the card says about the driver, and cardd about itself."""
        found = []
        try:
            now = self.session.control.counters()
        except LabError as error:
            return [f"cardd does not answer: {error.message}"]
        self.after = now
        for card, counters in now.items():
            for counter in _CARD_ERRORS:
                grown = counters.get(counter, 0) - self.counters.get(card, {}).get(counter, 0)
                if grown > 0 and not _meant(counter, expected):
                    found.append(f"{card}: {counter} grew by {grown}")
        for end, counters in now.items():
            found += [
                f"{end}: rules were left ({name})" for name in ("rules_tx", "rules_rx") if name in counters
            ]
        for line in log_since(self.log, self.log_size):
            if _LOG_ALARM.search(line) and not _meant(line, expected):
                found.append(f"cardd: {line}")
        return found

    def grown(self) -> dict[str, dict[str, float]]:
        """The counters of the card and of the wire that this test moved, by end."""
        found = {}
        for end, counters in self.after.items():
            before = self.counters.get(end, {})
            moved = {
                name: value - before.get(name, 0)
                for name, value in counters.items()
                if isinstance(value, int | float) and value != before.get(name, 0)
            }
            if moved:
                found[end] = moved
        return found


def _meant(text: str, expected: Sequence[str]) -> bool:
    return any(re.search(pattern, text) for pattern in expected)


def log_since(path: Path, offset: int) -> list[str]:
    """The lines a log grew by."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(offset if path.stat().st_size >= offset else 0)
        return file.read().decode(errors="replace").splitlines()


def leftovers(session: Session) -> None:
    """Clear what can be cleared without a new guest: namespaces that a failed test did not destroy."""
    session.agent.call(namespaces.clear)

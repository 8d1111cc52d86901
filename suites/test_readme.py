"""README.md tells the truth: what it shows is run as it stands there."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from lab import process
from lab.deadline import scaled
from suites.session import Session

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(heading: str, language: str, number: int = 0) -> str:
    """A fenced block of README.md below a heading."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(found[number])


def test_a_packet_answered_from_a_namespace(session: Session, defer: Callable[..., None]) -> None:
    """The first packet of a reader: a namespace made by hand in the guest answers scapy on the wire."""
    heading = "A packet of your own, answered from a namespace"
    inside = block(heading, "sh", 1)
    defer(session.agent.exec, ["ip", "netns", "del", "blue"])
    for line in inside.splitlines():
        if line.startswith("ip "):
            session.agent.exec(line.split())
    script = block(heading, "python")
    script = script.replace("Lab.attach()", f"Lab.attach({session.lab.name!r})")
    done = process.run([sys.executable, "-c", script], deadline=scaled(30), name="README's script", cwd=ROOT)
    assert "10.9.0.1" in done.stdout and "echo-reply" in done.stdout


def test_an_accelerated_program(session: Session, defer: Callable[..., None]) -> None:
    """N5: what README.md does with `exasock` in front of a server and a client sends and receives past the
    kernel, and exasock-stat says so."""
    defer(session.agent.exec, ["sh", "-c", "ip netns del red; ip netns del blue; true"])
    done = session.agent.exec(
        ["sh", "-c", block("Accelerate a program", "sh")], timeout=scaled(30), check=False
    )
    rows = [line.split() for line in done.stdout.splitlines() if ":7000" in line]
    assert len(rows) == 2, done.stdout + done.stderr
    for row in rows:
        _pid, _program, _netns, _local, _peer, received, _, sent, _ = row
        assert int(received) > 50 and int(sent) > 50, done.stdout


def test_the_test_of_your_own() -> None:
    """The test that README.md shows is suites/test_example.py, which runs with the others."""
    shown = block("A test of your own", "python")
    real = (ROOT / "suites/test_example.py").read_text()
    assert shown.strip() in real

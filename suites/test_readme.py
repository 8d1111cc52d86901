"""The documents tell the truth: what they show is run as it stands there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import api, process
from lab.deadline import scaled
from suites.session import Session

ROOT = Path(__file__).resolve().parent.parent
#: The lab of another repository's tests.
OTHER = "elsewhere"


def block(document: str, heading: str, language: str, number: int = 0) -> str:
    """A fenced block of a document below a heading."""
    text = "\n" + (ROOT / document).read_text()
    section = re.split(rf"\n##? {re.escape(heading)}\n", text, maxsplit=1)[1].split("\n## ", 1)[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(found[number])


def test_a_packet_answered_from_a_namespace(session: Session, defer: Callable[..., None]) -> None:
    """The first packet of a reader: a namespace made by hand in the guest answers scapy on the wire."""
    heading = "One packet"
    inside = block("README.md", heading, "sh", 1)
    defer(session.agent.exec, ["ip", "netns", "del", "blue"])
    for line in inside.splitlines():
        if line.startswith("ip "):
            session.agent.exec(line.split())
    script = block("README.md", heading, "python")
    script = script.replace("Lab.attach()", f"Lab.attach({session.lab.name!r})")
    done = process.run([sys.executable, "-c", script], deadline=scaled(30), name="README's script", cwd=ROOT)
    assert "10.9.0.1" in done.stdout and "echo-reply" in done.stdout


def test_an_accelerated_program(session: Session, defer: Callable[..., None]) -> None:
    """N5: what README.md does with `exasock` in front of a server and a client sends and receives past the
    kernel, and exasock-stat says so."""
    defer(session.agent.exec, ["sh", "-c", "ip netns del red; ip netns del blue; true"])
    done = session.agent.exec(
        ["sh", "-c", block("README.md", "One accelerated program", "sh")], timeout=scaled(30), check=False
    )
    rows = [line.split() for line in done.stdout.splitlines() if ":7000" in line]
    assert len(rows) == 2, done.stdout + done.stderr
    for row in rows:
        _pid, _program, _netns, _local, _peer, received, _, sent, _ = row
        assert int(received) > 50 and int(sent) > 50, done.stdout


@pytest.mark.card("emulated")
def test_another_repository(tmp_path: Path) -> None:
    """The example of another repository brings up a lab of its own, and its test passes on it through the
    kernel's sockets and through exasock."""
    for path in (ROOT / "docs/examples/another-repository").glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        done = process.run(
            [sys.executable, "-m", "pytest", "--lab", OTHER, "-v"],
            deadline=scaled(90),
            name="the other repository's tests",
            cwd=tmp_path,
            env=environment,
            check=False,
        )
    finally:
        api.down(OTHER)
    assert re.search(r"\b2 passed\b", done.stdout), done.stdout + done.stderr


def test_the_test_of_your_own() -> None:
    """The test that a how-to shows is suites/test_example.py, which runs with the others."""
    shown = block("docs/how-to/a-test.md", "Write a test", "python")
    real = (ROOT / "suites/test_example.py").read_text()
    assert shown.strip() in real

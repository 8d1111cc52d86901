"""``--shell-on-error``: where a test fails, the lab stands still, and a person looks around in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import pytest

from lab.api import Lab
from suites.topology import Topology


def in_the_lab(item: pytest.Item, lab: Lab, topology: Topology | None, why: str, bundle: Path) -> None:
    """Say how to get in; open a shell in the guest when there is a terminal, and go on when it is left."""
    # A person needs longer than a test may take.
    if hasattr(item.config.hook, "pytest_timeout_cancel_timer"):
        item.config.hook.pytest_timeout_cancel_timer(item=item)
    capture = item.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        sys.stdout.write("\n" + told(item.nodeid, lab.name, topology, why, bundle))
        open_shell(lab.ssh, sys.stdin, sys.stdout)


def told(test: str, lab: str, topology: Topology | None, why: str, bundle: Path) -> str:
    """Where it stopped, what stands, and how to get in from anywhere."""
    names = [one.netns for one in topology.namespaces if one.netns] if topology is not None else []
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    reason = why.strip().splitlines()[0] if why.strip() else "no reason given"
    lines = [
        f"stopped in lab {lab}: {test}",
        f"  {reason}",
        *(f"  {line}".rstrip() for line in (str(topology).splitlines() if topology is not None else ())),
        f"  bundle      {bundle}",
        f"  get in      .venv/bin/python -m lab --name {lab} shell",
        *([f"  namespaces  {shown}: ip netns exec {names[0]} ..."] if names else []),
        f"  the wire    .venv/bin/python -m lab --name {lab} card --help",
    ]
    return "\n".join(lines) + "\n"


def open_shell(argv: Sequence[str], stdin: TextIO, stdout: TextIO) -> bool:
    """Whether a person was there. Without a terminal at both ends nobody is: say so, and go on."""
    try:
        person = stdin.isatty() and stdout.isatty()
    except ValueError:  # closed
        person = False
    if not person:
        stdout.write(
            "  no terminal here, so nobody to wait for: the run goes on and takes this away;"
            " `lab replay` brings the bundle's topology up again\n"
        )
        stdout.flush()
        return False
    stdout.write("  a shell in the guest; `exit` goes on with the run\n")
    stdout.flush()
    subprocess.run(list(argv), stdin=stdin, check=False)
    stdout.write("  going on\n")
    stdout.flush()
    return True

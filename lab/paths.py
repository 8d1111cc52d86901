"""Where everything lives: one object per lab name, so that no other file composes a path."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,15}")


def out() -> Path:
    """Artifacts of this checkout; never under version control."""
    return ROOT / "out"


def images() -> Path:
    """Built images: ``dut/``, ``tools/``, ``builder/``."""
    return out() / "images"


def cache() -> Path:
    """Downloads, shared by all checkouts of this user: ``$EXALAB_CACHE`` or ``~/.cache/exalab``."""
    given = os.environ.get("EXALAB_CACHE")
    return Path(given) if given else Path.home() / ".cache/exalab"


def run_base() -> Path:
    """Sockets and locks of this checkout, under a short path: a unix socket's name has 107 bytes at most."""
    base = Path(os.environ.get("EXALAB_RUN") or "/run/exalab")
    return base / hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:8]


@dataclass(frozen=True)
class Paths:
    """The paths of one lab. ``name``: lower case, digits, ``-`` and ``_``, at most 16 characters."""

    name: str = "lab"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LabError(
                f"{self.name!r} cannot name a lab",
                hint="use up to 16 lower-case letters, digits, '-' and '_': `make lab-up LAB=two`",
            )

    @property
    def root(self) -> Path:
        return ROOT

    @property
    def out(self) -> Path:
        """Kept after the lab is down: logs, captures, state, drawing."""
        return out() / "labs" / self.name

    @property
    def run(self) -> Path:
        """Gone when the lab is down: sockets, the ssh key."""
        return run_base() / self.name

    @property
    def lock(self) -> Path:
        """Held while somebody starts or stops this lab."""
        return self.out / ".lock"

    @property
    def alive(self) -> Path:
        """Held by the supervisor while it lives."""
        return self.out / ".alive"

    # What is kept.
    @property
    def state(self) -> Path:
        return self.out / "state.json"

    @property
    def spec(self) -> Path:
        """What cardd serves (``lab.cardd.spec``)."""
        return self.out / "spec.json"

    @property
    def capture(self) -> Path:
        return self.out / "capture"

    @property
    def trace(self) -> Path:
        return self.out / "trace"

    @property
    def drawing(self) -> Path:
        return self.out / "topology.svg"

    @property
    def serial_log(self) -> Path:
        return self.out / "serial.log"

    @property
    def qemu_log(self) -> Path:
        return self.out / "qemu.log"

    @property
    def host_log(self) -> Path:
        """Of the connection to a machine under test that is reached over SSH."""
        return self.out / "host.log"

    @property
    def cardd_log(self) -> Path:
        return self.out / "cardd.log"

    @property
    def plan(self) -> Path:
        """What the supervisor starts (``lab.supervisor.Plan``)."""
        return self.out / "plan.json"

    @property
    def supervisor_log(self) -> Path:
        return self.out / "supervisor.log"

    # What lives as long as the lab.
    @property
    def agent(self) -> Path:
        """The guest agent's virtio-serial port."""
        return self.run / "agent.sock"

    @property
    def serial(self) -> Path:
        """The guest's console, for a person."""
        return self.run / "serial.sock"

    @property
    def instructions(self) -> Path:
        """How many the guest has executed (``lab.machine.counting``)."""
        return self.run / "instructions.sock"

    @property
    def control(self) -> Path:
        """cardd's control API."""
        return self.run / "cardd.sock"

    @property
    def supervisor(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def testers(self) -> Path:
        """Directory of the tester sockets, ``NAME.sock`` each."""
        return self.run / "testers"

    @property
    def ssh_key(self) -> Path:
        return self.run / "ssh_key"

    def card(self, name: str) -> Path:
        """The vfio-user socket of card ``name``."""
        return self.run / f"{name}.sock"

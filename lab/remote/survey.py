"""What a machine reached over SSH is and has. Runs *there*, carried by the agent; changes nothing.

Standard library only, besides the modules of ``MODULES`` that are carried with it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.real import verdict
from lab.real.host import Host

JOURNAL = Path("/var/lib/exalab/host.json")
MODULES = ("exanic", "exasock")
PACKAGES = ("exanic-dkms", "exasock-dkms", "exasock")
LIBRARY = Path("/usr/lib/exasock/libexasock_preload.so")
SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
KEY = Path("/var/lib/dkms/mok.pub")


def _run(*argv: str) -> tuple[int, str]:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return 127, ""
    return done.returncode, (done.stdout or done.stderr).strip()


def _release() -> dict[str, str]:
    """os-release(5)."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def kernel() -> str:
    """The kernel that runs, as DKMS asks for it."""
    return _run("uname", "-r")[1]


def _journal() -> dict[str, Any] | None:
    """What was applied: {"digest", "by"}; digest is empty when it was not finished. None: nothing."""
    try:
        told = json.loads(JOURNAL.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {"digest": "", "by": "?", "broken": True}
    return {"digest": told.get("digest", ""), "by": told.get("by", "?")}


def _module(name: str, release: str) -> str | None:
    """The file of a module of this kernel."""
    status, said = _run("modinfo", "-k", release, "-F", "filename", name)
    return said if status == 0 and said.startswith("/") else None


def _secure_boot() -> dict[str, bool]:
    """``on``: the firmware's word; ``enrolled``: it knows the key that DKMS signs with."""
    try:
        on = SECURE_BOOT.read_bytes()[-1:] == b"\x01"
    except OSError:
        on = False
    enrolled = on and KEY.exists() and "is already enrolled" in _run("mokutil", "--test-key", str(KEY))[1]
    return {"on": on, "enrolled": enrolled}


def _package(name: str) -> str | None:
    """The version of a package that is installed."""
    status, said = _run("dpkg-query", "--show", "--showformat=${Version} ${db:Status-Status}", name)
    return said.split()[0] if status == 0 and said.endswith(" installed") else None


def _told(question: Callable[[], object]) -> dict[str, str | None] | None:
    """What speaks against it; None when nothing does."""
    try:
        question()
    except LabError as problem:
        return {"message": problem.message, "hint": problem.hint}
    return None


def _card(host: Host, address: str) -> dict[str, Any]:
    """A card: its model, and what keeps a lab from having it."""
    found: dict[str, Any] = {"pci": address, "model": None, "driver": None}
    against = _told(lambda: found.update(model=verdict.is_card(host, address).model))
    if against is None:
        device = verdict.is_card(host, address)
        found["driver"] = device.driver
        against = _told(lambda: verdict.unused(host, device))
    return {**found, "against": against}


def _users(host: Host) -> list[tuple[int, str]]:
    """Processes with accelerated sockets."""
    return list(host.users("/dev/exasock"))


def look(cards: Sequence[str] = ()) -> dict[str, Any]:
    """Everything, in one call. ``cards``: PCI addresses."""
    host = Host()
    release, running = _release(), kernel()
    version = re.match(r"[0-9.]*", release.get("VERSION_ID", ""))
    return {
        "id": release.get("ID", "?"),
        "version": version[0] if version else "",
        "name": release.get("PRETTY_NAME", "an unknown system"),
        "lts": "LTS" in release.get("VERSION", ""),
        "kernel": running,
        "architecture": platform.machine(),
        "uid": os.geteuid(),
        "headers": Path("/lib/modules", running, "build/Makefile").exists(),
        "virtual": _run("systemd-detect-virt", "--vm")[1],
        "journal": _journal(),
        "modules": {name: _module(name, running) for name in MODULES},
        "loaded": [name for name in MODULES if Path("/sys/module", name).exists()],
        "library": LIBRARY.exists(),
        "packages": {name: _package(name) for name in PACKAGES},
        "secure_boot": _secure_boot(),
        "cards": [_card(host, address) for address in cards],
        "users": _users(host),
    }


def uid() -> int:
    """Whose the agent is."""
    return os.geteuid()

"""The driver's DKMS package: same sources, same bytes; everything its build needs is inside."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from images import build, dkms

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the builder image needs root"),
    pytest.mark.skipif(build.current("builder") is None, reason="no up-to-date builder image (make images)"),
]


def test_reproducible_and_complete() -> None:
    """dkms.conf, the Makefile, every source and header."""
    first = dkms.package()
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    assert hashlib.sha256(dkms.package().read_bytes()).hexdigest() == digest
    listed = subprocess.run(
        ["dpkg-deb", "--contents", str(first)], capture_output=True, text=True, check=True
    )
    names = {line.split()[5].split("/", 4)[-1] for line in listed.stdout.splitlines() if "/usr/src/" in line}
    assert {
        "dkms.conf",
        "exanic/Makefile",
        "exanic/Kbuild",
        "exanic/main.c",
        "include/exanic_regs.h",
    } <= names

"""How many instructions the guest has executed: QEMU counts them (``counting.c``), TCG only.

A cost in instructions does not depend on what else runs on the host, as one in time does.
"""

from __future__ import annotations

import socket
from pathlib import Path

from lab import native
from lab.errors import LabError
from lab.paths import Paths

HERE = Path(__file__).resolve().parent
SECONDS = 10.0


def plugin() -> Path:
    """The plugin for QEMU, compiled unless it is there already. Raises ``LabError``."""
    try:
        return native.shared_object("counting.so", [HERE / "counting.c"], flags=(*native.FLAGS, "-pthread"))
    except native.NativeError as problem:
        raise LabError(str(problem)) from problem


def executed(paths: Paths) -> int:
    """Instructions that the guest of a lab has executed since it was booted, on all its processors.

    Raises ``LabError`` when they are not counted.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(SECONDS)
        try:
            sock.connect(str(paths.instructions))
            with sock.makefile() as told:
                return int(told.readline())
        except (OSError, ValueError) as problem:
            raise LabError(
                f"the instructions of lab {paths.name} cannot be read: {problem}",
                hint="count_instructions = true in [machine] of lab/lab.toml, and make lab-up",
            ) from problem

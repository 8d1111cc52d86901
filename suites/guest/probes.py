"""How often a kernel function is called, by a kprobe. Runs *in the guest*."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
GROUP = "exalab"


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # truncating would end others' probes
    try:
        os.write(fd, text.encode("ascii") + b"\n")
    finally:
        os.close(fd)


def _instance(function: str) -> Path:
    return TRACING / "instances" / f"{GROUP}_{function}"


def _event(function: str) -> Path:
    return _instance(function) / "events" / GROUP / function


def able() -> bool:
    """Whether this kernel has kprobes; those that report (KERNEL=kasan, ...) are built without."""
    if not (TRACING / "kprobe_events").exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=False)
    return (TRACING / "kprobe_events").exists()


def start(function: str, everybody: bool = True) -> None:
    """Count the calls of a kernel function from now on: by ``everybody``, or by this thread alone."""
    if not able():
        raise FileNotFoundError(f"{TRACING / 'kprobe_events'}: this kernel has no kprobes")
    _write(TRACING / "kprobe_events", f"p:{GROUP}/{function} {function}")
    _instance(function).mkdir()
    if not everybody:
        _write(_event(function) / "filter", f"common_pid == {threading.get_native_id()}")
    _write(_event(function) / "enable", "1")


def stop(function: str) -> int:
    """How often it was called since ``start``."""
    _write(_event(function) / "enable", "0")
    lines = (_instance(function) / "trace").read_text(encoding="ascii").splitlines()
    _instance(function).rmdir()
    _write(TRACING / "kprobe_events", f"-:{GROUP}/{function}")
    return sum(not line.startswith("#") for line in lines)

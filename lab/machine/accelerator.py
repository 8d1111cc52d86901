"""Which accelerator works here, found out by booting: a /dev/kvm that exists may still fail, or hang.

The kernel of the lab is booted with KVM and the smallest first process (:mod:`lab.machine.probe_init`), which
makes QEMU end with a known status. Anything else (an internal error, a panic, silence) is the reason for TCG.
The answer is kept in ``out/accelerator.json`` until the kernel, QEMU, the host's kernel or the number of CPUs
change.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import console, paths
from lab.errors import LabError
from lab.machine import command
from lab.machine.probe_init import initramfs
from lab.machine.qmp import Qmp
from lab.machine.sandbox import Bind, tools_argv
from lab.process import Process, spawn, tail
from lab.replacing import replacing

#: Real seconds: KVM boots a kernel in one; a busy machine is given thirty.
PROBE_SECONDS = 30.0
#: Real seconds within which a kernel that runs at all has said its first word, usually a tenth of one.
SILENT_SECONDS = 8.0
CHOICE = "EXALAB_ACCELERATOR"


@dataclass(frozen=True)
class Found:
    """The accelerator in use, and why, in words for people."""

    name: command.Accelerator
    reason: str


@dataclass(frozen=True)
class Images:
    """What the probe depends on. ``identity`` changes when kernel or QEMU do (the images' digests)."""

    tools: Path
    kernel: Path
    identity: str


def find(images: Images, cpus: int, wanted: str = "auto", kvm: Path = Path("/dev/kvm")) -> Found:
    """The accelerator to use; boots at most once per kernel, QEMU and host boot.

    ``wanted``: ``auto``, ``kvm`` or ``tcg`` (the environment variable EXALAB_ACCELERATOR overrides it).
    Raises ``LabError`` when KVM was asked for and does not work.
    """
    wanted = os.environ.get(CHOICE, wanted)
    if wanted not in ("auto", "kvm", "tcg"):
        raise LabError(f"there is no accelerator {wanted!r}", hint="auto, kvm or tcg")
    if wanted == "tcg":
        return Found("tcg", "asked for")
    refused = _refused(kvm)
    found = Found("tcg", refused) if refused else _cached(images, cpus)
    if wanted == "kvm" and found.name != "kvm":
        raise LabError(f"KVM does not work here: {found.reason}", hint="use the accelerator auto or tcg")
    return found


def _refused(kvm: Path) -> str | None:
    """Why KVM cannot even be tried, or None."""
    if not kvm.exists():
        return f"there is no {kvm} (no hardware virtualization, or its module is not loaded)"
    try:
        os.close(os.open(kvm, os.O_RDWR | os.O_CLOEXEC))
    except OSError as problem:
        return f"{kvm} cannot be opened: {problem.strerror}"
    return None


def _cached(images: Images, cpus: int) -> Found:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    key = hashlib.sha256("\0".join((images.identity, str(cpus), boot)).encode()).hexdigest()
    cache = paths.out() / "accelerator.json"
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        if known["key"] == key:
            return Found(known["name"], known["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or not ours: find out
    found = probe(images, cpus)
    with replacing(cache) as fresh:
        fresh.write_text(json.dumps({"key": key, **asdict(found)}, indent=2) + "\n", encoding="utf-8")
    return found


def probe(images: Images, cpus: int) -> Found:
    """Boot with KVM and see."""
    with (
        console.step("trying KVM by booting a kernel"),
        tempfile.TemporaryDirectory(prefix="exalab-") as name,
    ):
        problem = asyncio.run(_boot(images, cpus, Path(name)))
    if problem is None:
        return Found("kvm", "a kernel boots with it")
    return Found("tcg", f"/dev/kvm is there, but {problem}")


async def _boot(images: Images, cpus: int, scratch: Path) -> str | None:
    """None when the guest's user space ran, else what happened instead."""
    initrd = scratch / "probe.cpio"
    initrd.write_bytes(initramfs())
    serial, log = scratch / "serial.log", scratch / "qemu.log"
    machine = command.Machine(
        kernel=images.kernel, initrd=initrd, accelerator="kvm", cpus=cpus, serial_log=serial
    )
    ours, theirs = Qmp.pair()
    with ours, theirs:
        argv = tools_argv(
            images.tools,
            command.probe_argv(machine, theirs.fileno()),
            (Bind(scratch, writable=True), Bind(images.kernel)),
        )
        process = spawn(argv, name="qemu (probe)", log=log, pass_fds=[theirs.fileno()])
        theirs.close()
        with process:
            return await _outcome(process, ours, serial, log)


async def _outcome(process: Process, ours: socket.socket, serial: Path, log: Path) -> str | None:
    qmp = Qmp("probe")
    loop = asyncio.get_running_loop()
    death = asyncio.Event()
    loop.add_reader(process.fileno(), death.set)
    ended = asyncio.ensure_future(death.wait())

    async def broken() -> str:
        await qmp.connect(ours)
        return await qmp.broken()

    trouble = asyncio.ensure_future(broken())
    try:
        silent = SILENT_SECONDS
        for seconds in (SILENT_SECONDS, PROBE_SECONDS - SILENT_SECONDS):
            done, _ = await asyncio.wait(
                (ended, trouble), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if done or not tail(serial):
                break
            silent = PROBE_SECONDS
        if not ended.done() and trouble.done() and trouble.exception() is not None:
            # The control connection closes a moment before the process is gone.
            await asyncio.wait((ended,), timeout=2.0)
        if ended.done():
            return verdict(process.poll(), tail(serial), tail(log))
        if trouble.done() and trouble.exception() is None:
            why = _first(log, "error") or "no reason given"
            return f"the guest stops with {trouble.result()} ({why})"
        return f"the guest hangs (not at its first process after {silent:.0f} s)"
    finally:
        loop.remove_reader(process.fileno())
        trouble.cancel()
        ended.cancel()
        await asyncio.gather(trouble, ended, return_exceptions=True)
        await qmp.close()


def verdict(returncode: int | None, serial: str, log: str) -> str | None:
    """What the end of the probe's QEMU means: None is success."""
    if returncode == command.PROBE_PASSED:
        return None
    if "Kernel panic" in serial:
        return "the guest's kernel panics with it"
    lines = [line for line in log.splitlines() if "warning:" not in line]
    return f"QEMU ends with status {returncode}" + (f" ({lines[-1]})" if lines else "")


def _first(log: Path, word: str) -> str:
    """The first line of the log that has ``word``."""
    for line in tail(log, 200).splitlines():
        if word in line:
            return line.strip()
    return ""

"""A machine of its own with an IOMMU, and a PCI device of QEMU's own in the place of a card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab import errors, paths, process
from lab.api import Lab
from lab.deadline import Deadline, scaled
from lab.guest.client import Agent
from lab.machine import command
from lab.machine.qmp import Qmp
from lab.machine.sandbox import Bind, tools_argv
from lab.real import borrowed, card, device, host, journal, tester, used, verdict
from suites.real import guest_trial

#: In the order in which they need each other.
MODULES = (errors, host, device, verdict, journal, card, tester, used, borrowed, guest_trial)
#: An Intel 82574L of QEMU's.
VENDOR, DEVICE = 0x8086, 0x10D3
#: The IOMMU comes before what it is to guard.
_IOMMU = ("-device", "intel-iommu")


def _devices(shared: bool) -> tuple[str, ...]:
    """The device behind a port of its own; ``shared``: beside a second one, as a function of the same
    device.
    """
    found = [*command.device("pcie-root-port", id="trial.slot", bus="pcie.0", addr="0x18", chassis=9, slot=9)]
    more = {"multifunction": True} if shared else {}
    found += command.device(
        "e1000e", bus="trial.slot", addr="0x0", romfile="", mac="52:54:00:7e:57:00", **more
    )
    if shared:
        found += command.device(
            "e1000e", bus="trial.slot", addr="0x0.0x1", romfile="", mac="52:54:00:7e:57:01"
        )
    return tuple(found)


@contextmanager
def booted(lab: Lab, folder: Path, *, shared: bool = False) -> Iterator[Agent]:
    """The machine, of the lab's images; its agent, with what it needs loaded. Gone afterwards."""
    images = paths.images()
    socket = lab.paths.run / "trial.sock"
    socket.unlink(missing_ok=True)
    machine = command.Machine(
        kernel=images / "dut/vmlinux",
        initrd=images / "dut/initrd.img",
        root=images / "dut/root.erofs",
        accelerator="kvm" if lab.accelerator.name == "kvm" else "tcg",
        memory=512,
        agent=socket,
        serial_log=folder / "serial.log",
        arguments=("intel_iommu=on",),
        name="trial",
        first=_IOMMU,
        extra=_devices(shared),
    )
    ours, theirs = Qmp.pair()
    with ExitStack() as stack:
        stack.enter_context(ours)
        with theirs:
            binds = (Bind(lab.paths.run, writable=True), Bind(folder, writable=True), Bind(images / "dut"))
            argv = tools_argv(images / "tools/root", command.qemu_argv(machine, theirs.fileno()), binds)
            qemu = process.spawn(argv, name="qemu", log=folder / "qemu.log", pass_fds=[theirs.fileno()])
        stack.callback(socket.unlink, missing_ok=True)
        stack.callback(qemu.stop)
        Deadline("the trial's machine to listen", scaled(6)).wait_until(socket.exists, watch=[qemu])
        agent = stack.enter_context(Agent(socket, timeout=scaled(15)))
        agent.load(*MODULES)
        agent.exec(["modprobe", "e1000e"], timeout=scaled(6))
        yield agent

"""The virtual machine as data, and QEMU's command line made from it.

What and why, beyond the obvious: guest memory is a shared memfd, so that the card can reach it; no HPET and a
reliable TSC, because the watchdog of the clock source gives up under emulation; no option ROMs (direct kernel
boot); each card behind a root port of its own, so that it can be pulled and plugged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Accelerator = Literal["kvm", "tcg"]
Profile = Literal["fast", "systemd"]

#: PCI device number of the first card's root port on bus 0; the other cards' follow.
FIRST_SLOT = 0x10
#: Name of the virtio-serial port the agent reads.
AGENT_PORT = "exalab.agent"
MANAGEMENT_MAC = "52:54:00:e8:00:01"
#: QEMU's status when the guest writes PASSED to the debug-exit port: (value << 1) | 1.
PROBE_PORT, PROBE_VALUE = 0xF4, 0x10
PROBE_PASSED = (PROBE_VALUE << 1) | 1
#: Milliseconds that QEMU waits for cardd's answer; one that has ended it notices at once.
CARD_PATIENCE = 120_000


@dataclass(frozen=True)
class CardSlot:
    """A vfio-user card: its name is the QEMU device id, its root port is ``NAME.slot``."""

    name: str
    socket: Path


@dataclass(frozen=True)
class RealSlot:
    """A card of this machine, held by vfio-pci: by its PCI address there. Otherwise as :class:`CardSlot`."""

    name: str
    pci: str


@dataclass(frozen=True)
class Machine:
    """One virtual machine. ``memory`` in MiB; sockets are made by QEMU, except the cards' and QMP's.

    ``tsc_khz``: what to tell the guest's kernel about its time stamp counter (``lab.machine.tsc``).
    ``counting``: the plugin that counts instructions, and the socket at which it tells them.
    ``together``: the lab is gathered on one processor (``lab.placement``). ``first`` and ``extra``: of the
    command line, before all other devices and after them.
    """

    kernel: Path
    initrd: Path
    accelerator: Accelerator
    cpus: int = 2
    memory: int = 1024
    root: Path | None = None
    profile: Profile = "fast"
    cards: tuple[CardSlot | RealSlot, ...] = ()
    agent: Path | None = None
    serial: Path | None = None
    serial_log: Path | None = None
    management: bool = True
    tsc_khz: int | None = None
    together: bool = False
    hugepages: bool = False
    counting: tuple[Path, Path] | None = None
    arguments: tuple[str, ...] = ()
    name: str = "lab"
    first: tuple[str, ...] = ()
    extra: tuple[str, ...] = field(default=(), repr=False)


def kernel_arguments(machine: Machine) -> str:
    """The kernel command line."""
    words = ["console=ttyS0", "panic=-1", "tsc=reliable", f"exalab.profile={machine.profile}"]
    if machine.accelerator != "kvm":
        # An emulated processor does not speculate; what guards against it costs a return per indirect call.
        words.append("mitigations=off")
        # Its processors stand still for milliseconds: a process that spins then has not left.
        words += ["exasock.hold_us=50000", "exasock.fresh_us=50000"]
    if machine.tsc_khz is not None:
        words.append(f"tsc_early_khz={machine.tsc_khz}")
    return " ".join([*words, *machine.arguments])


def device(driver: str, **properties: Any) -> list[str]:
    """``-device`` in QEMU's JSON form; underscores in names become dashes."""
    plain = {name.replace("_", "-"): value for name, value in properties.items() if value is not None}
    return ["-device", json.dumps({"driver": driver, **plain})]


def card_device(card: CardSlot | RealSlot) -> dict[str, Any]:
    """The card as an argument of ``-device`` and of QMP's ``device_add`` alike."""
    if isinstance(card, RealSlot):
        return {
            "driver": "vfio-pci",
            "id": card.name,
            "bus": f"{card.name}.slot",
            "rombar": 0,
            "host": card.pci,
        }
    return {
        "driver": "vfio-user-pci",
        "id": card.name,
        "bus": f"{card.name}.slot",
        "rombar": 0,
        # An access that QEMU gives up on reads all ones, and its answer, when it comes, ends the connection:
        # a host that stops cardd for five seconds, QEMU's default, would take the card from the guest.
        "x-msg-timeout": CARD_PATIENCE,
        "socket": {"type": "unix", "path": str(card.socket)},
    }


def qemu_argv(machine: Machine, qmp_fd: int | str) -> list[str]:
    """QEMU's command line. ``qmp_fd``: our end's peer, inherited by QEMU."""
    if machine.accelerator == "kvm":
        accelerator, cpu = "kvm", "host"
    else:
        # Without "fast string" flags the kernel copies by words: emulated, `rep movsb` goes byte by byte, and
        # copying was most of what the guest did (TCP over its loopback: 0.28 Gbit/s with, 2.4 without).
        # On one processor the guest's processors take turns in one thread. With a thread each, one that
        # waits for a spin lock keeps the one that holds it from running, for a time slice of the host's, and
        # both queue for QEMU's own lock behind every doorbell.
        threads = "single" if machine.together else "multi"
        accelerator, cpu = f"tcg,thread={threads}", "max,erms=off,fsrm=off"
    huge = ",hugetlb=on,hugetlbsize=2M" if machine.hugepages else ""
    argv = [
        "qemu-system-x86_64",
        "-name", machine.name,
        "-nodefaults", "-no-user-config",
        "-display", "none",
        "-machine", "q35,hpet=off,smm=off,usb=off,vmport=off,sata=off,memory-backend=memory",
        "-accel", accelerator,
        "-cpu", cpu,
        "-smp", str(machine.cpus),
        "-m", f"{machine.memory}M",
        "-object", f"memory-backend-memfd,id=memory,size={machine.memory}M,share=on{huge}",
        "-rtc", "base=utc",
        # A guest that panics or reboots ends: the supervisor reports it, and starts a new one when asked.
        "-no-reboot",
        "-kernel", str(machine.kernel),
        "-initrd", str(machine.initrd),
        "-append", kernel_arguments(machine),
        "-chardev", f"socket,id=qmp,fd={qmp_fd}",
        "-object", "monitor-qmp,id=control,chardev=qmp",
    ]  # fmt: skip
    if machine.counting is not None:
        plugin, told = machine.counting
        argv += ["-plugin", f"file={plugin},socket={told}"]
    argv += machine.first
    argv += _serial(machine)
    if machine.root is not None:
        # The image is never written: no locks, so that several labs share it.
        file = {"driver": "file", "filename": str(machine.root), "read-only": True, "locking": "off"}
        argv += [
            "-blockdev",
            json.dumps({"driver": "raw", "node-name": "root", "read-only": True, "file": file}),
        ]
        argv += device("virtio-blk-pci", drive="root", serial="root", bus="pcie.0")
    if machine.agent is not None:
        argv += ["-chardev", f"socket,id=agent,path={machine.agent},server=on,wait=off"]
        argv += device("virtio-serial-pci", id="agentbus", bus="pcie.0")
        argv += device("virtserialport", bus="agentbus.0", chardev="agent", name=AGENT_PORT)
    if machine.management:
        # Port 0: the kernel picks a free one, and QEMU is asked which (no race with another lab).
        argv += ["-netdev", "user,id=mgmt,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22"]
        argv += device("virtio-net-pci", netdev="mgmt", mac=MANAGEMENT_MAC, bus="pcie.0", rombar=0)
    argv += ["-object", "rng-random,id=random,filename=/dev/urandom"]
    argv += device("virtio-rng-pci", rng="random", bus="pcie.0")
    for number, card in enumerate(machine.cards):
        argv += device(
            "pcie-root-port",
            id=f"{card.name}.slot",
            bus="pcie.0",
            addr=f"{FIRST_SLOT + number:#x}",
            chassis=number + 1,
            slot=number + 1,
        )
        argv += ["-device", json.dumps(card_device(card))]
    return [*argv, *machine.extra]


def _serial(machine: Machine) -> list[str]:
    """The console: always logged, and open to one person at a time where it has a socket."""
    if machine.serial is not None:
        log = f",logfile={machine.serial_log},logappend=off" if machine.serial_log else ""
        return [
            "-chardev",
            f"socket,id=serial,path={machine.serial},server=on,wait=off{log}",
            "-serial",
            "chardev:serial",
        ]
    if machine.serial_log is not None:
        return ["-serial", f"file:{machine.serial_log}"]
    return ["-serial", "null"]


def probe_argv(machine: Machine, qmp_fd: int | str) -> list[str]:
    """The same machine without any device, for the accelerator's probe."""
    bare = Machine(
        kernel=machine.kernel,
        initrd=machine.initrd,
        accelerator=machine.accelerator,
        cpus=machine.cpus,
        memory=256,
        serial_log=machine.serial_log,
        management=False,
        arguments=("earlyprintk=ttyS0,115200",),
        name="probe",
        extra=tuple(device("isa-debug-exit", iobase=PROBE_PORT, iosize=4)),
    )
    return qemu_argv(bare, qmp_fd)

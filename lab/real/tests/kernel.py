"""A machine on disk whose files behave as the kernel's: driver_override, bind, unbind, drivers_probe,
interfaces.

The tree outlives the process that changes it, as a kernel does: a test forks, lets the child die in the
middle, and goes on with what it left.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.real.device import VFIO
from lab.real.host import Host

CARD = "0000:3b:00.0"


class Kernel(Host):
    """A made-up machine under ``root``. ``die_at``: the change that this process does not survive; ``half``:
    it dies before that change rather than after it.
    """

    def __init__(self, root: Path, die_at: int | None = None, half: bool = False) -> None:
        super().__init__(root / "sys", root / "proc")
        self.root = root
        self.changes = 0
        self._die_at, self._half = die_at, half

    # the machine

    def build(self, *, iommu: bool = True, vfio: bool = True, intel: bool = True) -> Kernel:
        """A machine with one card, which exanic drives, both of its ports up or down as real ones."""
        (self.proc / "sys/kernel/random").mkdir(parents=True)
        (self.proc / "sys/kernel/random/boot_id").write_text("boot-1\n")
        (self.proc / "cpuinfo").write_text(
            "vendor_id : GenuineIntel\n" if intel else "vendor_id : AuthenticAMD\n"
        )
        (self.sys / "class/net").mkdir(parents=True)
        (self.pci / "devices").mkdir(parents=True)
        (self.sys / "kernel/iommu_groups").mkdir(parents=True)
        (self.pci / "drivers_probe").write_text("")
        for name in ("exanic", "nvme", "pcieport", *((VFIO,) if vfio else ())):
            self.load(name)
        self.add("0000:3a:00.0", 0x8086, 0x2030, "pcieport", "0x060400", "17" if iommu else None)
        self.add(CARD, 0x1CE4, 0x0009, "exanic", "0x020000", "17" if iommu else None)
        self.netdev(CARD, "enp59s0f0", 0, up=True, mtu=9000)
        self.netdev(CARD, "enp59s0f1", 1, up=False, mtu=1500)
        return self

    def load(self, name: str) -> None:
        folder = self.pci / "drivers" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("bind", "unbind"):
            (folder / file).write_text("")

    def add(
        self, address: str, vendor: int, device: int, driver: str | None, kind: str, group: str | None
    ) -> None:
        folder = self.device(address)
        folder.mkdir()
        for name, text in (("vendor", f"{vendor:#06x}"), ("device", f"{device:#06x}"), ("class", kind)):
            (folder / name).write_text(text + "\n")
        (folder / "driver_override").write_text("(null)\n")
        if group is not None:
            members = self.sys / "kernel/iommu_groups" / group / "devices"
            members.mkdir(parents=True, exist_ok=True)
            (folder / "iommu_group").symlink_to(members.parent)
            (members / address).symlink_to(folder)
        if driver is not None:
            self._bind(address, driver)

    def netdev(self, address: str, name: str, port: int, up: bool = False, mtu: int = 1500) -> None:
        folder = self.interface(name)
        folder.mkdir(parents=True)
        (self.device(address) / "net" / name).mkdir(parents=True, exist_ok=True)
        (folder / "dev_port").write_text(f"{port}\n")
        (folder / "flags").write_text(f"{0x1003 if up else 0x1002:#x}\n")
        (folder / "mtu").write_text(f"{mtu}\n")

    def state(self) -> dict[str, Any]:
        """Everything that taking a card may change."""
        found: dict[str, Any] = {"vfio": (self.pci / "drivers" / VFIO).exists()}
        for address in self.names(self.pci / "devices"):
            folder = self.device(address)
            found[address] = (self.link(folder / "driver"), self.read(folder / "driver_override"))
        for name in self.names(self.sys / "class/net"):
            folder = self.interface(name)
            found[name] = tuple(self.read(folder / one) for one in ("dev_port", "flags", "mtu"))
        return found

    # what changes it

    def write(self, path: Path, text: str) -> None:
        self._change(lambda: self._written(path, text))

    def run(self, argv: Sequence[str], check: bool = True) -> str:
        match list(argv):
            case ["modprobe", "-n", _]:
                if (self.root / "no-vfio").exists():
                    raise LabError(f"modprobe -n {argv[2]} failed: Module {argv[2]} not found")
            case ["modprobe", "-r", name]:
                self._change(lambda: shutil.rmtree(self.pci / "drivers" / name))
            case ["modprobe", name]:
                self._change(lambda: self.load(name))
            case ["ip", "link", "set", "dev", name, ("up" | "down") as what]:
                flags = "0x1003" if what == "up" else "0x1002"
                self._change(lambda: (self.interface(name) / "flags").write_text(flags + "\n"))
            case ["ip", "link", "set", old, "name", new]:
                self._change(lambda: self._rename(old, new))
            case ["ip", "-j", *_]:
                return self.read(self.root / "addresses.json") or "[]"
            case ["udevadm", *_]:
                pass
            case _:
                raise AssertionError(f"no such command here: {argv}")
        return ""

    def _change(self, change: Any) -> None:
        self.changes += 1
        if self.changes == self._die_at and self._half:
            os._exit(9)
        change()
        if self.changes == self._die_at:
            os._exit(9)

    def _written(self, path: Path, text: str) -> None:
        word = text.strip()
        match path.name:
            case "driver_override":
                path.write_text((word or "(null)") + "\n")
            case "unbind":
                self._unbind(word)
            case "bind":
                if self.link(self.device(word) / "driver") is not None:
                    raise OSError(errno.ENODEV, "No such device")
                self._bind(word, path.parent.name)
            case "drivers_probe":
                override = self.read(self.device(word) / "driver_override")
                wanted = "exanic" if override == "(null)" else override
                if (
                    self.link(self.device(word) / "driver") is None
                    and (self.pci / "drivers" / str(wanted)).exists()
                ):
                    self._bind(word, str(wanted))
            case _:
                path.write_text(word + "\n")

    def _bind(self, address: str, driver: str) -> None:
        override = self.read(self.device(address) / "driver_override")
        if override not in ("(null)", driver):
            raise OSError(errno.ENODEV, "No such device")
        (self.device(address) / "driver").symlink_to(self.pci / "drivers" / driver)
        if driver == "exanic" and (self.root / "ports").exists():
            for port, name in enumerate((self.root / "ports").read_text().split()):
                self.netdev(address, name, port)

    def _unbind(self, address: str) -> None:
        (self.device(address) / "driver").unlink()
        folder = self.device(address) / "net"
        for name in self.names(folder):
            shutil.rmtree(self.interface(name))
        shutil.rmtree(folder, ignore_errors=True)

    def _rename(self, old: str, new: str) -> None:
        self.interface(old).rename(self.interface(new))
        folder = self.interface(new)
        for address in self.names(self.pci / "devices"):
            if (self.device(address) / "net" / old).exists():
                (self.device(address) / "net" / old).rename(self.device(address) / "net" / new)
        assert folder.exists()

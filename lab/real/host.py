"""This machine as the kernel shows it: files of /sys and /proc, and a few commands. The seam for tests.

Everything that changes the machine goes through :meth:`Host.write`, :meth:`Host.set_offload` and
:meth:`Host.run`. Standard library only: the trial in a guest carries it there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError

#: Seconds for a command; none of them does more than ask or set something.
PATIENCE = 30.0
_SIOCETHTOOL = 0x8946
#: Get and set commands of ethtool(8)'s ioctl, and the bit in what they carry (linux/ethtool.h).
_OFFLOADS = {"gro": (0x2B, 0x2C, 1), "lro": (0x25, 0x26, 1 << 15)}


class Host:
    """One machine. ``sys`` and ``proc`` are where its /sys and /proc are."""

    def __init__(self, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self.sys, self.proc = sys, proc

    @property
    def pci(self) -> Path:
        return self.sys / "bus/pci"

    def device(self, address: str) -> Path:
        """The folder of a PCI device."""
        return self.pci / "devices" / address

    def interface(self, name: str) -> Path:
        """The folder of a network interface of our namespace."""
        return self.sys / "class/net" / name

    def read(self, path: Path) -> str | None:
        """A file's text without its end of line; None when it is not there, or says nothing now."""
        try:
            return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
        except OSError:
            return None

    def link(self, path: Path) -> str | None:
        """The last part of what a symbolic link points to; None when there is none."""
        try:
            return path.readlink().name
        except OSError:
            return None

    def names(self, folder: Path) -> list[str]:
        """What is in a folder; nothing when there is none."""
        try:
            return sorted(entry.name for entry in folder.iterdir())
        except OSError:
            return []

    def write(self, path: Path, text: str) -> None:
        """Tell the kernel something. Raises ``OSError`` with the kernel's reason."""
        with path.open("wb", buffering=0) as file:
            file.write(text.encode())

    def run(self, argv: Sequence[str], check: bool = True) -> str:
        """A command's output; with ``check`` a ``LabError`` when it is not there or fails, else what it
        said.
        """
        try:
            done = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except FileNotFoundError:
            if not check:
                return ""
            raise LabError(
                f"there is no {argv[0]} on this machine", hint="install it: apt install kmod iproute2"
            ) from None
        except subprocess.TimeoutExpired:
            raise LabError(
                f"{' '.join(argv)}: not within {PATIENCE:g} s", hint="dmesg may tell what hangs"
            ) from None
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise LabError(f"{' '.join(argv)} failed: {said[-1] if said else done.returncode}")
        return done.stdout

    def boot_id(self) -> str:
        """Another one after every boot."""
        return self.read(self.proc / "sys/kernel/random/boot_id") or ""

    def offload(self, interface: str, name: str) -> bool | None:
        """Whether ``gro`` or ``lro`` is on; None where the interface does not say."""
        get, _set, bit = _OFFLOADS[name]
        value = _ethtool(interface, get, 0)
        return None if value is None else bool(value & bit)

    def set_offload(self, interface: str, name: str, on: bool) -> None:
        """Switch ``gro`` or ``lro``. What cannot be switched stays: some drivers know one way only."""
        get, change, bit = _OFFLOADS[name]
        value = _ethtool(interface, get, 0)
        if value is not None and bool(value & bit) != on:
            _ethtool(interface, change, value ^ bit)

    def users(self, path: str) -> Iterator[tuple[int, str]]:
        """Process number and name of everybody who has the file ``path`` open."""
        for entry in self.names(self.proc):
            if not entry.isdigit():
                continue
            folder = self.proc / entry / "fd"
            for number in self.names(folder):
                with contextlib.suppress(OSError):
                    if str((folder / number).readlink()) == path:
                        yield int(entry), self.read(self.proc / entry / "comm") or "?"
                        break

    def namespaces(self) -> dict[str, list[str]]:
        """Of each network namespace that a process is in, other than ours: the command that enters it."""
        ours = self._netns("self")
        found: dict[str, list[str]] = {}
        for entry in self.names(self.proc):
            if entry.isdigit() and (name := self._netns(entry)) and name != ours:
                found.setdefault(name, ["nsenter", "-t", entry, "-n"])
        return found

    def _netns(self, pid: str) -> str | None:
        with contextlib.suppress(OSError):
            return str((self.proc / pid / "ns/net").readlink())
        return None

    def addresses(self, prefix: Sequence[str] = ()) -> list[dict[str, Any]]:
        """What ``ip address`` tells of every interface of a namespace; nothing when it has gone."""
        text = self.run([*prefix, "ip", "-j", "-d", "address"], check=not prefix)
        try:
            return list(json.loads(text or "[]"))
        except ValueError as problem:
            raise LabError(
                f"ip address printed something that is not JSON: {problem}", hint="install a newer iproute2"
            ) from None


def _ethtool(interface: str, command: int, value: int) -> int | None:
    """One ``struct ethtool_value`` there and back; None where the driver knows it not."""
    import array

    data = array.array("B", struct.pack("II", command, value))
    address, _length = data.buffer_info()
    request = struct.pack("16sP", interface.encode(), address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:
            return None
    return int(struct.unpack("II", data.tobytes())[1])

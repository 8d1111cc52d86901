"""What each operation of ACCESS.md gives to whom, tried one by one. Runs *in the guest*.

Three try: the host's owner (root in the initial namespaces), the root of a container (its own user and
network namespace, the port moved in, the device nodes handed over), and that root after it has lost its
capabilities.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from suites.driver import guest_exanic as exanic

#: The container's root outside; ids of a container are never those of the host.
OUTSIDE = 100_000
NODES = ("/dev/exanic0",)
SIOCETHTOOL, SIOCSHWTSTAMP, SIOCGHWTSTAMP = 0x8946, 0x89B0, 0x89B1
PHYS_ID, MODULE_INFO, MODULE_EEPROM = 0x1C, 0x42, 0x43
FILTER_ADD_IP, FILTER_ADD_MAC, FILTER_REMOVE_IP, FILTER_REMOVE_MAC = (
    0xC01C78E6,
    0xC01878E7,
    0x400878E8,
    0x400878E9,
)
BUFFER_ALLOC_ONE, BUFFER_FREE, HASH, DEVKIT, DEVKIT_EX = (
    0x400878EA,
    0x400878EB,
    0x401078EC,
    0x800878ED,
    0x800878EF,
)
EXTTS_REQUEST = 0x40103D02
ADJ_OFFSET, ADJ_FREQUENCY, ADJ_SETOFFSET = 0x0001, 0x0002, 0x0100
SYS_CLOCK_ADJTIME = 305
FREE_EEPROM_BYTE = 0xF0


class Trial:
    """Who tries: the net device it has, the number of its port, and what sysfs said of it before it moved."""

    def __init__(self, device: str, port: int) -> None:
        self.device, self.port = device, port
        self.pci = Path(f"/sys/class/net/{device}/device").resolve()
        self.address = Path(f"/sys/class/net/{device}/address").read_text().strip()
        clocks = list((self.pci / "ptp").glob("ptp*"))
        self.clock = int(clocks[0].name[3:]) if clocks else -1

    def run(self, *argv: str) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if not done.returncode:
            return "ok"
        return "EPERM" if "not permitted" in done.stderr else done.stderr.strip() or "failed"

    def ethtool(self, option: str, *values: str) -> str:
        return self.run("ethtool", *([option] if option else []), self.device, *values)

    def link(self, *values: str) -> str:
        return self.run("ip", "link", "set", self.device, *values)

    def request(self, number: int, data: bytes) -> str:
        """An ioctl of the net device."""
        buffer = ctypes.create_string_buffer(data, len(data))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            call = struct.pack("<16sQ16x", self.device.encode(), ctypes.addressof(buffer))
            return str(exanic._try(lambda: fcntl.ioctl(sock, number, call) and "ok"))

    def card(self, number: int, data: bytes) -> str:
        """An ioctl of a descriptor of its own of the card."""
        fd = exanic._open()
        try:
            return str(exanic._try(lambda: (exanic._ioctl(fd, number, data), "ok")[1]))
        finally:
            os.close(fd)

    def others(self, alloc: tuple[int, bytes], free: Callable[[bytes], tuple[int, bytes]]) -> str:
        """One descriptor allocates, another one frees."""
        fd = exanic._open()
        try:
            got = exanic._try(lambda: exanic._ioctl(fd, *alloc))
            return self.card(*free(alloc[1] if isinstance(got, str) else got))
        finally:
            os.close(fd)

    def map(self, area: str, write: bool = False) -> str:
        fd = exanic._open()
        try:
            return exanic._mapped(fd, area, write)
        finally:
            os.close(fd)

    def tx_page(self) -> str:
        """Allocate a page of transmit memory and write to it."""
        fd = exanic._open()
        try:
            got = exanic._try(lambda: exanic._ioctl(fd, exanic.TX_ALLOC, self.tx_request()))
            if isinstance(got, str):
                return got
            (offset,) = struct.unpack_from("<Q", got, 16)
            size = exanic._info(fd)["tx"]
            place = exanic.AREAS["tx"][0] * exanic.PAGE
            with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_WRITE, offset=place) as memory:
                memory[offset : offset + 8] = bytes(8)
            return "ok"
        finally:
            os.close(fd)

    def tx_request(self) -> bytes:
        return struct.pack("<IIQQ", self.port, 0, exanic.PAGE, 0)

    def flag(self, name: str) -> str:
        """Turn a private flag on, and off again."""
        on = self.ethtool("--set-priv-flags", name, "on")
        off = self.ethtool("--set-priv-flags", name, "off") if on == "ok" else on
        return off if on == "ok" else on

    def eeprom(self) -> str:
        """Write a byte that nobody uses."""
        vendor, device = (int((self.pci / name).read_text(), 16) for name in ("vendor", "device"))
        magic = vendor | device << 16
        return self.ethtool(
            "-E", "magic", hex(magic), "offset", str(FREE_EEPROM_BYTE), "value", "0x5a", "length", "1"
        )

    def coalesce(self) -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            data = ctypes.create_string_buffer(struct.pack("<I", 0xE) + bytes(88))
            call = struct.pack("<16sQ16x", self.device.encode(), ctypes.addressof(data))
            fcntl.ioctl(sock, SIOCETHTOOL, call)
            (usecs,) = struct.unpack_from("<I", data.raw, 4)
        return self.ethtool("-C", "rx-usecs", str(usecs))

    def promiscuous(self) -> str:
        on = self.link("promisc", "on")
        return self.link("promisc", "off") if on == "ok" else on

    def sysfs(self, name: str, value: str | None = None) -> str:
        path = self.pci / name

        def attempt() -> str:
            if value is None:
                path.read_text()
            else:
                path.write_text(value)
            return "ok"

        answer = str(exanic._try(attempt))
        return "EPERM" if answer == "EACCES" else answer

    @contextlib.contextmanager
    def ptp(self) -> Iterator[int]:
        fd = os.open(f"/dev/ptp{self.clock}", os.O_RDWR)
        try:
            yield (~fd << 3) | 3
        finally:
            os.close(fd)

    def read_clock(self) -> str:
        with self.ptp() as clock:
            return str(exanic._try(lambda: time.clock_gettime(clock) and "ok"))

    def set_clock(self) -> str:
        def attempt() -> str:
            with self.ptp() as clock:
                time.clock_settime(clock, time.time())
            return "ok"

        return str(exanic._try(attempt))

    def steer_clock(self, mode: int) -> str:
        """clock_adjtime: by no frequency, or by no time."""
        with self.ptp() as clock:
            timex = ctypes.create_string_buffer(struct.pack("<I", mode), 256)
            if exanic._libc.syscall(SYS_CLOCK_ADJTIME, ctypes.c_int(clock), timex) >= 0:
                return "ok"
            return exanic._name(ctypes.get_errno())

    def pulses(self) -> str:
        fd = os.open(f"/dev/ptp{self.clock}", os.O_RDWR)
        try:
            return str(exanic._try(lambda: fcntl.ioctl(fd, EXTTS_REQUEST, bytes(16)) and "ok"))
        finally:
            os.close(fd)


def _stamps(tx: int, rx: int) -> bytes:
    return struct.pack("<iii", 0, tx, rx)


#: How each operation is tried, by its name in ACCESS.md. The net device is down until ``ndo_open``.
ATTEMPTS: dict[str, Callable[[Trial], str]] = {
    "priv.bypass_only": lambda t: t.flag("bypass_only"),
    "priv.mirror_rx": lambda t: t.flag("mirror_rx"),
    "priv.mirror_tx": lambda t: t.flag("mirror_tx"),
    "priv.bridging": lambda t: t.flag("bridging"),
    "ethtool.set_priv_flags": lambda t: t.flag("bypass_only"),
    "ethtool.get_priv_flags": lambda t: t.ethtool("--show-priv-flags"),
    "ndo.ndo_open": lambda t: t.link("up"),
    "ndo.ndo_change_mtu": lambda t: t.link("mtu", "1500"),
    "ndo.ndo_set_mac_address": lambda t: t.link("address", t.address),
    "ndo.ndo_set_rx_mode": Trial.promiscuous,
    "ndo.ndo_get_stats64": lambda t: t.run("ip", "-s", "link", "show", t.device),
    "ndo.ndo_hwtstamp_get": lambda t: t.request(SIOCGHWTSTAMP, bytes(12)),
    "ndo.ndo_hwtstamp_set": lambda t: t.request(SIOCSHWTSTAMP, _stamps(0, 0)),
    "ndo.ndo_eth_ioctl": lambda t: t.request(SIOCSHWTSTAMP, _stamps(0, 0)),
    "ndo.ndo_siocdevprivate": lambda t: t.request(exanic.SIOC_IFINFO, bytes(32)),
    "ethtool.get_drvinfo": lambda t: t.ethtool("-i"),
    "ethtool.get_link": lambda t: t.ethtool(""),
    "ethtool.get_link_ksettings": lambda t: t.ethtool(""),
    "ethtool.set_link_ksettings": lambda t: t.ethtool(
        "-s", "speed", "10000", "duplex", "full", "autoneg", "off"
    ),
    "ethtool.get_sset_count": lambda t: t.ethtool("-S"),
    "ethtool.get_strings": lambda t: t.ethtool("-S"),
    "ethtool.get_ethtool_stats": lambda t: t.ethtool("-S"),
    "ethtool.get_coalesce": lambda t: t.ethtool("-c"),
    "ethtool.set_coalesce": Trial.coalesce,
    "ethtool.get_ts_info": lambda t: t.ethtool("-T"),
    "ethtool.get_eeprom_len": lambda t: t.ethtool("-i"),
    "ethtool.get_eeprom": lambda t: t.ethtool("-e", "offset", "0", "length", "4"),
    "ethtool.set_eeprom": Trial.eeprom,
    "ethtool.get_module_info": lambda t: t.request(SIOCETHTOOL, struct.pack("<I", MODULE_INFO) + bytes(40)),
    "ethtool.get_module_eeprom": lambda t: t.request(
        SIOCETHTOOL, struct.pack("<IIII", MODULE_EEPROM, 0, 0, 4) + bytes(4)
    ),
    "ethtool.get_module_eeprom_by_page": lambda t: t.ethtool("-m", "raw", "on", "length", "4"),
    "ethtool.set_phys_id": lambda t: t.request(SIOCETHTOOL, struct.pack("<II", PHYS_ID, 1)),
    "sysfs.serial": lambda t: t.sysfs("serial"),
    "sysfs.reset_on_remove": lambda t: t.sysfs("reset_on_remove", "0"),
    "ptp.gettimex64": Trial.read_clock,
    "ptp.settime64": Trial.set_clock,
    "ptp.adjtime": lambda t: t.steer_clock(ADJ_SETOFFSET),
    "ptp.adjfine": lambda t: t.steer_clock(ADJ_FREQUENCY),
    "ptp.enable": Trial.pulses,
    "ioctl.EXANIC_IOC_INFO": lambda t: t.card(exanic.INFO, bytes(32)),
    "ioctl.EXANIC_IOC_INFO_EX": lambda t: t.card(exanic.INFO_EX, bytes(40)),
    "ioctl.EXANIC_IOC_INFO_EX2": lambda t: t.card(exanic.INFO_EX2, bytes(160)),
    "ioctl.EXANIC_IOC_DEVICE_USAGE": lambda t: t.card(exanic.USAGE, bytes(4)),
    "ioctl.EXANIC_IOC_TX_BUFFER_ALLOC": lambda t: t.card(exanic.TX_ALLOC, t.tx_request()),
    "ioctl.EXANIC_IOC_TX_BUFFER_FREE": lambda t: t.others(
        (exanic.TX_ALLOC, t.tx_request()), lambda got: (exanic.TX_FREE, got)
    ),
    "ioctl.EXANIC_IOC_FEEDBACK_ALLOC": lambda t: t.card(exanic.SLOT_ALLOC, struct.pack("<II", t.port, 0)),
    "ioctl.EXANIC_IOC_FEEDBACK_FREE": lambda t: t.others(
        (exanic.SLOT_ALLOC, struct.pack("<II", t.port, 0)), lambda got: (exanic.SLOT_FREE, got)
    ),
    "ioctl.EXANIC_IOC_FILTER_ADD_IP": lambda t: t.card(FILTER_ADD_IP, struct.pack("<I", t.port) + bytes(24)),
    "ioctl.EXANIC_IOC_FILTER_ADD_MAC": lambda t: t.card(
        FILTER_ADD_MAC, struct.pack("<I", t.port) + bytes(20)
    ),
    "ioctl.EXANIC_IOC_FILTER_REMOVE_IP": lambda t: t.card(FILTER_REMOVE_IP, struct.pack("<II", t.port, 0)),
    "ioctl.EXANIC_IOC_FILTER_REMOVE_MAC": lambda t: t.card(FILTER_REMOVE_MAC, struct.pack("<II", t.port, 0)),
    "ioctl.EXANIC_IOC_BUFFER_ALLOC": lambda t: t.card(BUFFER_ALLOC_ONE, struct.pack("<II", t.port, 0)),
    "ioctl.EXANIC_IOC_BUFFER_ALLOC_EX": lambda t: t.card(
        exanic.BUFFER_ALLOC, struct.pack("<II", t.port, 0xFFFFFFFF)
    ),
    "ioctl.EXANIC_IOC_BUFFER_FREE": lambda t: t.card(BUFFER_FREE, struct.pack("<II", t.port, 0)),
    "ioctl.EXANIC_IOC_HASH_CONFIGURE": lambda t: t.card(HASH, struct.pack("<IIII", t.port, 1, 0, 0)),
    "ioctl.EXANIC_IOC_DEVKIT_INFO": lambda t: t.card(DEVKIT, bytes(8)),
    "ioctl.EXANIC_IOC_DEVKIT_INFO_EX": lambda t: t.card(DEVKIT_EX, bytes(8)),
    "mmap.INFO": lambda t: t.map("info"),
    "mmap.REGISTERS": lambda t: t.map("registers", write=True),
    "mmap.FEEDBACK": lambda t: t.map("feedback"),
    "mmap.TX": Trial.tx_page,
    "mmap.RING": lambda t: t.map(f"ring{t.port}"),
    "mmap.FILTER_RING": lambda t: t.map("filter_ring"),
    "ndo.ndo_stop": lambda t: t.link("down"),
}


#: What is left switched on, for who wants to see the end of it.
LASTING: dict[str, Callable[[Trial], str]] = {
    "priv.bridging on": lambda t: t.ethtool("--set-priv-flags", "bridging", "on"),
}


def _try_all(trial: Trial, names: list[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = (ATTEMPTS | LASTING)[name](trial)
        except OSError as error:
            found[name] = exanic._name(error.errno or 0)
    return found


def _lose_everything() -> None:
    header = struct.pack("<II", 0x20080522, 0)
    if exanic._libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    exanic._libc.prctl(38, 1, 0, 0, 0)  # no new privileges: what it executes gets none back


@contextlib.contextmanager
def _handed_over(clock: int) -> Iterator[None]:
    """The device nodes are open to everybody, as for a container that was given them."""
    nodes = [Path(node) for node in (*NODES, f"/dev/ptp{clock}")]
    before = [node.stat().st_mode & 0o777 for node in nodes]
    for node in nodes:
        node.chmod(0o666)
    try:
        yield
    finally:
        for node, mode in zip(nodes, before, strict=True):
            node.chmod(mode)


def contained(ports: list[tuple[str, int]], capable: bool, names: list[str]) -> dict[str, str]:
    """The outcomes for a container's root that the named net devices (with their ports' numbers) are moved
    to; the first one is tried on."""
    unshared, moved = os.pipe(), os.pipe()
    trial = Trial(*ports[0])

    def body() -> dict[str, str]:
        if exanic._libc.unshare(exanic.CLONE_NEWUSER | exanic.CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        os.close(moved[1])  # so that the parent's end tells when the parent fails
        os.write(unshared[1], struct.pack("<I", os.getpid()))
        os.read(moved[0], 1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if not capable:
            _lose_everything()
        return _try_all(trial, names)

    def parent() -> None:
        (pid,) = struct.unpack("<I", os.read(unshared[0], 4))
        Path(f"/proc/{pid}/uid_map").write_text(f"0 {OUTSIDE} 1000")
        Path(f"/proc/{pid}/gid_map").write_text(f"0 {OUTSIDE} 1000")
        for device, _ in ports:
            subprocess.run(["ip", "link", "set", device, "netns", str(pid)], check=True)
        os.write(moved[1], b"+")

    try:
        with _handed_over(trial.clock):
            result: dict[str, str] = exanic._child(body, parent)
    finally:
        for fd in (*unshared, *moved):
            os.close(fd)
    return result


def host(device: str, port: int, names: list[str]) -> dict[str, str]:
    """The outcomes for root in the initial namespaces."""
    trial = Trial(device, port)
    result: dict[str, str] = exanic._child(lambda: _try_all(trial, names))
    return result

"""/dev/exanicN, sockets and module loading, used from inside. Runs *in the guest*.

The numbers are those of reference/exanic-hardware.md section 9; standard library only.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = 4096
INFO, INFO_EX, INFO_EX2 = 0x802078E0, 0x802878E0, 0x80A078E0
TX_ALLOC, TX_FREE = 0xC01878E2, 0x401878E3
SLOT_ALLOC, SLOT_FREE = 0xC00878E4, 0x400878E5
BUFFER_ALLOC, USAGE = 0xC00878EA, 0x800478EE
SIOC_IFINFO, SIOC_HWTSTAMP = 0x89F0, 0x89F1
#: mmap page offsets and lengths by name.
AREAS = {
    "registers": (0, 2),
    "info": (3, 1),
    "tx": (8, 1),
    "feedback": (256, 1),
    "ring0": (512, 512),
    "ring1": (1024, 512),
    "ring0_ext": (557056, 512),
    "filter_ring": (2560, 512),
    "nothing": (300, 1),
}
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)


def _ioctl(fd: int, number: int, data: bytes) -> bytes:
    buffer = array.array("B", data)
    fcntl.ioctl(fd, number, buffer, True)
    return buffer.tobytes()


def _name(code: int) -> str:
    return errno.errorcode.get(code, str(code))


def _try(action: Callable[[], Any]) -> Any:
    """The result, or the name of the errno."""
    try:
        return action()
    except OSError as error:
        return _name(error.errno or 0)


def _open(card: int = 0) -> int:
    return os.open(f"/dev/exanic{card}", os.O_RDWR | os.O_CLOEXEC)


def _info(fd: int) -> dict[str, Any]:
    data = _ioctl(fd, INFO_EX2, bytes(160))
    tx, filters, buffers, ports = struct.unpack_from("<QQII", data)
    indexes = struct.unpack_from(f"<{ports}i", data, 32)
    return {"tx": tx, "filters": filters, "buffers": buffers, "ports": ports, "ifindex": list(indexes)}


def _map(fd: int, area: str, write: bool = False, pages: int | None = None) -> mmap.mmap:
    offset, length = AREAS[area]
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
    size = (length if pages is None else pages) * PAGE
    return mmap.mmap(fd, size, mmap.MAP_SHARED, protection, offset=offset * PAGE)


def _mapped(fd: int, area: str, write: bool = False, pages: int | None = None) -> str:
    """ "ok", or the errno's name."""

    def attempt() -> str:
        _map(fd, area, write, pages).close()
        return "ok"

    return str(_try(attempt))


def _in_netns(name: str) -> None:
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


def _child(body: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> Any:
    """Run in a process of its own; its answer, or {"signal": n} when killed. ``meanwhile`` runs here."""
    import json

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            answer = body()
        except BaseException as error:  # noqa: BLE001 - it is reported by the parent
            answer = {"raised": f"{type(error).__name__}: {error}"}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    meanwhile()
    data = b""
    while part := os.read(reader, 65536):
        data += part
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    answer = json.loads(data)
    if isinstance(answer, dict) and "raised" in answer:
        raise RuntimeError(answer["raised"])
    return answer


def _rights(fd: int, port: int) -> dict[str, Any]:
    """What a descriptor allows for one port."""
    ring = f"ring{port}"
    found: dict[str, Any] = {area: _mapped(fd, area) for area in ("info", ring)}
    found["ring written"] = _mapped(fd, ring, write=True)
    found["registers"] = _mapped(fd, "registers", write=True)
    found["feedback"] = _mapped(fd, "feedback", write=True)
    request = struct.pack("<IIQQ", port, 0, PAGE, 0)
    found["tx buffer"] = _try(lambda: _ioctl(fd, TX_ALLOC, request) and "ok")
    found["slot"] = _try(lambda: _ioctl(fd, SLOT_ALLOC, struct.pack("<II", port, 0)) and "ok")
    found["ifindex"] = _try(lambda: _info(fd)["ifindex"][port])
    return found


def info() -> dict[str, Any]:
    """INFO_EX2 of card 0, and the sizes of the older two."""

    def body() -> dict[str, Any]:
        fd = _open()
        found = _info(fd)
        found["info"] = len(_ioctl(fd, INFO, bytes(32)))
        found["info_ex"] = len(_ioctl(fd, INFO_EX, bytes(40)))
        found["unknown"] = _try(lambda: _ioctl(fd, 0x800478FE, bytes(4)))
        return found

    result: dict[str, Any] = _child(body)
    return result


def maps() -> dict[str, str]:
    """What can be mapped, as root in the initial namespace, and what the sizes and rights are."""

    def body() -> dict[str, str]:
        fd = _open()
        found = {area: _mapped(fd, area) for area in AREAS}
        found["ring0 written"] = _mapped(fd, "ring0", write=True)
        found["info written"] = _mapped(fd, "info", write=True)
        found["ring0 too long"] = _mapped(fd, "ring0", pages=513)
        found["registers written"] = _mapped(fd, "registers", write=True)
        return found

    result: dict[str, str] = _child(body)
    return result


def rights(port: int, netns: str | None = None, unprivileged: bool = False) -> dict[str, Any]:
    """Open in a namespace, perhaps without capabilities over hardware, and see what is allowed."""

    def body() -> dict[str, Any]:
        if netns is not None:
            _in_netns(netns)
        if unprivileged:
            drop_hardware_rights()
        return _rights(_open(), port)

    result: dict[str, Any] = _child(body)
    return result


def drop_hardware_rights() -> None:
    """Lose CAP_SYS_RAWIO (17) for good, keep the rest: what container engines do."""
    header = struct.pack("<II", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    if _libc.capget(ctypes.c_char_p(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("<6I", data.raw))
    for i in range(3):
        words[i] &= ~(1 << 17)
    if _libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(struct.pack("<6I", *words))) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def rights_after_setns(port: int, opener: str | None, user: str | None) -> dict[str, Any]:
    """Open in one namespace, then ask from another: a descriptor keeps its opener's rights."""

    def body() -> dict[str, Any]:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        if opener is not None:
            _in_netns(opener)
        fd = _open()
        if user is not None:
            _in_netns(user)
        else:
            _libc.setns(home, CLONE_NEWNET)
        return _rights(fd, port)

    result: dict[str, Any] = _child(body)
    return result


class _Held:
    """A descriptor and a mapped ring that outlive one call."""

    fd = -1
    ring: mmap.mmap | None = None
    registers: mmap.mmap | None = None


def hold(area: str) -> None:
    """Open card 0 and keep this ring mapped until :func:`release`."""
    _Held.fd = _open()
    _Held.ring = _map(_Held.fd, area)


def held() -> dict[str, Any]:
    """Generations seen at both ends of the held ring, and whether the card still answers."""
    assert _Held.ring is not None
    ring = _Held.ring
    return {
        "first": ring[127],
        "last": ring[512 * PAGE - 1],
        "info": _try(lambda: _info(_Held.fd)["ports"]),
        "usage": _try(lambda: struct.unpack("<i", _ioctl(_Held.fd, USAGE, bytes(4)))[0]),
    }


def release() -> None:
    if _Held.ring is not None:
        _Held.ring.close()
        _Held.ring = None
    if _Held.fd >= 0:
        os.close(_Held.fd)
        _Held.fd = -1


def usage() -> int:
    """DEVICE_USAGE of card 0."""
    fd = _open()
    try:
        return int(struct.unpack("<i", _ioctl(fd, USAGE, bytes(4)))[0])
    finally:
        os.close(fd)


def refuse_buffers(on: bool) -> None:
    """From now on other modules get no transmit memory from the driver; or as much as there is again."""
    step = 12 if on else 0  # EXANIC_STEP_TXBUF
    Path("/sys/module/exanic/parameters/fail_step").write_text(str(step))


def direct_buffers() -> int:
    """Transmit buffers that other modules have, on the ports that are in this namespace."""
    import subprocess

    found = 0
    for link in Path("/sys/class/net").iterdir():
        if (link / "device/driver").resolve().name == "exanic":
            told = subprocess.run(["ethtool", "-S", link.name], capture_output=True, text=True, check=True)
            found += sum(
                int(line.split(":")[1])
                for line in told.stdout.splitlines()
                if line.strip().startswith("tx_direct_buffers:")
            )
    return found


def tx_memory(port: int) -> dict[str, Any]:
    """Allocate everything there is, free one, close, and see it all come back."""

    def everything(fd: int) -> list[int]:
        got: list[int] = []
        while True:
            answer = _try(lambda: _ioctl(fd, TX_ALLOC, struct.pack("<IIQQ", port, 0, PAGE, 0)))
            if isinstance(answer, str):
                if answer != "ENOMEM":
                    raise RuntimeError(answer)
                return got
            got.append(struct.unpack_from("<Q", answer, 16)[0])

    def body() -> dict[str, Any]:
        fd = _open()
        first = everything(fd)
        stolen = _try(lambda: _ioctl(_open(), TX_FREE, struct.pack("<IIQQ", port, 0, PAGE, first[0])))
        _ioctl(fd, TX_FREE, struct.pack("<IIQQ", port, 0, PAGE, first[0]))
        again = everything(fd)
        os.close(fd)
        fd = _open()
        back = everything(fd)
        return {"first": first, "stolen": stolen, "again": again, "back": back}

    result: dict[str, Any] = _child(body)
    return result


def foreign_tx_page(port: int) -> dict[str, Any]:
    """Without hardware rights: touch a TX page of one's own, then one that is not."""

    def touch(own: bool) -> Callable[[], Any]:
        def body() -> str:
            drop_hardware_rights()
            fd = _open()
            answer = _ioctl(fd, TX_ALLOC, struct.pack("<IIQQ", port, 0, PAGE, 0))
            offset = struct.unpack_from("<Q", answer, 16)[0]
            size = _info(fd)["tx"]
            memory = mmap.mmap(
                fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=AREAS["tx"][0] * PAGE
            )
            at = offset if own else (offset + PAGE) % size
            memory[at : at + 8] = bytes(8)
            return "ok"

        return body

    return {"own": _child(touch(True)), "foreign": _child(touch(False))}


def interface_ioctls(device: str) -> dict[str, Any]:
    """EXAIOCGIFINFO and EXAIOCGHWTSTAMP of a net device."""
    answer = ctypes.create_string_buffer(32)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("<16sQ16x", device.encode(), ctypes.addressof(answer))
        fcntl.ioctl(sock, SIOC_IFINFO, request)
        card, port = struct.unpack_from("<16sH", answer.raw)
        fcntl.ioctl(sock, SIOC_HWTSTAMP, request)
        flags, tx, rx = struct.unpack_from("<iii", answer.raw)
    return {"card": card.rstrip(b"\0").decode(), "port": port, "hwtstamp": [flags, tx, rx]}


def raw_frames(device: str, sizes: list[int], kind: int = 0x88B5) -> None:
    """Broadcast one frame of each size (without FCS, at least 60): byte i of frame n is (i + n) & 255."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        for number, size in enumerate(sizes):
            head = b"\xff" * 6 + bytes.fromhex("020000000001") + struct.pack(">HH", kind, size)
            sock.send(head + bytes((i + number) & 255 for i in range(len(head), size)))


class _Listener:
    sock: socket.socket | None = None


def listen(device: str, kind: int = 0x88B5) -> None:
    """Start to receive raw frames of this Ethertype."""
    _Listener.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
    _Listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    _Listener.sock.bind((device, kind))


def heard(count: int, patience: float) -> list[dict[str, Any]]:
    """Up to ``count`` frames: announced size, received size, and whether the bytes are right."""
    sock = _Listener.sock
    assert sock is not None
    sock.settimeout(patience)
    frames: list[dict[str, Any]] = []
    while len(frames) < count:
        try:
            data = sock.recv(65536)
        except TimeoutError:
            break
        if data[6:12] != bytes.fromhex("020000000001"):
            continue
        (size,) = struct.unpack_from(">H", data, 14)
        number = len(frames)
        good = all(data[i] == (i + number) & 255 for i in range(16, len(data)))
        frames.append({"size": size, "length": len(data), "good": good})
    return frames


def stop_listening() -> None:
    if _Listener.sock is not None:
        _Listener.sock.close()
        _Listener.sock = None


def bound_to(device: str) -> str:
    """Name of the driver that serves a PCI device, or ""."""
    link = Path("/sys/bus/pci/devices") / device / "driver"
    return link.resolve().name if link.exists() else ""


def write(path: str, text: str) -> str:
    """Write a sysfs file: "ok" or the errno's name."""

    def body() -> str:
        Path(path).write_text(text)
        return "ok"

    return str(_try(body))


def clock(index: int) -> dict[str, float]:
    """A PTP clock against the system's, and its step and rate after it was set to 1000.5 s."""
    import time

    fd = os.open(f"/dev/ptp{index}", os.O_RDWR)
    try:
        clk = (~fd << 3) | 3
        offset = time.clock_gettime(clk) - time.time()
        time.clock_settime(clk, 1000.5)
        before, started = time.clock_gettime(clk), time.monotonic()
        while time.monotonic() < started + 0.2:
            pass
        ran, passed = time.clock_gettime(clk) - before, time.monotonic() - started
        time.clock_settime(clk, time.time())
        return {"offset": offset, "set": before, "ran": ran, "passed": passed}
    finally:
        os.close(fd)


def stamped_echo(device: str, address: str, patience: float) -> dict[str, float]:
    """Hardware times of a datagram received and of its echo, and the system's around both."""
    import time

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        config = ctypes.create_string_buffer(struct.pack("iii", 0, 1, 1))
        request = struct.pack("<16sQ16x", device.encode(), ctypes.addressof(config))
        fcntl.ioctl(sock, 0x89B0, request)
        sock.setsockopt(socket.SOL_SOCKET, 37, (1 << 0) | (1 << 2) | (1 << 6))
        sock.bind((address, 7777))
        sock.settimeout(patience)
        started = time.time()
        data, control, _, peer = sock.recvmsg(2048, 512)
        found = {"started": started, "received": _stamp(control)}
        sock.sendto(data, peer)
        deadline = time.monotonic() + patience
        while "sent" not in found and time.monotonic() < deadline:
            try:
                _, control, _, _ = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            found["sent"] = _stamp(control)
        fcntl.ioctl(sock, 0x89B0, request[:16] + struct.pack("<Q16x", ctypes.addressof(_stamps_off)))
        found["ended"] = time.time()
        return found


_stamps_off = ctypes.create_string_buffer(struct.pack("iii", 0, 0, 0))


def _stamp(control: list[tuple[int, int, bytes]]) -> float:
    """The raw hardware time of a message, seconds; 0 when it has none."""
    for level, kind, value in control:
        if (level, kind) == (socket.SOL_SOCKET, 37):
            times: tuple[int, ...] = struct.unpack("6q", value[:48])
            return float(times[4]) + float(times[5]) / 1e9
    return 0.0

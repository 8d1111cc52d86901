"""A small PCI device and a small client: the test doubles of the server's two neighbours.

The device has enough of a card for a guest: an identity register, a scratch register, a doorbell that
copies guest memory and raises the interrupt, and a memory-mapped BAR2.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import mmap
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from lab.core.library import load
from lab.vfio_user import protocol
from lab.vfio_user.device import Bar, MmapArea, PciIdentity, Region
from lab.vfio_user.pci import ConfigSpace
from lab.vfio_user.protocol import HEADER, Command
from lab.vfio_user.pump import Pump
from lab.vfio_user.session import Options, Session
from lab.vfio_user.transport import SocketPipe

BAR0_SIZE = 64 << 10
BAR2_SIZE = 256 << 10

ID = 0x00  # reads IDENTITY
SCRATCH = 0x04
SOURCE = 0x08  # address of 4 bytes in guest memory, low half
TARGET = 0x0C  # where to copy them
DOORBELL = 0x10  # any write: copy, then interrupt
DOORBELLS = 0x14  # how many there were
RESETS = 0x18
PROBE = 0x1C  # first four bytes of BAR2, as the device sees them
IDENTITY = 0x0DD1CA4D
#: Registers of a card's port 0 that live in the core: TX_COMMAND and IRQ_CONFIG.
CORE_DOORBELL = 0x220
CORE_ARM = 0x234

#: Whether :func:`connected` serves through the C pump.
PUMP: ContextVar[bool] = ContextVar("PUMP", default=False)
IDENTITY_IN_CONFIG = PciIdentity(
    vendor=0x1CE4, device=0x0009, bars=(Bar(0, BAR0_SIZE), Bar(2, BAR2_SIZE, prefetch=True))
)


def memfd(name: str, size: int, *, sealed: bool = True) -> int:
    """A memory file as QEMU's memory-backend-memfd makes it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if sealed:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


@dataclass
class Double:
    """A :class:`~lab.vfio_user.device.PciDevice` that records what the server does to it."""

    identity: PciIdentity = IDENTITY_IN_CONFIG
    regions: Mapping[int, Region] = field(init=False)
    ranges: dict[int, tuple[int, mmap.mmap | None, int]] = field(default_factory=dict)
    msi: int | None = None
    present: bool = True
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.on_power: Callable[[], None] = lambda: None
        self.bar2_fd = memfd("bar2", BAR2_SIZE)
        self.bar2 = mmap.mmap(self.bar2_fd, BAR2_SIZE)
        self.regions = {
            0: Region(0, BAR0_SIZE),
            2: Region(2, BAR2_SIZE, mmap=(MmapArea(0, BAR2_SIZE),), fd=self.bar2_fd),
            4: Region(4, 4096, writable=False),
        }
        self.registers = {ID: IDENTITY, SCRATCH: 0, SOURCE: 0, TARGET: 0, DOORBELLS: 0, RESETS: 0}

    def close(self) -> None:
        self.bar2.close()
        os.close(self.bar2_fd)

    def read(self, region: int, offset: int, size: int) -> bytes:
        if region == 2:
            return self.bar2[offset : offset + size]
        if size != 4 or offset % 4:
            raise ValueError("registers are 32 bits wide")
        if offset == PROBE:
            return self.bar2[0:4]
        return self.registers.get(offset, 0).to_bytes(4, "little")

    def write(self, region: int, offset: int, data: bytes) -> None:
        if region == 2:
            self.bar2[offset : offset + len(data)] = data
            return
        if len(data) != 4 or offset % 4:
            raise ValueError("registers are 32 bits wide")
        if offset == DOORBELL:
            self._ring()
        elif offset in (SCRATCH, SOURCE, TARGET):
            self.registers[offset] = int.from_bytes(data, "little")

    def _ring(self) -> None:
        self.registers[DOORBELLS] += 1
        data = self._memory(self.registers[SOURCE], 4)
        target = self._memory(self.registers[TARGET], 4)
        if data is not None and target is not None:
            target[0][target[1] : target[1] + 4] = data[0][data[1] : data[1] + 4]
        if self.msi is not None:
            os.eventfd_write(self.msi, 1)

    def _memory(self, address: int, size: int) -> tuple[mmap.mmap, int] | None:
        for iova, (length, memory, _) in self.ranges.items():
            if memory is not None and iova <= address and address + size <= iova + length:
                return memory, address - iova
        return None

    def dma_map(self, iova: int, size: int, memory: mmap.mmap | None, prot: int) -> None:
        self.ranges[iova] = (size, memory, prot)

    def dma_unmap(self, iova: int, size: int) -> None:
        del self.ranges[iova]

    def dma_unmap_all(self) -> None:
        self.calls.append("dma_unmap_all")
        self.ranges.clear()

    def set_msi(self, eventfd: int | None) -> None:
        self.calls.append("set_msi(None)" if eventfd is None else "set_msi")
        self.msi = eventfd

    def reset(self) -> None:
        self.calls.append("reset")
        resets = self.registers[RESETS] + 1
        self.registers.update({SCRATCH: 0, SOURCE: 0, TARGET: 0, DOORBELLS: 0, RESETS: resets})

    def disconnected(self) -> None:
        self.calls.append("disconnected")


class Core:
    """A card of the C core behind a double: its identity register and doorbells are served by the pump.

    ``exa_register_read`` answers :data:`ID`; writes of TX_COMMAND and IRQ_CONFIG of port 0 go to the core.
    """

    def __init__(self, device: Double) -> None:
        self._library = load()
        ffi, lib = self._library.ffi, self._library.lib
        self._core = lib.exa_core_new(-1)
        self._view = ffi.from_buffer(device.bar2, require_writable=True)
        self.card = lib.exa_card_new(self._core, 1, ffi.cast("uint8_t *", self._view), BAR2_SIZE)
        lib.exa_port_attach(self.card, 0, lib.exa_end_add(self._core), 0, BAR2_SIZE)
        lib.exa_register_publish(self.card, ID, IDENTITY)
        lib.exa_register_live(self.card, CORE_DOORBELL, lib.EXA_LIVE_TX_COMMAND, 0)
        lib.exa_register_live(self.card, CORE_ARM, lib.EXA_LIVE_IRQ_CONFIG, 0)

    def attach(self, session: Session) -> bool:
        """Give the session a pump once VERSION is agreed (a ``Session.on_version``)."""
        session.attach_pump(Pump(self._library, self.card, session.fileno(), BAR0_SIZE))
        return True

    def start(self, eventfd: int) -> None:
        """Port 0 receives, and interrupts go to ``eventfd``."""
        self._library.lib.exa_port_start(self.card, 0, 0)
        self._library.lib.exa_card_set_msi(self.card, eventfd)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Core]:
        """Closed at the end of the block."""
        try:
            yield self
        finally:
            self.close()

    def close(self) -> None:
        self._library.lib.exa_core_free(self._core)
        self._library.ffi.release(self._view)


@contextlib.contextmanager
def served(
    device: Double, sock: socket.socket, options: Options | None = None, *, pump: bool = False
) -> Iterator[Session]:
    """A session of the device on a socket, with the C pump or without; both are closed afterwards."""
    session = Session(device, ConfigSpace(device.identity), SocketPipe(sock), options)
    core = Core(device) if pump else None
    if core is not None:
        session.on_version = core.attach
    try:
        yield session
    finally:
        session.close()
        session.pump = None
        if core is not None:
            core.close()
        device.close()


@dataclass(frozen=True)
class Answer:
    """A reply as the client got it."""

    id: int
    command: int
    flags: int
    error: int
    payload: bytes
    fds: list[int]

    @property
    def failed(self) -> bool:
        return bool(self.flags & protocol.FLAG_ERROR)


class Client:
    """The other end of the pipe. ``pump`` lets the server work between send and receive."""

    def __init__(self, sock: socket.socket, session: Session) -> None:
        self.sock = sock
        self.session = session
        self._id = 0

    def send(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0) -> int:
        """One command; returns its message id."""
        self._id = (self._id + 1) & 0xFFFF
        head = HEADER.pack(self._id, command, HEADER.size + len(payload), flags, 0)
        self.send_raw(head + payload, fds)
        return self._id

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
        sent = self.sock.sendmsg([data], rights)
        assert sent == len(data)

    def pump(self) -> None:
        """Let the server handle everything that is there."""
        if not self.session.closed:
            if self.session.wants_write:
                self.session.writable()
            else:
                self.session.readable()

    def receive(self) -> Answer | None:
        """The next reply, or None when there is none (or the connection is closed)."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            head, ancillary, _, _ = self.sock.recvmsg(HEADER.size, socket.CMSG_SPACE(64), socket.MSG_DONTWAIT)
            if not head:
                return None
            fds = array.array("i")
            for _, _, content in ancillary:
                fds.frombytes(content)
            number, command, size, flags, error = HEADER.unpack(head)
            assert flags & protocol.TYPE_MASK == protocol.TYPE_REPLY
            payload = self.sock.recv(size - HEADER.size, socket.MSG_WAITALL) if size > HEADER.size else b""
            return Answer(number, command, flags, error, payload, list(fds))
        return None

    @property
    def closed(self) -> bool:
        """Whether the server closed the connection (and everything it said was read)."""
        try:
            return self.sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def call(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0) -> Answer:
        """Send and return the reply; fails when there is none."""
        number = self.send(command, payload, fds, flags)
        self.pump()
        answer = self.receive()
        assert answer is not None, f"no reply to command {command}"
        assert (answer.id, answer.command) == (number, command)
        return answer

    def ok(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> Answer:
        answer = self.call(command, payload, fds)
        assert not answer.failed, f"command {command} failed with errno {answer.error}"
        return answer

    def errno(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        """The errno that the command fails with."""
        answer = self.call(command, payload, fds)
        assert answer.failed and not answer.payload and not answer.fds
        return answer.error

    def version(self) -> Answer:
        offer = {"capabilities": {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20, "write_multiple": True}}
        data = json.dumps(offer).encode() + b"\0"
        return self.ok(Command.VERSION, protocol.VERSION.pack(0, 0) + data)

    def read(self, region: int, offset: int, size: int) -> bytes:
        answer = self.ok(Command.REGION_READ, protocol.REGION_RW.pack(offset, region, size))
        return answer.payload[protocol.REGION_RW.size :]

    def write(self, region: int, offset: int, data: bytes) -> None:
        self.ok(Command.REGION_WRITE, protocol.REGION_RW.pack(offset, region, len(data)) + data)


def open_fds() -> dict[int, str]:
    """This process's descriptors: number -> what it is."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[int(link.name)] = str(link.readlink())
    return found


@contextlib.contextmanager
def connected(options: Options | None = None, *, version: bool = True) -> Iterator[tuple[Client, Double]]:
    """A client talking to a server with a double; fails when a descriptor is left over.

    Through the pump when the test's ``transport`` (conftest) says so.
    """
    before = open_fds()
    device = Double()
    near, far = socket.socketpair()
    with served(device, far, options, pump=PUMP.get()) as session:
        client = Client(near, session)
        try:
            if version:
                client.version()
                assert (session.pump is not None) == PUMP.get()
            yield client, device
        finally:
            near.close()
            client.pump()
    leaked = {fd: what for fd, what in open_fds().items() if fd not in before}
    assert not leaked, f"descriptors leaked: {leaked}"

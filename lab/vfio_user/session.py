"""One client's conversation: every command, its checks, its reply or its errno."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab.vfio_user import irq, protocol
from lab.vfio_user.device import PciDevice, Region
from lab.vfio_user.dma import DmaTable
from lab.vfio_user.pci import CONFIG_SIZE, ConfigSpace
from lab.vfio_user.protocol import Command, Message, ProtocolError, RegionIndex, RequestError
from lab.vfio_user.pump import Handed, Pump, Stalled
from lab.vfio_user.transport import Framer, FramingError, Outbox, Pipe

log = logging.getLogger(__name__)

#: A reply: its payload, and descriptors that stay the device's.
Reply = tuple[bytes, tuple[int, ...]]
EMPTY: Reply = (b"", ())

#: Called after each access of a region: ("r" or "w", region, offset, data).
AccessHook = Callable[[str, int, int, bytes], None]


@dataclass(frozen=True)
class Options:
    """``allow_unsealed``: see :mod:`lab.vfio_user.dma`. ``name`` goes before every log line."""

    name: str = "vfio-user"
    allow_unsealed: bool = False


@dataclass
class Counters:
    """What a session has done, for status and tests."""

    commands: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


class Session:
    """Serves ``device`` over ``pipe`` until the stream ends or cannot be trusted.

    Drive it with :meth:`readable` when the pipe has input and :meth:`writable` when it has room;
    ``wants_write`` says which of the two is waited for. ``closed`` is final.
    """

    def __init__(
        self, device: PciDevice, config: ConfigSpace, pipe: Pipe, options: Options | None = None
    ) -> None:
        self.device = device
        self.config = config
        self.options = options or Options()
        self.pipe = pipe
        self.framer = Framer(pipe)
        self.outbox = Outbox(pipe)
        self.dma = DmaTable(device, allow_unsealed=self.options.allow_unsealed)
        self.irqs = irq.Irqs(device)
        self.counters = Counters()
        self.on_access: AccessHook | None = None
        #: Asked once, when VERSION is right: False refuses the client with EBUSY.
        self.on_version: Callable[[Session], bool] | None = None
        self.negotiated = False
        self.closed = False
        #: Serves register accesses below Python while it is set (:meth:`attach_pump`).
        self.pump: Pump | None = None
        self._sending_last = False

    @property
    def wants_write(self) -> bool:
        return not self.outbox.empty

    def fileno(self) -> int:
        return self.pipe.fileno()

    def attach_pump(self, pump: Pump) -> None:
        """From now on register accesses may be served below Python."""
        self.pump = pump
        self._pause_pump()

    def detach_pump(self) -> Pump | None:
        """Everything goes through Python again; returns the pump, which the caller removes from its set."""
        pump, self.pump = self.pump, None
        if pump is not None:
            # What it had read already is ours; the end of the stream will be seen again.
            with contextlib.suppress(EOFError, OSError):
                self._accept(pump.take())
        return pump

    def readable(self, budget: int = 256) -> None:
        """Serve up to ``budget`` messages that are there; fewer when a reply finds no room."""
        self._take_input(budget)
        self._pause_pump()

    def _take_input(self, budget: int) -> None:
        try:
            if self.pump is not None:
                self._accept(self.pump.take())
            while budget > 0 and not self.closed and self.outbox.empty:
                if self.pump is not None and self.framer.idle:
                    left = self.pump.run()
                    if left is None:
                        return
                    self._accept(left)
                    if not self.outbox.empty:
                        return
                message = self.framer.receive()
                if message is None:
                    return
                self.handle(message)
                budget -= 1
        except EOFError:
            self.close()
        except FramingError as problem:
            self._fatal(problem.message, problem)
        except OSError as problem:
            log.warning("%s: connection lost: %s", self.options.name, problem)
            self.close()

    def writable(self) -> None:
        """Send what waits, then serve what came meanwhile."""
        self._send_output()
        self._pause_pump()

    def _send_output(self) -> None:
        try:
            self.outbox.flush()
        except OSError as problem:
            log.warning("%s: connection lost: %s", self.options.name, problem)
            self.close()
            return
        if self.outbox.empty:
            if self._sending_last:
                self.close()
            else:
                self._take_input(256)

    def handle(self, message: Message) -> None:
        """Carry out one command and answer it. Raises OSError when the answer cannot be sent."""
        handler = _HANDLERS.get(message.command)
        self.counters.commands[handler.__name__[1:] if handler else "unknown"] += 1
        try:
            if handler is None:
                raise RequestError(errno.ENOSYS, f"command {message.command} is unknown")
            if not self.negotiated and message.command != Command.VERSION:
                raise ProtocolError(errno.EPROTO, f"command {message.command} before VERSION")
            payload, fds = handler(self, message)
        except ProtocolError as problem:
            self._fatal(message, problem)
        except RequestError as problem:
            self._refuse(message, problem)
        except Exception:
            # A defect of a device model must not take the other cards down with it.
            log.exception("%s: command %d failed inside", self.options.name, message.command)
            self._refuse(message, RequestError(errno.EIO, "the device model failed"))
        else:
            if message.wants_reply:
                self.outbox.send(protocol.reply(message, payload), fds)
        finally:
            message.close_fds()

    def close(self) -> None:
        """Drop the client: memory unmapped, interrupt gone, descriptors closed. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self.irqs.disable()
        if self.negotiated:
            self.dma.clear()
            self.device.disconnected()
        self.framer.close()

    def _pause_pump(self) -> None:
        """The pump must not read while a message is half read here, nor while a reply waits."""
        if self.pump is not None:
            self.pump.paused = not (self.framer.idle and self.outbox.empty)

    def _accept(self, left: Handed | Stalled | None) -> None:
        """Take over what the pump leaves."""
        if isinstance(left, Handed):
            self.framer.resume(left.data, left.fds)
        elif isinstance(left, Stalled):
            self.outbox.send(left.data)

    def _refuse(self, message: Message, problem: RequestError) -> None:
        log.info("%s: command %d refused: %s", self.options.name, message.command, problem)
        self.counters.errors[errno.errorcode.get(problem.errno, str(problem.errno))] += 1
        if message.wants_reply:
            self.outbox.send(protocol.error_reply(message, problem.errno))

    def _fatal(self, message: Message, problem: ProtocolError) -> None:
        log.warning("%s: closing the connection: %s", self.options.name, problem)
        try:
            self._refuse(message, problem)
        except OSError:
            self.close()
            return
        self._sending_last = True
        if self.outbox.empty:
            self.close()

    # Commands, in the order of the specification.

    def _version(self, message: Message) -> Reply:
        if self.negotiated:
            raise RequestError(errno.EINVAL, "VERSION was agreed on already")
        if len(message.payload) < protocol.VERSION.size:
            raise ProtocolError(errno.EINVAL, "VERSION is too short")
        major, minor = protocol.VERSION.unpack_from(message.payload)
        if major != protocol.MAJOR:
            raise ProtocolError(errno.EPROTONOSUPPORT, f"protocol {major}.{minor} is not {protocol.MAJOR}.x")
        offered = _parse_capabilities(message.payload[protocol.VERSION.size :])
        if self.on_version is not None and not self.on_version(self):
            raise ProtocolError(errno.EBUSY, "another client is using the device")
        self.negotiated = True
        head = protocol.VERSION.pack(major, min(minor, protocol.MINOR))
        return head + _answer_capabilities(offered, len(message.payload) - len(head)), ()

    def _dma_map(self, message: Message) -> Reply:
        argsz, flags, offset, address, size = protocol.unpack(protocol.DMA_MAP, message.payload, "DMA_MAP")
        if argsz < protocol.DMA_MAP.size:
            raise RequestError(errno.EINVAL, f"DMA_MAP argsz {argsz}")
        fds = message.fds or []
        if len(fds) > 1:
            raise RequestError(errno.EINVAL, f"DMA_MAP with {len(fds)} descriptors")
        self.dma.map(address, size, flags, fds[0] if fds else None, offset)
        return EMPTY

    def _dma_unmap(self, message: Message) -> Reply:
        argsz, flags, address, size = protocol.unpack(protocol.DMA_UNMAP, message.payload, "DMA_UNMAP")
        if argsz < protocol.DMA_UNMAP.size:
            raise RequestError(errno.EINVAL, f"DMA_UNMAP argsz {argsz}")
        if flags & protocol.DMA_UNMAP_GET_DIRTY:
            raise RequestError(errno.EOPNOTSUPP, "dirty pages are not tracked")
        if flags & ~protocol.DMA_UNMAP_ALL:
            raise RequestError(errno.EINVAL, f"DMA_UNMAP flags {flags:#x}")
        if flags & protocol.DMA_UNMAP_ALL:
            if address or size:
                raise RequestError(errno.EINVAL, "DMA_UNMAP of all ranges with an address or size")
            self.dma.clear()
        else:
            self.dma.unmap(address, size)
        return message.payload, ()

    def _device_get_info(self, message: Message) -> Reply:
        argsz, *_ = protocol.unpack(protocol.DEVICE_INFO, message.payload, "GET_INFO")
        if argsz < protocol.DEVICE_INFO.size:
            raise RequestError(errno.EINVAL, f"GET_INFO argsz {argsz}")
        flags = protocol.DEVICE_FLAGS_RESET | protocol.DEVICE_FLAGS_PCI
        size = protocol.DEVICE_INFO.size
        return protocol.DEVICE_INFO.pack(size, flags, protocol.NUM_REGIONS, protocol.NUM_IRQS), ()

    def _device_get_region_info(self, message: Message) -> Reply:
        argsz, _, index, *_ = protocol.unpack(protocol.REGION_INFO, message.payload, "GET_REGION_INFO")
        if argsz < protocol.REGION_INFO.size:
            raise RequestError(errno.EINVAL, f"GET_REGION_INFO argsz {argsz}")
        region = self._region(index)
        flags = (protocol.REGION_FLAG_READ if region.readable and region.size else 0) | (
            protocol.REGION_FLAG_WRITE if region.writable and region.size else 0
        )
        if region.fd is None or not region.mmap:
            info = protocol.REGION_INFO.pack(protocol.REGION_INFO.size, flags, index, 0, region.size, 0)
            return info, ()
        flags |= protocol.REGION_FLAG_MMAP | protocol.REGION_FLAG_CAPS
        cap = protocol.CAP_SPARSE.pack(protocol.REGION_CAP_SPARSE_MMAP, 1, 0, len(region.mmap), 0)
        cap += b"".join(protocol.CAP_AREA.pack(area.offset, area.size) for area in region.mmap)
        head = protocol.REGION_INFO.size
        # cap_offset and the descriptor go with a truncated reply, too: QEMU wants both the first time.
        info = protocol.REGION_INFO.pack(head + len(cap), flags, index, head, region.size, region.fd_offset)
        return (info + cap if argsz >= head + len(cap) else info), (region.fd,)

    def _device_get_region_io_fds(self, message: Message) -> Reply:
        argsz, flags, index, count = protocol.unpack(
            protocol.REGION_IO_FDS, message.payload, "GET_REGION_IO_FDS"
        )
        if argsz < protocol.REGION_IO_FDS.size or flags or count:
            raise RequestError(errno.EINVAL, f"GET_REGION_IO_FDS argsz {argsz} flags {flags} count {count}")
        self._region(index)
        # No sub-region has a descriptor: a doorbell's value matters, and an ioeventfd does not carry it.
        return protocol.REGION_IO_FDS.pack(protocol.REGION_IO_FDS.size, 0, index, 0), ()

    def _device_get_irq_info(self, message: Message) -> Reply:
        argsz, _, index, _ = protocol.unpack(protocol.IRQ_INFO, message.payload, "GET_IRQ_INFO")
        if argsz < protocol.IRQ_INFO.size:
            raise RequestError(errno.EINVAL, f"GET_IRQ_INFO argsz {argsz}")
        flags, vectors = irq.info(index)
        return protocol.IRQ_INFO.pack(protocol.IRQ_INFO.size, flags, index, vectors), ()

    def _device_set_irqs(self, message: Message) -> Reply:
        argsz, flags, index, start, count = protocol.unpack(
            protocol.IRQ_SET, message.payload, "SET_IRQS", exact=False
        )
        if argsz < protocol.IRQ_SET.size:
            raise RequestError(errno.EINVAL, f"SET_IRQS argsz {argsz}")
        fds = message.take_fds()
        try:
            self.irqs.set(flags, index, start, count, message.payload[protocol.IRQ_SET.size :], fds)
        finally:
            protocol.close_all(fds)
        return EMPTY

    def _region_read(self, message: Message) -> Reply:
        offset, index, count = protocol.unpack(protocol.REGION_RW, message.payload, "REGION_READ")
        data = self._read(index, offset, count)
        return message.payload + data, ()

    def _region_write(self, message: Message) -> Reply:
        payload, head = message.payload, protocol.REGION_RW.size
        offset, index, count = protocol.unpack(protocol.REGION_RW, payload, "REGION_WRITE", exact=False)
        if len(payload) != head + count:
            raise RequestError(errno.EINVAL, f"REGION_WRITE of {count} bytes brings {len(payload) - head}")
        self._check(index, offset, count, write=True)
        self._write(index, offset, payload[head:])
        return payload[:head], ()

    def _device_reset(self, message: Message) -> Reply:
        if message.payload:
            raise RequestError(errno.EINVAL, "RESET has a payload")
        self.config.reset()
        self.device.reset()
        return EMPTY

    def _region_write_multi(self, message: Message) -> Reply:
        (writes,) = protocol.unpack(protocol.MULTI_COUNT, message.payload, "WRITE_MULTI", exact=False)
        head, each = protocol.MULTI_COUNT.size, protocol.MULTI_WRITE.size
        if len(message.payload) != head + writes * each:
            raise RequestError(errno.EINVAL, f"WRITE_MULTI: {writes} writes in {len(message.payload)} bytes")
        batch = list(protocol.MULTI_WRITE.iter_unpack(message.payload[head:]))
        for offset, index, count, _ in batch:
            # Checked before the first is done, so that a malformed batch changes nothing.
            if count > 8:
                raise RequestError(errno.EINVAL, f"WRITE_MULTI with a write of {count} bytes")
            self._check(index, offset, count, write=True)
        for offset, index, count, data in batch:
            self._write(index, offset, data[:count])
        return protocol.MULTI_COUNT.pack(writes), ()

    def _device_feature(self, message: Message) -> Reply:
        _, flags = protocol.unpack(protocol.DEVICE_FEATURE, message.payload, "DEVICE_FEATURE", exact=False)
        # The errno of the VFIO ioctl for a feature that a device does not have.
        raise RequestError(errno.ENOTTY, f"feature {flags & 0xFFFF} is not supported (no migration)")

    def _unsupported(self, message: Message) -> Reply:
        raise RequestError(errno.EOPNOTSUPP, f"command {message.command} is not for this server")

    # Regions.

    def _region(self, index: int) -> Region:
        if index >= protocol.NUM_REGIONS:
            raise RequestError(errno.EINVAL, f"region {index} does not exist")
        if index == RegionIndex.CONFIG:
            return Region(index, CONFIG_SIZE)
        return self.device.regions.get(index) or Region(index, 0)

    def _check(self, index: int, offset: int, count: int, *, write: bool) -> None:
        region = self._region(index)
        if not 0 < count <= protocol.MAX_DATA_XFER or offset + count > region.size:
            raise RequestError(errno.EINVAL, f"region {index}: {offset:#x}+{count} of {region.size:#x}")
        if not (region.writable if write else region.readable):
            raise RequestError(errno.EINVAL, f"region {index} is not {'writable' if write else 'readable'}")

    def _read(self, index: int, offset: int, count: int) -> bytes:
        self._check(index, offset, count, write=False)
        if index == RegionIndex.CONFIG:
            data = self.config.read(offset, count) if self.device.present else b"\xff" * count
        else:
            try:
                data = self.device.read(index, offset, count)
            except ValueError as problem:
                raise RequestError(errno.EINVAL, f"region {index} {offset:#x}: {problem}") from problem
            if len(data) != count:
                raise RequestError(errno.EIO, f"region {index} {offset:#x}: {len(data)} of {count} bytes")
        if self.on_access is not None:
            self.on_access("r", index, offset, data)
        return data

    def _write(self, index: int, offset: int, data: bytes) -> None:
        if self.on_access is not None:
            self.on_access("w", index, offset, data)
        if index == RegionIndex.CONFIG:
            if self.device.present:
                self.config.write(offset, data)
            return
        try:
            self.device.write(index, offset, data)
        except ValueError as problem:
            raise RequestError(errno.EINVAL, f"region {index} {offset:#x}: {problem}") from problem


def _parse_capabilities(data: bytes) -> dict[str, Any]:
    """The client's capabilities; ProtocolError EINVAL when they are not the JSON they should be."""
    text = data.split(b"\0", 1)[0]
    if not text:
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ProtocolError(errno.EINVAL, f"VERSION data is not JSON: {problem}") from problem
    capabilities = document.get("capabilities", {}) if isinstance(document, dict) else None
    if not isinstance(capabilities, dict):
        raise ProtocolError(errno.EINVAL, "VERSION capabilities are not an object")
    return capabilities


def _answer_capabilities(offered: dict[str, Any], room: int) -> bytes:
    """Ours among those offered, NUL-terminated JSON of at most ``room`` bytes (QEMU reads no more)."""
    ours: dict[str, object] = {
        "max_data_xfer_size": protocol.MAX_DATA_XFER,
        "max_msg_fds": protocol.MAX_MSG_FDS,
        "write_multiple": True,
        "pgsizes": protocol.PAGE,
        "max_dma_maps": protocol.MAX_DMA_MAPS,
    }
    agreed = {key: value for key, value in ours.items() if key in offered}
    while agreed:
        text = json.dumps({"capabilities": agreed}, separators=(",", ":")).encode() + b"\0"
        if len(text) <= room:
            return text
        with contextlib.suppress(KeyError):
            agreed.popitem()
    return b""


_HANDLERS: dict[int, Callable[[Session, Message], Reply]] = {
    Command.VERSION: Session._version,
    Command.DMA_MAP: Session._dma_map,
    Command.DMA_UNMAP: Session._dma_unmap,
    Command.DEVICE_GET_INFO: Session._device_get_info,
    Command.DEVICE_GET_REGION_INFO: Session._device_get_region_info,
    Command.DEVICE_GET_REGION_IO_FDS: Session._device_get_region_io_fds,
    Command.DEVICE_GET_IRQ_INFO: Session._device_get_irq_info,
    Command.DEVICE_SET_IRQS: Session._device_set_irqs,
    Command.REGION_READ: Session._region_read,
    Command.REGION_WRITE: Session._region_write,
    Command.DMA_READ: Session._unsupported,
    Command.DMA_WRITE: Session._unsupported,
    Command.DEVICE_RESET: Session._device_reset,
    Command.DIRTY_PAGES: Session._unsupported,
    Command.REGION_WRITE_MULTI: Session._region_write_multi,
    Command.DEVICE_FEATURE: Session._device_feature,
    Command.MIG_DATA_READ: Session._unsupported,
    Command.MIG_DATA_WRITE: Session._unsupported,
}

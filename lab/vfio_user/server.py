"""A listening socket in front of a device: who may be its client, and when.

A device has one client. QEMU is often replaced while the old one is still going down (its supervisor
was killed, or the kernel is still taking a core dump), so a newcomer waits a moment for the client to
leave. Then a client whose process is gone, a zombie or stopped is dropped in favour of the newcomer,
and a healthy one stays: the newcomer is refused with EBUSY.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lab.vfio_user.access import AccessLog
from lab.vfio_user.device import PciDevice
from lab.vfio_user.pci import ConfigSpace
from lab.vfio_user.pump import PumpSet
from lab.vfio_user.session import Options, Session
from lab.vfio_user.transport import SocketPipe

log = logging.getLogger(__name__)

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
#: Connections without VERSION, at one time. More are closed at once.
MAX_CANDIDATES = 4
#: How long a newcomer waits for the present client to leave, in seconds.
GRACE = 2.0


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class EventLoop(Protocol):
    """The part of :class:`lab.cardd.loop.Loop` that the server needs."""

    def watch(self, fd: int, callback: Callable[[int], None], events: int = READ) -> None: ...
    def change(self, fd: int, events: int) -> None: ...
    def forget(self, fd: int) -> None: ...
    def after(self, seconds: float, call: Callable[[], None]) -> Cancellable: ...


def peer_is_alive(sock: socket.socket) -> bool:
    """Whether the process that connected still runs: not gone, not a zombie, not stopped."""
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZXxTt"


class Server:
    """Serves ``device`` on the unix socket ``path``, one client after another, from ``loop``.

    With ``pumps`` (the loop must wait through it) and ``core_card``, the core's pointer of the same device,
    register accesses are answered in C (:mod:`lab.vfio_user.pump`).
    """

    def __init__(
        self,
        device: PciDevice,
        path: Path,
        loop: EventLoop,
        options: Options | None = None,
        *,
        pumps: PumpSet | None = None,
        core_card: Any = None,
        alive: Callable[[socket.socket], bool] = peer_is_alive,
        grace: float = GRACE,
    ) -> None:
        self.device = device
        self.path = path
        self.config = ConfigSpace(device.identity)
        device.on_power = self.config.reset
        self.options = options or Options(name=path.name)
        self.client: Session | None = None
        self.clients_served = 0
        self._loop = loop
        self._pumps = pumps
        self._core_card = core_card
        self._alive = alive
        self._grace = grace
        self._sockets: dict[Session, socket.socket] = {}
        self._waiting: list[Session] = []
        self._log: AccessLog | None = None
        self._listener = _listen(path)
        loop.watch(self._listener.fileno(), self._accept)

    @property
    def connected(self) -> bool:
        return self.client is not None

    def trace(self, log: AccessLog | None) -> None:
        """Tell ``log`` of each access of a region from now on, by this client and the next ones.

        What the pump serves is told when the client leaves, when the log changes and by :meth:`catch_up`.
        """
        self.catch_up()
        self._log = log
        for session in self._sockets:
            session.on_access = log.record if log else None
            if session.pump is not None:
                session.pump.log(log is not None)

    def catch_up(self) -> None:
        """Tell the log now of what the pump served."""
        if self.client is not None and self.client.pump is not None and self._log is not None:
            self._log.extend(self.client.pump.accesses())
            self.client.pump.log(True)

    def close(self) -> None:
        """Disconnect everybody and remove the socket."""
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self.path.unlink(missing_ok=True)
        for session in list(self._sockets):
            self._drop(session)

    def adopt(self, sock: socket.socket) -> Session:
        """Take a connected socket as a client (the listener does; tests do with a socketpair)."""
        session = Session(self.device, self.config, SocketPipe(sock), self.options)
        session.on_access = self._log.record if self._log else None
        session.on_version = self._admit
        self._sockets[session] = sock
        if self.client is None:
            self._start(session)
        else:
            self._waiting.append(session)
            self._loop.after(self._grace, lambda: self._decide(session))
        return session

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            candidates = len(self._sockets) - (self.client is not None)
            if candidates >= MAX_CANDIDATES:
                log.warning("%s: too many clients at once, one is turned away", self.options.name)
                sock.close()
                return
            self.adopt(sock)

    def _start(self, session: Session) -> None:
        """Begin to read from a candidate."""
        self._loop.watch(session.fileno(), lambda events: self._serve(session, events))

    def _serve(self, session: Session, events: int) -> None:
        fd = session.fileno()
        if events & READ:
            session.readable()
        if events & WRITE and not session.closed:
            session.writable()
        if session.closed:
            self._loop.forget(fd)
            self._forget(session)
        else:
            self._loop.change(fd, WRITE if session.wants_write else READ)

    def _admit(self, session: Session) -> bool:
        """A candidate's VERSION is right: is the device free?"""
        if self.client is not None:
            return False
        self.client = session
        self.clients_served += 1
        self._pump(session)
        log.info("%s: client connected", self.options.name)
        return True

    def _pump(self, session: Session) -> None:
        """Let the core serve the client's registers."""
        if self._pumps is None:
            return
        window = self.device.regions[0].size
        pump = self._pumps.add(self._core_card, session.fileno(), window)
        pump.log(self._log is not None)
        session.attach_pump(pump)

    def _unpump(self, session: Session) -> None:
        pump = session.detach_pump()
        if pump is not None and self._pumps is not None:
            self._pumps.remove(pump)
            if self._log is not None:
                self._log.extend(pump.accesses())

    def _decide(self, session: Session) -> None:
        """The newcomer's patience is over while the client is still there."""
        if session not in self._waiting:
            return
        self._waiting.remove(session)
        if self.client is not None and not self._alive(self._sockets[self.client]):
            log.warning("%s: the client's process is dead or stopped: replaced", self.options.name)
            self._drop(self.client)
        self._start(session)

    def _drop(self, session: Session) -> None:
        self._loop.forget(session.fileno())
        session.close()
        self._forget(session)

    def _forget(self, session: Session) -> None:
        self._unpump(session)
        self._sockets.pop(session, None)
        if session in self._waiting:
            self._waiting.remove(session)
        if self.client is session:
            self.client = None
            log.info("%s: client gone", self.options.name)
            if self._waiting:
                self._start(self._waiting.pop(0))


def _listen(path: Path) -> socket.socket:
    """A listening socket at ``path``; a stale file of a dead daemon is replaced, a live one is not."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(probe):
        try:
            probe.connect(os.fspath(path))
        except FileNotFoundError:
            pass
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise FileExistsError(f"{path}: another process is serving this socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    listener.bind(os.fspath(path))
    listener.listen(MAX_CANDIDATES)
    return listener

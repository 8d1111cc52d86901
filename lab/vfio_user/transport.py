"""Messages over a byte pipe: framing, descriptors that stay with their message, bounded output.

The pipe is anything that has the four calls of :class:`Pipe`; a non-blocking ``AF_UNIX`` stream socket
is one through :class:`SocketPipe`, and a test's list of byte strings is another.
"""

from __future__ import annotations

import array
import contextlib
import errno
import socket
from collections.abc import Sequence
from typing import Protocol

from lab.vfio_user.protocol import (
    HEADER,
    MAX_MESSAGE,
    MAX_MSG_FDS,
    TYPE_COMMAND,
    TYPE_MASK,
    Message,
    ProtocolError,
    close_all,
)


class Pipe(Protocol):
    """A non-blocking byte stream that may carry descriptors."""

    def recv(self, size: int) -> tuple[bytes, list[int]]:
        """Up to ``size`` bytes, with the descriptors that came; ``b""`` at the end.

        Raises BlockingIOError when there is nothing now, OSError when the stream broke.
        """

    def send(self, data: bytes, fds: Sequence[int]) -> int:
        """Bytes accepted (descriptors go with the first); BlockingIOError when there is no room."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class SocketPipe:
    """A :class:`Pipe` over a connected ``AF_UNIX`` stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._room = socket.CMSG_SPACE(MAX_MSG_FDS * 4)

    def recv(self, size: int) -> tuple[bytes, list[int]]:
        data, ancillary, flags, _ = self.sock.recvmsg(size, self._room, socket.MSG_CMSG_CLOEXEC)
        if not ancillary:
            return data, []
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if flags & socket.MSG_CTRUNC:
            # The kernel dropped some: what they belong to would be guesswork.
            close_all(list(fds))
            raise ConnectionError(errno.EPROTO, f"more than {MAX_MSG_FDS} descriptors in one message")
        return data, list(fds)

    def send(self, data: bytes, fds: Sequence[int]) -> int:
        if fds:
            rights = array.array("i", fds).tobytes()
            return self.sock.sendmsg(
                [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_NOSIGNAL
            )
        return self.sock.send(data, socket.MSG_NOSIGNAL)

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


class Framer:
    """Cuts a :class:`Pipe` into messages.

    Header and payload are read separately, never past the end of the current message: a larger read
    would merge messages, and the kernel hands the descriptors of the last one to the reader of the
    first (reference/vfio-user-notes.md, protocol).
    """

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self._head = bytearray()
        self._message: Message | None = None
        self._body = bytearray()
        self._early = b""
        self._fds: list[int] = []

    def receive(self) -> Message | None:
        """The next whole message; None when its bytes are not all there yet.

        Raises EOFError at the end of the stream, :class:`ProtocolError` when the header makes no sense,
        OSError when the stream broke.
        """
        if self._message is None:
            if not self._fill(self._head, HEADER.size):
                return None
            self._message = self._begin()
        message = self._message
        if not self._fill(self._body, message.size - HEADER.size):
            return None
        message.payload = bytes(self._body)
        message.fds, self._fds = self._fds, []
        self._message = None
        self._head.clear()
        self._body.clear()
        return message

    def resume(self, data: bytes, fds: list[int]) -> None:
        """Go on with a message of which ``data`` (no more than that message) was read, with its ``fds``."""
        assert self.idle
        self._early, self._fds = data, fds

    @property
    def idle(self) -> bool:
        """Between messages: nothing of the next one has been read."""
        return self._message is None and not self._head and not self._early

    def close(self) -> None:
        close_all(self._fds)
        self._fds = []
        self.pipe.close()

    def _fill(self, buffer: bytearray, size: int) -> bool:
        if self._early and len(buffer) < size:
            room = size - len(buffer)
            buffer += self._early[:room]
            self._early = self._early[room:]
        while len(buffer) < size:
            try:
                data, fds = self.pipe.recv(size - len(buffer))
            except BlockingIOError:
                return False
            self._fds += fds
            if not data:
                raise EOFError("the client closed the connection")
            buffer += data
            if len(self._fds) > MAX_MSG_FDS:
                raise ConnectionError(errno.EPROTO, f"more than {MAX_MSG_FDS} descriptors in one message")
        return True

    def _begin(self) -> Message:
        message = Message(*HEADER.unpack(self._head))
        if message.flags & TYPE_MASK != TYPE_COMMAND:
            # A reply answers nothing, because this server never asks; the other values have no meaning.
            raise ConnectionError(errno.EPROTO, f"message type {message.flags & TYPE_MASK} is not a command")
        if message.size < HEADER.size:
            raise FramingError(message, errno.EINVAL, f"message size {message.size} is less than its header")
        if message.size > MAX_MESSAGE:
            raise FramingError(message, errno.EMSGSIZE, f"message size {message.size} is over {MAX_MESSAGE}")
        return message


class FramingError(ProtocolError):
    """A header whose message cannot be read; ``message`` is what the last error reply answers."""

    def __init__(self, message: Message, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.message = message


class Outbox:
    """Replies that the pipe would not take yet, in order.

    It stays small without a limit of its own: the session reads no further command while it holds bytes.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._data = b""
        self._fds: tuple[int, ...] = ()

    @property
    def empty(self) -> bool:
        return not self._data

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send, or keep what cannot be sent. The descriptors must stay open until ``empty``."""
        assert self.empty, "no reply is made while another waits"
        self._data, self._fds = data, tuple(fds)
        self.flush()

    def flush(self) -> None:
        """Send what waits. Raises OSError when the stream broke."""
        with contextlib.suppress(BlockingIOError):
            while self._data:
                sent = self._pipe.send(self._data, self._fds)
                self._data, self._fds = self._data[sent:], ()

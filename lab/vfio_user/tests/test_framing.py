"""The byte stream: cut anywhere, with descriptors, and with headers that make no sense."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import HEADER, MAX_MESSAGE, MAX_MSG_FDS, Command
from lab.vfio_user.tests.double import ID, IDENTITY, SCRATCH, connected, memfd, open_fds

READ_ID = HEADER.pack(7, Command.REGION_READ, 32, 0, 0) + protocol.REGION_RW.pack(ID, 0, 4)


def test_bytes_may_come_one_at_a_time() -> None:
    with connected() as (client, _):
        for byte in READ_ID:
            assert client.receive() is None
            client.send_raw(bytes([byte]))
            client.pump()
        answer = client.receive()
        assert answer is not None and answer.payload[16:] == IDENTITY.to_bytes(4, "little")


def test_commands_may_come_together() -> None:
    """Pipelined commands are answered in order."""
    with connected() as (client, _):
        ids = [client.send(Command.REGION_READ, protocol.REGION_RW.pack(ID, 0, 4)) for _ in range(50)]
        client.pump()
        answers = [client.receive() for _ in ids]
        assert [answer.id for answer in answers if answer] == ids


def test_descriptors_stay_with_their_message() -> None:
    """Three pipelined DMA_MAPs, the second without descriptor: each gets what it brought."""
    first, third = memfd("first", 4096), memfd("third", 4096)
    os.pwrite(first, b"1", 0)
    os.pwrite(third, b"3", 0)
    with connected() as (client, device):
        for at, fds in enumerate(([first], [], [third])):
            client.send(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, at * 4096, 4096), fds)
        client.pump()
        memories = [device.ranges[at * 4096][1] for at in range(3)]
        assert [memory[0:1] if memory else None for memory in memories] == [b"1", None, b"3"]
        del memories
    os.close(first)
    os.close(third)


@pytest.mark.parametrize(
    ("header", "number"),
    [
        (HEADER.pack(1, Command.DEVICE_RESET, 15, 0, 0), errno.EINVAL),
        (HEADER.pack(1, Command.DEVICE_RESET, 0, 0, 0), errno.EINVAL),
        (HEADER.pack(1, Command.REGION_WRITE, MAX_MESSAGE + 1, 0, 0), errno.EMSGSIZE),
        (HEADER.pack(1, Command.REGION_WRITE, 0xFFFFFFFF, 0, 0), errno.EMSGSIZE),
    ],
)
def test_an_impossible_size_is_answered_and_ends_the_connection(header: bytes, number: int) -> None:
    """The end of such a message cannot be found: its errno, then closed."""
    with connected() as (client, _):
        client.send_raw(header)
        client.pump()
        answer = client.receive()
        assert answer is not None and answer.failed and answer.error == number
        assert client.closed


@pytest.mark.parametrize("kind", [protocol.TYPE_REPLY, 2, 15])
def test_what_is_no_command_ends_the_connection(kind: int) -> None:
    """A reply to nothing and unknown types are not answered: closed."""
    with connected() as (client, _):
        client.send_raw(HEADER.pack(1, Command.DEVICE_RESET, 16, kind, 0))
        client.pump()
        assert client.closed


@pytest.mark.parametrize("cut", [1, 15, 16, 31])
def test_the_end_in_the_middle_of_a_message_is_an_end(cut: int) -> None:
    with connected() as (client, device):
        client.send_raw(READ_ID[:cut], [os.eventfd(0)] if cut == 1 else [])
        client.sock.shutdown(socket.SHUT_WR)
        client.pump()
        assert client.session.closed
        assert device.calls[-1] == "disconnected"
        if cut == 1:  # the sender's own copy
            os.close(max(fd for fd, what in open_fds().items() if "eventfd" in what))


@pytest.mark.parametrize("count", [MAX_MSG_FDS + 1, 200])
def test_too_many_descriptors_end_the_connection(count: int) -> None:
    """More than was agreed on: closed, and none of them is kept."""
    with connected() as (client, _):
        fd = os.eventfd(0)
        before = len(open_fds())
        client.send_raw(READ_ID, [fd] * count)
        client.pump()
        assert client.closed
        assert len(open_fds()) < before  # the server's end of the socket is closed, too
        os.close(fd)


def test_descriptors_spread_over_a_message_are_counted_together() -> None:
    with connected() as (client, _):
        fd = os.eventfd(0)
        for byte in READ_ID[: MAX_MSG_FDS + 1]:
            client.send_raw(bytes([byte]), [fd])
        client.pump()
        assert client.closed
        os.close(fd)


def test_a_client_that_does_not_read_is_waited_for() -> None:
    """Replies find no room: the server takes no further command, and goes on where it stopped."""
    with connected() as (client, _):
        client.session.pipe.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)  # type: ignore[attr-defined]
        ids = []
        client.sock.setblocking(False)
        for _ in range(200):
            ids.append(client.send(Command.REGION_READ, protocol.REGION_RW.pack(0, 2, 4096)))
            client.pump()
        assert client.session.wants_write
        answers: list[int] = []
        while len(answers) < len(ids):
            client.sock.setblocking(True)
            head = client.sock.recv(HEADER.size, socket.MSG_DONTWAIT)
            size = HEADER.unpack(head)[2] - HEADER.size
            body = b""
            while len(body) < size:
                client.pump()
                body += client.sock.recv(size - len(body), socket.MSG_DONTWAIT)
            answers.append(HEADER.unpack(head)[0])
            client.pump()
        assert answers == ids


def test_a_client_that_goes_away_without_reading_ends_the_session() -> None:
    with connected() as (client, device):
        client.send(Command.REGION_READ, protocol.REGION_RW.pack(ID, 0, 4))
        client.sock.close()
        client.pump()
        client.pump()
        assert client.session.closed
        assert device.calls[-1] == "disconnected"


def test_a_defect_of_the_device_is_eio(caplog: pytest.LogCaptureFixture) -> None:
    """A model that raises something unexpected is reported, and the connection goes on."""
    with connected() as (client, device):
        device.registers = {}
        del device.registers
        assert client.errno(Command.REGION_READ, protocol.REGION_RW.pack(SCRATCH, 0, 4)) == errno.EIO
        assert "AttributeError" in caplog.text
        device.registers = {SCRATCH: 1}
        assert client.read(0, SCRATCH, 4) == b"\1\0\0\0"

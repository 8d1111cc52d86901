"""The C pump: what it serves, what it hands over, and that nobody can tell the difference."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cardd.loop import Loop
from lab.vfio_user import protocol
from lab.vfio_user.access import Access
from lab.vfio_user.protocol import FLAG_NO_REPLY, HEADER, Command
from lab.vfio_user.pump import LOG_ROOM, Pump, PumpSet
from lab.vfio_user.server import Server
from lab.vfio_user.tests.double import CORE_ARM, CORE_DOORBELL, ID, IDENTITY, SCRATCH, Core, Double, connected

READ_ID = HEADER.pack(7, Command.REGION_READ, 32, 0, 0) + protocol.REGION_RW.pack(ID, 0, 4)


pytestmark = pytest.mark.parametrize("transport", ["pump"], indirect=True)


def test_registers_of_the_core_do_not_reach_python() -> None:
    """A read and two writes are answered while the device model has none of these registers."""
    with connected() as (client, device):
        pump = client.session.pump
        assert pump is not None
        device.registers.clear()
        assert client.read(0, ID, 4) == IDENTITY.to_bytes(4, "little")
        client.write(0, CORE_DOORBELL, bytes(4))
        client.write(0, CORE_ARM, bytes(4))
        assert pump.served == 3
        assert client.session.counters.commands["region_read"] == 0


def test_a_posted_doorbell_is_not_answered() -> None:
    with connected() as (client, _):
        payload = protocol.REGION_RW.pack(CORE_DOORBELL, 0, 4) + bytes(4)
        client.send(Command.REGION_WRITE, payload, flags=FLAG_NO_REPLY)
        client.ok(Command.DEVICE_RESET)
        assert client.session.pump is not None and client.session.pump.served == 1


@pytest.mark.parametrize("cut", range(1, 32))
def test_a_message_may_come_in_two_parts(cut: int) -> None:
    """What was read before the gap goes to Python with the rest, wherever the gap is."""
    with connected() as (client, _):
        client.send_raw(READ_ID[:cut])
        client.pump()
        assert client.session.pump is not None and client.session.pump.paused
        client.send_raw(READ_ID[cut:])
        client.pump()
        answer = client.receive()
        assert answer is not None and answer.payload[16:] == IDENTITY.to_bytes(4, "little")
        assert not client.session.pump.paused


def test_a_hot_message_with_descriptors_goes_to_python() -> None:
    """It is answered, and its descriptors are closed."""
    with connected() as (client, _):
        fd = os.eventfd(0)
        client.send_raw(READ_ID[:20], [fd])
        client.send_raw(READ_ID[20:], [fd])
        client.pump()
        answer = client.receive()
        assert answer is not None and not answer.failed
        os.close(fd)


def test_order_is_kept_between_pump_and_python() -> None:
    """Alternating hot and cold messages, all sent before the first is served."""
    with connected() as (client, _):
        ids = []
        for number in range(60):
            if number % 3:
                ids.append(client.send(Command.REGION_READ, protocol.REGION_RW.pack(ID, 0, 4)))
            else:
                data = number.to_bytes(4, "little")
                payload = protocol.REGION_RW.pack(SCRATCH, 0, 4) + data
                ids.append(client.send(Command.REGION_WRITE, payload))
        for _ in range(4):
            client.pump()
        answers = [client.receive() for _ in ids]
        assert [answer.id for answer in answers if answer] == ids


def test_a_reply_that_finds_no_room_is_sent_later() -> None:
    """The pump stops, Python sends the rest, nothing is lost or repeated."""
    with connected() as (client, _):
        client.session.pipe.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)  # type: ignore[attr-defined]
        ids = []
        while not client.session.wants_write:
            ids.append(client.send(Command.REGION_READ, protocol.REGION_RW.pack(ID, 0, 4)))
            client.session.readable()
        for _ in range(5):
            ids.append(client.send(Command.REGION_READ, protocol.REGION_RW.pack(ID, 0, 4)))
        answers: list[int] = []
        while len(answers) < len(ids):
            answer = client.receive()
            if answer is None:
                client.pump()
            else:
                answers.append(answer.id)
        assert answers == ids


def test_an_interrupt_that_a_doorbell_causes_is_raised() -> None:
    """Held back until the reply was sent, not longer: it is there when the reply is read."""
    with connected() as (client, device), Core(device).opened() as core:
        assert client.session.pump is not None
        client.session.pump.raw.card = core.card
        eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        core.start(eventfd)
        armed_behind = 0x8000_0000 | 0x3F_FFFF  # the position before the first chunk: written long ago
        client.write(0, CORE_ARM, armed_behind.to_bytes(4, "little"))
        assert os.eventfd_read(eventfd) == 1
        os.close(eventfd)


@dataclass
class Bench:
    """A server with a pump set, on a socket of its own."""

    pumps: PumpSet
    loop: Loop
    server: Server
    path: Path

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.path))
        sock.sendall(HEADER.pack(1, Command.VERSION, 20, 0, 0) + protocol.VERSION.pack(0, 0))
        for _ in range(3):
            self.loop.turn(0)
        assert len(sock.recv(20)) == 20
        return sock

    def read_id(self, sock: socket.socket) -> int:
        sock.sendall(READ_ID)
        for _ in range(2):
            self.loop.turn(0)
        return int.from_bytes(sock.recv(36)[32:], "little")

    @property
    def pump(self) -> Pump | None:
        assert self.server.client is not None
        return self.server.client.pump


@pytest.fixture(params=[0, 20_000], ids=["no spin", "spin"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    pumps, device = PumpSet(spin_ns=request.param), Double()
    core, loop = Core(device), Loop(pumps.wait)
    path = tmp_path / "card0.sock"
    server = Server(device, path, loop, pumps=pumps, core_card=core.card)
    yield Bench(pumps, loop, server, path)
    server.close()
    loop.close()
    core.close()
    device.close()


def test_the_loop_serves_without_python(bench: Bench) -> None:
    """Inside the wait: the session is not called at all."""
    with bench.connect() as sock:
        assert bench.server.client is not None and bench.pump is not None
        calls = sum(bench.server.client.counters.commands.values())
        assert [bench.read_id(sock) for _ in range(5)] == [IDENTITY] * 5
        assert bench.pump.served == 5
        assert sum(bench.server.client.counters.commands.values()) == calls


@dataclass
class Log:
    """An :class:`~lab.vfio_user.access.AccessLog` that keeps everything."""

    seen: list[tuple[str, int, int, bytes]]

    def record(self, kind: str, region: int, offset: int, data: bytes) -> None:
        self.seen.append((kind, region, offset, data))

    def extend(self, accesses: Iterable[Access]) -> None:
        self.seen += [(one.kind, one.region, one.offset, one.data) for one in accesses]


def test_a_log_has_what_the_pump_served(bench: Bench) -> None:
    """Reads with what they gave; told on request, when the log goes, and when the client does."""
    log = Log([])
    entry = ("r", 0, ID, IDENTITY.to_bytes(4, "little"))
    with bench.connect() as sock:
        bench.read_id(sock)
        bench.server.trace(log)
        bench.read_id(sock)
        assert log.seen == []
        bench.server.catch_up()
        bench.server.catch_up()
        assert log.seen == [entry]
        bench.read_id(sock)
        bench.server.trace(None)
        assert log.seen == [entry] * 2
        bench.read_id(sock)
        bench.server.trace(log)
        bench.read_id(sock)
        assert bench.pump is not None and bench.pump.served == 5
    for _ in range(3):
        bench.loop.turn(0)
    assert log.seen == [entry] * 3


def test_a_log_is_bounded(bench: Bench) -> None:
    """The oldest go first."""
    with bench.connect() as sock:
        assert bench.pump is not None
        bench.pump.log(True)
        bench.pump.raw.logged = LOG_ROOM - 1
        for _ in range(3):
            bench.read_id(sock)
        found = bench.pump.accesses()
        assert len(found) == LOG_ROOM
        assert [one.offset for one in found[-3:]] == [ID] * 3 and found[-1].ns >= found[-2].ns > 0


def test_the_pump_leaves_with_its_client(bench: Bench) -> None:
    """The next client's socket may have the same number: it gets a pump of its own."""
    with bench.connect():
        first = bench.pump
        assert first is not None and first in bench.pumps
    for _ in range(3):
        bench.loop.turn(0)
    assert bench.server.client is None and first not in bench.pumps
    with bench.connect() as sock:
        assert bench.read_id(sock) == IDENTITY
        assert bench.pump is not first

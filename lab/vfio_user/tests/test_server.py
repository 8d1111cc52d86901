"""The listening socket: one client at a time, and the next one after the old one died."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from lab.cardd.loop import Loop
from lab.vfio_user import protocol
from lab.vfio_user.protocol import HEADER, Command
from lab.vfio_user.pump import PumpSet
from lab.vfio_user.server import MAX_CANDIDATES, Server, peer_is_alive
from lab.vfio_user.tests.double import PUMP, Core, Double, open_fds

VERSION = HEADER.pack(1, Command.VERSION, 20, 0, 0) + protocol.VERSION.pack(0, 0)
RESET = HEADER.pack(2, Command.DEVICE_RESET, 16, 0, 0)


class Bench:
    """A server on a socket of its own, and the loop that runs it."""

    def __init__(self, directory: Path, alive: bool = True, grace: float = 0.05) -> None:
        self.before = set(open_fds())
        self.pumps = PumpSet() if PUMP.get() else None
        self.loop = Loop(self.pumps.wait if self.pumps else None)
        self.device = Double()
        self.core = Core(self.device) if self.pumps else None
        self.path = directory / "card0.sock"
        self.server = Server(
            self.device,
            self.path,
            self.loop,
            pumps=self.pumps,
            core_card=self.core.card if self.core else None,
            alive=lambda _: alive,
            grace=grace,
        )

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.path))
        self.loop.turn(0)
        return sock

    def turn(self, seconds: float = 0.0) -> None:
        """Run the loop until it has nothing to do for ``seconds``."""
        end = time.monotonic() + seconds
        self.loop.turn(0)
        while (left := end - time.monotonic()) > 0:
            self.loop.turn(left)
        for _ in range(4):
            self.loop.turn(0)

    def ask(self, sock: socket.socket, request: bytes, seconds: float = 0.0) -> int | None:
        """The errno of the reply (0 for success), or None for none."""
        sock.send(request)
        self.turn(seconds)
        try:
            head = sock.recv(HEADER.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        fields = HEADER.unpack(head)
        sock.recv(fields[2], socket.MSG_DONTWAIT) if fields[2] > HEADER.size else b""
        return int(fields[4])

    def close(self) -> None:
        self.server.close()
        self.loop.close()
        if self.core:
            self.core.close()
        self.device.close()
        assert not self.path.exists()
        assert set(open_fds()) <= self.before


def test_a_new_client_after_the_old_one(tmp_path: Path) -> None:
    """The old one's end is noticed, the device hears of it, the next one starts afresh."""
    bench = Bench(tmp_path)
    for round_ in range(3):
        with bench.connect() as sock:
            assert bench.ask(sock, VERSION) == 0
            assert bench.server.connected
            assert bench.ask(sock, RESET) == 0
        bench.turn()
        assert not bench.server.connected
        assert bench.device.calls.count("disconnected") == round_ + 1
    bench.close()


def test_a_new_client_while_the_old_one_goes(tmp_path: Path) -> None:
    """The newcomer is not answered while the old one is there, and served the moment it is gone."""
    bench = Bench(tmp_path, grace=30)
    with bench.connect() as old:
        assert bench.ask(old, VERSION) == 0
        with bench.connect() as new:
            assert bench.ask(new, VERSION) is None
            old.close()
            assert bench.ask(new, RESET) == 0  # the reply to VERSION
            assert bench.server.clients_served == 2
    bench.turn()
    bench.close()


def test_a_dead_client_with_an_open_socket_is_replaced(tmp_path: Path) -> None:
    """Half-dead: the process is gone or stopped, its socket still open somewhere."""
    bench = Bench(tmp_path, alive=False)
    with bench.connect() as old, bench.connect() as new:
        assert bench.ask(old, VERSION) is None or bench.server.connected
    bench.close()

    bench = Bench(tmp_path, alive=False)
    with bench.connect() as old:
        assert bench.ask(old, VERSION) == 0
        with bench.connect() as new:
            assert bench.ask(new, VERSION, 0.2) == 0
            assert old.recv(1) == b""
            assert bench.device.calls == ["dma_unmap_all", "disconnected"]
    bench.turn()
    bench.close()


def test_a_healthy_client_stays(tmp_path: Path) -> None:
    """The second client is refused with EBUSY, the first goes on."""
    bench = Bench(tmp_path)
    with bench.connect() as first, bench.connect() as second:
        assert bench.ask(first, VERSION) == 0
        assert bench.ask(second, VERSION, 0.2) == 16
        assert second.recv(1) == b""
        assert bench.ask(first, RESET) == 0
    bench.turn()
    bench.close()


def test_an_idle_connection_does_not_block_a_client(tmp_path: Path) -> None:
    """A connection that says nothing is a candidate only; candidates are bounded."""
    bench = Bench(tmp_path)
    idle = [bench.connect() for _ in range(MAX_CANDIDATES - 1)]
    with bench.connect() as client:
        assert bench.ask(client, VERSION) == 0
    with bench.connect() as client:
        pass
    for sock in idle:
        sock.close()
    bench.turn()
    with bench.connect() as client:
        assert bench.ask(client, VERSION) == 0
    bench.turn()
    bench.close()


def test_too_many_candidates_are_turned_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    idle = [bench.connect() for _ in range(MAX_CANDIDATES)]
    with bench.connect() as late:
        assert late.recv(1) == b""
    for sock in idle:
        sock.close()
    bench.turn()
    bench.close()


def test_the_socket_of_a_dead_daemon_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "card0.sock"
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(path))
    stale.close()
    bench = Bench(tmp_path)
    with pytest.raises(FileExistsError, match="another process"):
        Server(bench.device, path, bench.loop)
    bench.turn()
    bench.close()


def test_the_peer_of_a_socketpair_is_this_process() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert peer_is_alive(near)

"""The tester socket, raw and through scapy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from lab.card.guest import Guest
from lab.card.tests.conftest import MAC0
from lab.wire.fabric import Fabric
from lab.wire.scapy_socket import TesterSocket
from lab.wire.tester import QUEUE_LIMIT

Build = Callable[..., bytes]
WIRING = [{"kind": "cable", "ends": ["card0:0", "tester:t0"]}]


@pytest.fixture
def client(fabric: Fabric, guest: Guest, tmp_path: Path) -> Iterator[socket.socket]:
    """A client of tester t0, which is cabled to port 0."""
    fabric.apply(WIRING)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(10)
        link.connect(str(tmp_path / "t0.sock"))
        fabric.poll(1)
        yield link


def test_both_ways(fabric: Fabric, guest: Guest, client: socket.socket, frame: Build) -> None:
    """One message is one frame without FCS; short ones are padded on the wire."""
    guest.send(frame(size=100))
    fabric.poll()
    assert client.recv(9000) == frame(size=100)
    client.send(frame(MAC0, size=20))
    fabric.poll(1)
    got = guest.receive(0)
    assert got is not None and got.frame[:-4] == frame(MAC0, size=20).ljust(60, b"\0")


def test_every_client_sees_everything(
    fabric: Fabric, guest: Guest, client: socket.socket, frame: Build, tmp_path: Path
) -> None:
    """Two clients at one end: both are shown each frame."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as second:
        second.connect(str(tmp_path / "t0.sock"))
        fabric.poll(1)
        guest.send(frame())
        fabric.poll()
        assert client.recv(9000) == second.recv(9000) == frame()
    fabric.poll(1)
    assert fabric.testers["tester:t0"].clients == 1


def test_bad_sizes_are_refused(fabric: Fabric, guest: Guest, client: socket.socket) -> None:
    """Too short and too long: counted, not sent."""
    client.send(b"\0" * 13)
    client.send(b"\0" * 9213)
    fabric.poll(1)
    assert fabric.counters()["tester:t0"]["refused"] == 2
    assert guest.receive(0) is None


def test_slow_client_never_blocks(fabric: Fabric, guest: Guest, client: socket.socket, frame: Build) -> None:
    """A client that does not read loses frames, counted; what it was given comes in order."""
    offered = 0
    counters = fabric.testers["tester:t0"].counters
    while not counters.dropped:
        guest.send(frame(size=1500))
        offered += 1
        if not offered % 64:
            fabric.poll()
    got = 0
    fabric.poll()
    client.setblocking(False)
    while True:
        try:
            client.recv(9000)
        except BlockingIOError:
            fabric.poll()
            try:
                client.recv(9000)
            except BlockingIOError:
                break
        got += 1
    assert got == offered - counters.dropped
    assert got > QUEUE_LIMIT


def test_nobody_there(fabric: Fabric, guest: Guest, frame: Build) -> None:
    """Frames to a tester without client are counted; the link is up all the same."""
    fabric.apply(WIRING)
    guest.send(frame())
    fabric.poll()
    assert fabric.counters()["tester:t0"]["unattended"] == 1


def test_unplugged_tester_goes_away(
    fabric: Fabric, guest: Guest, client: socket.socket, tmp_path: Path
) -> None:
    """A tester in no segment has no socket; its clients see the end."""
    fabric.apply([])
    assert client.recv(10) == b""
    assert not (tmp_path / "t0.sock").exists()


def test_scapy_request_and_answer(fabric: Fabric, guest: Guest, tmp_path: Path) -> None:
    """sr1 through the tester: what the guest answers is matched to what scapy asked."""
    fabric.apply(WIRING)
    done = threading.Event()

    def respond() -> None:
        while not done.is_set():
            fabric.poll(0.05)
            got = guest.receive(0)
            if got is not None:
                asked = Ether(got.frame[:-4])
                answer = Ether(src=MAC0, dst=asked.src) / IP(src=asked[IP].dst, dst=asked[IP].src)
                guest.send(bytes(answer / ICMP(type=0, id=asked[ICMP].id, seq=asked[ICMP].seq)))

    thread = threading.Thread(target=respond)
    thread.start()
    try:
        with TesterSocket(tmp_path / "t0.sock") as tester:
            request = Ether(src="02:00:00:00:00:01", dst="64:3f:5f:01:00:00") / IP(
                src="10.0.0.1", dst="10.0.0.2"
            )
            reply = tester.sr1(request / ICMP(id=7, seq=1), timeout=10, verbose=False)
    finally:
        done.set()
        thread.join()
    assert reply is not None and reply[ICMP].type == 0 and reply[IP].src == "10.0.0.2"

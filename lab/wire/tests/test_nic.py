"""The outside of a real port: what passes an interface of this machine is on the wire, unchanged. On veth
devices.

The far end of each pair stands for the card's port; a program on it sends and hears what the card would.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.l2 import Dot1Q, Ether

from lab.deadline import Deadline
from lab.wire.fabric import CoreName, Fabric
from lab.wire.scapy_socket import TesterSocket
from suites.capture import read

SWITCH = [
    {"kind": "switch", "name": "sw0", "ports": [{"end": "card0:0"}, {"end": "card0:1"}, {"end": "tester:t0"}]}
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Port:
    """The card's side of a cable: what an interface hears and sends."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(263, 23, 1)  # not what it sends itself
        self.socket.bind((name, 3))
        self.socket.settimeout(0.01)

    def hear(self) -> bytes | None:
        try:
            return self.socket.recv(65536)
        except TimeoutError:
            return None


@pytest.fixture(params=["c", "python"])
def fabric(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Fabric, str]]:
    """Two ports by their outsides, in a switch with a tester; and the stem of the interfaces' names."""
    stem = f"exn{secrets.token_hex(3)}"
    for port in (0, 1):
        ip("link", "add", f"{stem}{port}", "type", "veth", "peer", "name", f"{stem}{port}x")
        for name in (f"{stem}{port}", f"{stem}{port}x"):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            ip("link", "set", name, "mtu", "9194", "up")
    core: CoreName = request.param
    made = Fabric(core=core, capture_dir=tmp_path / "capture", tester_dir=tmp_path, seed=1)
    try:
        for port in (0, 1):
            made.add_nic(f"card0:{port}", f"{stem}{port}")
        made.apply(SWITCH)
        yield made, stem
    finally:
        made.close()
        for port in (0, 1):
            ip("link", "del", f"{stem}{port}")


def until(fabric: Fabric, what: str, condition: object) -> object:
    """Serve the fabric until something is so."""
    limit = Deadline(what, 10.0)
    while not (found := condition()):  # type: ignore[operator]
        fabric.poll(0.01)
        limit.check()
    return found


def frame(number: int, size: int = 60, vlan: int | None = None, dst: str = "02:00:00:00:00:bb") -> bytes:
    head = Ether(src="02:00:00:00:00:aa", dst=dst, type=0x88B5)
    if vlan is not None:
        head = Ether(src="02:00:00:00:00:aa", dst=dst) / Dot1Q(vlan=vlan, prio=3, type=0x88B5)
    return bytes(head / bytes([number])).ljust(size, b"\x5a")


@pytest.mark.parametrize("vlan", [None, 42])
@pytest.mark.parametrize("size", [60, 1514, 9000])
def test_what_the_card_sends_is_on_the_wire(
    fabric: tuple[Fabric, str], tmp_path: Path, vlan: int | None, size: int
) -> None:
    """Through the switch to the tester and to the other port, tag and all; each port's capture has it
    once.
    """
    made, stem = fabric
    sent = frame(1, size, vlan, "ff:ff:ff:ff:ff:ff")
    first, second = Port(f"{stem}0x"), Port(f"{stem}1x")
    with TesterSocket(tmp_path / "t0.sock") as tester:
        until(made, "the tester to be heard", lambda: made.testers["tester:t0"].clients)
        tester.ins.settimeout(0.01)
        first.socket.send(sent)

        def seen() -> bytes | None:
            try:
                return tester.recv_raw()[1]
            except TimeoutError:
                return None

        assert until(made, "the frame at the tester", seen) == sent
    heard = until(made, "the frame at the other port", second.hear)
    assert isinstance(heard, bytes)
    # The kernel keeps the tag of what this test hears beside it, too.
    assert heard == (sent if vlan is None else sent[:12] + sent[16:])
    assert first.hear() is None
    made.flush()
    assert [one.sent for one in read(tmp_path / "capture", "card0:0")] == [True]
    assert [one.sent for one in read(tmp_path / "capture", "card0:1")] == [False]
    assert read(tmp_path / "capture", "card0:0")[0].frame.data == sent
    counters = made.counters()
    assert (counters["card0:0"]["tx"], counters["card0:1"]["rx"]) == (1, 1)


def test_rules_and_injected_frames(fabric: tuple[Fabric, str]) -> None:
    """A real port has the wire's rules; a frame out of nowhere goes to it alone."""
    made, stem = fabric
    second = Port(f"{stem}1x")
    made.rules("card0:1", [{"kind": "duplicate", "direction": "rx"}])
    Port(f"{stem}0x").socket.send(frame(1))
    assert until(made, "the frame", second.hear) == until(made, "the frame again", second.hear) == frame(1)
    made.inject("card0:1", frame(3).ljust(64, b"\0"), sealed=True)
    assert made.counters()["card0:1"]["rx_bad_fcs"] == 1
    made.inject("card0:1", frame(2))
    assert until(made, "the injected frame", second.hear) == frame(2)


def test_a_pulled_cable(fabric: tuple[Fabric, str]) -> None:
    """By order the interface goes down, which the other side sees; a link that goes by itself is noticed."""
    made, stem = fabric
    carrier = Path(f"/sys/class/net/{stem}0x/carrier")
    assert made.wire.carrier("card0:0")
    made.link("card0:0", False)
    assert not made.wire.carrier("card0:0")
    until(made, "the card's side to lose its link", lambda: carrier.read_text().strip() == "0")
    made.link("card0:0", True)
    until(made, "the link to be back", lambda: made.wire.carrier("card0:0"))
    ip("link", "set", f"{stem}0x", "down")
    until(made, "the wire to notice", lambda: not made.wire.carrier("card0:0"))
    ip("link", "set", f"{stem}0x", "up")
    until(made, "the wire to notice again", lambda: made.wire.carrier("card0:0"))
    made.nics["card0:0"].close()
    promiscuous = int(Path(f"/sys/class/net/{stem}0/flags").read_text(), 16) & 0x100
    assert not promiscuous, "what we needed to listen stays set"
    del made.nics["card0:0"]


def test_no_such_interface(tmp_path: Path) -> None:
    """It is an error at once, and nothing is left of it."""
    made = Fabric(core="python", capture_dir=tmp_path)
    with pytest.raises(OSError):
        made.add_nic("card0:0", "nosuch0")
    assert "card0:0" not in made.wire.ends
    made.close()

"""The control API against a daemon with two cards, a switch and a tester; and against nonsense."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from lab.cardd.control import Control, ControlError
from lab.cardd.daemon import Daemon
from lab.cardd.tests.conftest import Client

BROADCAST = bytes.fromhex("ffffffffffff") + bytes.fromhex("020000000001") + b"\x88\xb5" + bytes(46)


def test_status(control: Control) -> None:
    status = control.status()
    assert [card["name"] for card in status["cards"]] == ["card0", "card1"]
    assert [card["connected"] for card in status["cards"]] == [False, False]
    assert status["wiring"][0]["name"] == "sw0"
    assert status["seed"] == 7 and status["core"] == "python"


def test_ports_and_link(control: Control) -> None:
    """A tester has link; a card's port has none before a driver powers it; links go down by order."""
    ports = {port["end"]: port for port in control.ports()}
    assert set(ports) == {"card0:0", "card0:1", "card1:0", "card1:1", "tester:t0"}
    assert ports["card0:1"]["mac"] == "64:3f:5f:01:00:01"
    assert ports["card1:1"]["peer"] is None and ports["card0:0"]["peer"] == "sw0"
    assert ports["tester:t0"]["link"]
    control.link("tester:t0", up=False)
    assert not {port["end"]: port for port in control.ports()}["tester:t0"]["link"]


def test_inject_counts_and_is_captured(control: Control, daemon: Daemon) -> None:
    """A frame injected into a port is in its capture after flush."""
    client = Client(str(daemon.spec.cards[0].socket))
    with client.sock:
        client.power()
        control.inject("card0:0", BROADCAST)
        control.flush()
    assert daemon.spec.capture_dir is not None
    content = (daemon.spec.capture_dir / "card0-0.pcapng").read_bytes()
    assert BROADCAST in content
    assert "card0:0" in control.counters()


def test_a_tester_sees_what_another_end_sends(control: Control, daemon: Daemon) -> None:
    """Rewired to a cable between two testers, a frame goes from one socket to the other."""
    control.wire([{"kind": "cable", "ends": ["tester:a", "tester:b"]}])
    assert daemon.spec.tester_dir is not None
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as a,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as b,
    ):
        a.settimeout(30)
        b.settimeout(30)
        a.connect(str(daemon.spec.tester_dir / "a.sock"))
        b.connect(str(daemon.spec.tester_dir / "b.sock"))
        control.status()  # the daemon has accepted both when it answers
        a.send(BROADCAST)
        assert b.recv(2000) == BROADCAST


def test_registers_and_faults(control: Control) -> None:
    before = control.registers("card0")
    assert before["HW_ID"] == 9
    control.fault("card1", "gone")
    assert [card["present"] for card in control.status()["cards"]] == [True, False]
    control.fault("card1", "gone", on=False)
    assert control.status()["cards"][1]["present"]


def test_rules(control: Control) -> None:
    control.rules("card0:0", [{"kind": "loss", "probability": 0.5, "direction": "rx"}])
    control.rules("card0:0", [])


@pytest.mark.parametrize(
    ("method", "params", "said"),
    [
        ("link", {"end": "card9:0", "up": True}, "card9:0"),
        ("link", {"end": "card0:0"}, "missing a required argument: 'up'"),
        ("registers", {"card": "card9"}, "there are: card0, card1"),
        ("fault", {"card": "card0", "kind": "burn", "args": {}}, "no fault 'burn'"),
        ("fault", {"card": "card0", "kind": "gone", "args": {"x": 1}}, "gone"),
        ("inject", {"end": "card0:0", "frame": "xyz"}, "hexadecimal"),
        ("wire", {"segments": [{"kind": "hub"}]}, "segments.0"),
        ("wire", {"segments": [{"kind": "cable", "ends": ["card0:0", "card7:0"]}]}, "card7:0"),
        ("rules", {"end": "card0:0", "rules": [{"kind": "loss", "probability": 2}]}, "probability"),
        ("burn", {}, "no method 'burn'"),
    ],
)
def test_refusals_name_the_mistake(control: Control, method: str, params: dict[str, Any], said: str) -> None:
    """Kind ``invalid``, and the daemon goes on."""
    with pytest.raises(ControlError) as caught:
        control.call(method, **params)
    assert said in caught.value.message
    assert caught.value.kind == "invalid"
    control.status()


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"17", b'{"method": []}', b'{"id":1,"params":3}', b"\xff"]
)
def test_nonsense_is_answered(daemon: Daemon, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        sock.connect(str(daemon.spec.control))
        sock.sendall(line + b"\n")
        answer = json.loads(sock.makefile("rb").readline())
        assert answer["error"]["kind"] == "invalid"


def test_pipelined_requests_are_answered_in_order(daemon: Daemon) -> None:
    """Many at once, one cut in two; a client that leaves in between harms nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        sock.connect(str(daemon.spec.control))
        lines = b"".join(b'{"id": %d, "method": "counters"}\n' % number for number in range(200))
        sock.sendall(lines[:-5])
        sock.sendall(lines[-5:])
        file = sock.makefile("rb")
        assert [json.loads(file.readline())["id"] for _ in range(200)] == list(range(200))
        sock.sendall(b'{"id": 1, "meth')
        file.close()
    with Control(daemon.spec.control) as other:
        other.status()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no card daemon answers"):
        Control(tmp_path / "none.sock")

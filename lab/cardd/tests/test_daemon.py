"""The daemon as a process: ready, served, ended; and its cards as a vfio-user client sees them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from lab.card import registers as reg
from lab.cardd.control import Control
from lab.cardd.daemon import Daemon
from lab.cardd.tests.conftest import PATIENCE, Client, Started
from lab.vfio_user.pci import COMMAND, COMMAND_MASTER


def test_ready_served_and_ended(tmp_path: Path, data: dict[str, Any]) -> None:
    """The ready line comes twice; after SIGTERM sockets are gone and captures are complete."""
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(data))
    started = Started(path)
    assert started.ready["ready"] and started.ready["cards"]["card1"] == data["cards"][1]["socket"]
    client = Client(data["cards"][0]["socket"])
    client.power()
    with client.sock, Control(data["control"], timeout=PATIENCE) as control:
        control.inject("card0:0", b"\xff" * 60)
    status, out, err = started.end()
    assert status == 0, err
    assert json.loads(out) == started.ready
    assert not list(tmp_path.glob("*.sock")) and not list((tmp_path / "testers").iterdir())
    assert b"\xff" * 60 in (tmp_path / "capture/card0-0.pcapng").read_bytes()


def test_a_second_daemon_does_not_take_the_sockets(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(data))
    first, second = Started(path), Started(path)
    status, _, err = second.end()
    assert status == 1 and "another process is serving" in err
    with Control(data["control"], timeout=PATIENCE) as control:
        assert control.status()["pid"] == first.process.pid
    assert first.end(signal.SIGINT)[0] == 0


def test_a_killed_daemons_sockets_are_no_obstacle(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(data))
    assert Started(path).end(signal.SIGKILL)[0] == -signal.SIGKILL
    again = Started(path)
    assert again.ready["ready"]
    assert again.end()[0] == 0


def test_a_bad_spec_says_what_is_wrong(tmp_path: Path, data: dict[str, Any]) -> None:
    data["cards"][0]["model"] = "X1"
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(data))
    started = Started(path)
    status, _, err = started.end()
    assert not started.ready
    assert status == 1 and "cards.0.model" in err and "Traceback" not in err


def test_two_clients_of_two_cards(daemon: Daemon, control: Control) -> None:
    """Each card has its own identity and registers, and the daemon says who is connected."""
    first, second = (Client(str(card.socket)) for card in daemon.spec.cards)
    with first.sock, second.sock:
        assert (first.read(reg.HW_ID.address()), second.read(reg.HW_ID.address())) == (9, 4)
        assert (first.read(0, region=7), second.read(0, region=7)) == (0x0009_1CE4, 0x0003_1CE4)
        first.write(reg.PORT_RX_BASE_HI.address(1), 0x12345678)
        assert first.read(reg.PORT_RX_BASE_HI.address(1)) == 0x12345678
        assert second.read(reg.PORT_RX_BASE_HI.address(1)) == 0
        assert [card["connected"] for card in control.status()["cards"]] == [True, True]


def test_a_pulled_card_reads_all_ones(daemon: Daemon, control: Control) -> None:
    """Registers and configuration space; when it is back both are as after power-on: a bus master bit that
    stayed would not be set again by the guest, and QEMU, which saw it cleared, would drop interrupts."""
    client = Client(str(daemon.spec.cards[0].socket))
    with client.sock:
        client.write(COMMAND, COMMAND_MASTER, region=7)
        assert client.read(COMMAND, region=7) & 0xFFFF == COMMAND_MASTER
        control.fault("card0", "gone")
        assert client.read(reg.HW_ID.address()) == client.read(0, region=7) == 0xFFFFFFFF
        client.write(COMMAND, 0xFFFF & ~COMMAND_MASTER, region=7)
        control.fault("card0", "gone", on=False)
        assert client.read(reg.HW_ID.address()) == 9
        assert client.read(0, region=7) == 0x0009_1CE4
        assert client.read(COMMAND, region=7) & 0xFFFF == 0


def test_the_trace_names_registers(daemon: Daemon, control: Control, tmp_path: Path) -> None:
    """Switched on, the accesses of the client are in the ring, with register names; off, no more."""
    client = Client(str(daemon.spec.cards[0].socket))
    with client.sock:
        control.trace(False)
        control.trace(True)
        client.read(reg.HW_ID.address())
        client.write(reg.PORT_RX_BASE_HI.address(1), 5)
        control.trace(False)
        client.read(reg.CAPS.address())
    files = control.trace_dump(tmp_path / "bundle")
    assert [file.name for file in files] == ["card0.trace", "card1.trace"]
    head, read, write = files[0].read_text().splitlines()
    assert head == "# card0: 2 of 2 accesses; monotonic seconds"
    assert " r bar0+0x000004 HW_ID" in read and read.endswith("0x00000009")
    assert " w bar0+0x000254 PORT_RX_DMA_BASE_HI[1]" in write or "[1]" in write
    assert write.endswith("0x00000005")


@pytest.mark.parametrize("what", ["capture_dir", "tester_dir", "trace_dir"])
def test_optional_directories(tmp_path: Path, data: dict[str, Any], what: str) -> None:
    """Without a tester directory only a wiring without testers can be served."""
    del data[what]
    data["wiring"] = [{"kind": "cable", "ends": ["card0:0", "card1:0"]}]
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(data))
    started = Started(path)
    assert started.ready["ready"]
    assert started.end()[0] == 0

"""The switch: learning, flooding, VLANs, bad frames; and rewiring while it runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lab.wire import segments
from lab.wire.fabric import Fabric
from lab.wire.frame import intact, seal, tag
from lab.wire.segments import Switch
from lab.wire.switch import TABLE_SIZE, LearningSwitch
from lab.wire.timers import Timers
from lab.wire.wire import Wire, WiringError

A, B, C = (bytes.fromhex(f"02000000000{n}") for n in (1, 2, 3))
ALL = b"\xff" * 6


def switch(*ports: dict[str, Any]) -> LearningSwitch:
    """A switch with these ports."""
    return LearningSwitch.build(Switch.model_validate({"ports": ports}))


def frame(dst: bytes, src: bytes, vlan: int | None = None) -> bytes:
    """A sealed frame."""
    plain = seal(dst + src + b"\x88\xb5payload")
    return plain if vlan is None else tag(plain, vlan)


def ends(found: list[tuple[str, bytes]]) -> list[str]:
    """Where it went."""
    return [end for end, _ in found]


@pytest.fixture
def three() -> LearningSwitch:
    """Three ports that carry everything."""
    return switch(*({"end": f"tester:{name}"} for name in "abc"))


def test_floods_then_learns(three: LearningSwitch) -> None:
    """Unknown goes everywhere but back; known goes to its port; to its own port nowhere."""
    assert ends(three.forward("tester:a", frame(B, A))) == ["tester:b", "tester:c"]
    assert ends(three.forward("tester:b", frame(A, B))) == ["tester:a"]
    assert ends(three.forward("tester:a", frame(B, A))) == ["tester:b"]
    assert ends(three.forward("tester:b", frame(B, C))) == []
    assert ends(three.forward("tester:a", frame(ALL, A))) == ["tester:b", "tester:c"]


def test_station_moves(three: LearningSwitch) -> None:
    """The newest source port counts."""
    three.forward("tester:a", frame(ALL, A))
    three.forward("tester:b", frame(ALL, A))
    assert ends(three.forward("tester:c", frame(A, C))) == ["tester:b"]


def test_addresses_are_per_vlan(three: LearningSwitch) -> None:
    """The same address in two VLANs is two stations."""
    three.forward("tester:a", frame(ALL, A, 10))
    three.forward("tester:b", frame(ALL, A, 20))
    assert ends(three.forward("tester:c", frame(A, C, 10))) == ["tester:a"]
    assert ends(three.forward("tester:c", frame(A, C, 20))) == ["tester:b"]
    assert len(three.forward("tester:c", frame(A, C, 30))) == 2


def test_access_and_trunk() -> None:
    """An access port is untagged and closed to others; the trunk sees the tag; checksums stay right."""
    mixed = switch(
        {"end": "tester:access", "pvid": 10, "tagged": []},
        {"end": "tester:trunk", "pvid": None, "tagged": [10, 20]},
        {"end": "tester:other", "pvid": 20, "tagged": []},
    )
    found = mixed.forward("tester:access", frame(ALL, A))
    assert found == [("tester:trunk", frame(ALL, A, 10))]
    found = mixed.forward("tester:trunk", frame(ALL, B, 20))
    assert ends(found) == ["tester:other"] and intact(found[0][1])
    assert found[0][1][12:14] == b"\x88\xb5"
    assert mixed.forward("tester:trunk", frame(ALL, B)) == []
    assert mixed.forward("tester:access", frame(ALL, A, 20)) == []
    assert mixed.counters.vlan_refused == 2


def test_closed_vlans_on_a_lab(fabric: Fabric) -> None:
    """On either data path: a port hears and is heard in its own VLANs only, and refusals are counted."""
    ports = [("tester:a", 10, []), ("tester:b", 10, []), ("tester:c", 20, [30])]
    seen: dict[str, list[bytes]] = {end: [] for end, _, _ in ports}
    for end, frames in seen.items():
        fabric.wire.attach(end, frames.append)
    fabric.wire.apply(
        [{"kind": "switch", "name": "s", "ports": [{"end": e, "pvid": p, "tagged": t} for e, p, t in ports]}]
    )
    for vlan in (None, 20, 30):
        fabric.wire.send("tester:a", frame(ALL, A, vlan))
    fabric.wire.send("tester:c", frame(ALL, C, 30))
    fabric.engine.poll()
    assert {end: len(frames) for end, frames in seen.items()} == {"tester:a": 0, "tester:b": 1, "tester:c": 0}
    assert fabric.counters()["switch:s"]["vlan_refused"] == 2


def test_bad_frames_go_nowhere(three: LearningSwitch) -> None:
    """Store and forward."""
    assert three.forward("tester:a", frame(ALL, A)[:-1] + b"\0") == []
    assert three.counters.bad_fcs == 1


def test_table_is_bounded(three: LearningSwitch) -> None:
    """A full table is forgotten as a whole."""
    for number in range(TABLE_SIZE + 1):
        three.forward("tester:a", frame(B, b"\x02" + number.to_bytes(5, "big")))
    assert three.counters.forgotten == 1
    assert len(three.forward("tester:b", frame(b"\x02" + bytes(5), B))) == 2


class Recorder:
    """An end that remembers."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.frames: list[bytes] = []
        self.links: list[bool] = []
        wire.attach(name, self.frames.append, self.links.append)


def test_rewiring_moves_links() -> None:
    """apply() at run time: links follow, a switch forgets, an end that nobody attached is named."""
    timers = Timers()
    wire = Wire(0, timers)
    a, b, c = (Recorder(wire, f"tester:{name}") for name in "abc")
    wire.apply([{"kind": "cable", "ends": ["tester:a", "tester:b"]}])
    wire.send("tester:a", frame(ALL, A))
    wire.apply([{"kind": "cable", "ends": ["tester:a", "tester:c"]}])
    wire.send("tester:a", frame(ALL, A))
    assert (len(b.frames), len(c.frames)) == (1, 1)
    assert (a.links, b.links, c.links) == ([True], [True, False], [True])
    with pytest.raises(WiringError, match="tester:nobody"):
        wire.apply([{"kind": "cable", "ends": ["tester:a", "tester:nobody"]}])
    assert wire.carrier("tester:a")
    timers.close()


@pytest.mark.parametrize(
    "bad",
    [
        [{"kind": "cable", "ends": ["card0:0"]}],
        [{"kind": "cable", "ends": ["card0:0", "card0:0"]}],
        [{"kind": "hub", "ends": []}],
        [{"kind": "cable", "ends": ["card0", "card0:1"]}],
        [{"kind": "switch", "ports": [{"end": "card0:0", "pvid": 4095}]}],
        [{"kind": "switch", "ports": [{"end": "card0:0", "vlan": 1}]}],
        [{"kind": "cable", "ends": ["tester:../x", "card0:1"]}],
    ],
)
def test_bad_wiring_is_refused(bad: list[dict[str, Any]]) -> None:
    """Data from outside is checked, and the message names the field."""
    with pytest.raises(ValidationError):
        segments.parse(bad)

"""What a bundle says of a lost record, from the failure's words and the captures alone."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from lab import paths
from lab.errors import LabError
from suites import bundle
from suites.capture import Captured, dissect
from suites.guest import records
from suites.topology import Topology, vlans

REPORT = (
    "traffic:\n  flow 83 (udp, n83 to 10.0.0.2): answered by {'p83': 3}, expected {'p83': 4}, missing [1]\n"
    "  server p83/udp/7000/: [records, different ones] by flow {'83': [3, 3]}"
)


def passed(sequence: int, tag: int = 0, sent: bool = True) -> Captured:
    packet = Ether() / IP(dst="10.0.0.2") / UDP() / records.encode(83, sequence, 40, tag)
    return Captured(dissect(bytes(packet)), sent, 1_500_000_000, False)


def test_a_record_that_left_nowhere() -> None:
    """Other records of the flow are not taken for it."""
    told = bundle.lost(REPORT, {"card0:0": [passed(0), passed(2)], "card0:1": []})
    assert told == "flow 83 number 1:\n  card0:0: not seen\n  card0:1: not seen\n"


def test_a_record_on_its_way() -> None:
    """Question and answer are told apart, as are leaving and arriving."""
    frames = {"card0:0": [passed(1)], "card0:1": [passed(1, sent=False), passed(1, tag=5)]}
    lines = bundle.lost(REPORT, frames).splitlines()
    assert [line.split(" at ")[0].strip() for line in lines[1:]] == [
        "card0:0: the question left",
        "card0:1: the question arrived",
        "card0:1: the answer of 5 left",
    ]


def test_nothing_is_missing() -> None:
    """Another kind of failure has no such records."""
    assert bundle.lost("AssertionError: 1 == 2", {}) == "the failure names no missing record\n"


def test_namespaces_that_a_failure_names() -> None:
    """Whole names only, as the guest knows them."""
    topology = Topology("some", tuple(vlans(12, "card0:0")))
    assert bundle.named("flow 1 (udp, n11 to 10.0.0.2): ...", topology) == [topology["n11"].netns]
    assert bundle.named("n11", None) == []


def _missing() -> str:
    raise LabError("the guest is gone")


def test_a_bundle_is_one_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What could be had is in it, what could not is said in it, and nothing lies beside it."""
    monkeypatch.setattr(paths, "out", lambda: tmp_path)
    filled = bundle.Bundle("test_a[kernel-2]")
    assert filled.put("a.txt", lambda: "text") and filled.put("capture/b.pcapng", lambda: b"\0")
    assert not filled.put("c.json", _missing)
    target = filled.archive()
    assert [path for path in target.parent.iterdir()] == [target]
    with tarfile.open(target) as tar:
        assert {Path(name).name for name in tar.getnames()} >= {"a.txt", "b.pcapng", "missing.txt"}


def test_a_real_card_is_replayed_on_an_emulated_one() -> None:
    """Whoever has the bundle may have no card: the replay's is of the same model, where that is emulated."""
    real = {"name": "venue", "kind": "real", "pci": "0000:3b:00.0", "testers": ["e0"], "ports": 2}
    told = bundle.emulated([real | {"model": "X10"}, real | {"model": "X100", "name": "b"}])
    assert [(card["name"], card["model"]) for card in told] == [("venue", "X10"), ("b", "X25")]
    assert len({card["mac"] for card in told}) == len({card["serial"] for card in told}) == 2
    emulated = [{"name": "card0", "kind": "emulated", "model": "X25"}]
    assert bundle.emulated(emulated) == emulated

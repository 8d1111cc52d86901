"""A bundle read again: its topology, wiring and seed; and bundles that are none."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from suites import replay
from suites.bundle import REPLAY
from suites.report.record import Source
from suites.topology import Topology, as_json, from_json, vlans

SWITCH = {"kind": "switch", "name": "sw0", "ports": [{"end": "card0:0"}, {"end": "tester:t0"}]}
TOPOLOGY = Topology(
    "two tenants", tuple(vlans(2, "card0:0")), ({"kind": "cable", "ends": ["card0:0", "card0:1"]},)
)


def told(**changes: Any) -> dict[str, Any]:
    """What a bundle holds, with changes."""
    card = {"name": "card0", "model": "X25", "serial": "E0000000", "mac": "64:3f:5f:e8:00:00", "ports": 2}
    lab = {"profile": "fast", "cards": [card], "wiring": [SWITCH], "cpus": 2, "memory": 1024}
    lab["images"] = {"dut": "sha256:" + "d" * 64}
    return {
        "format": "exalab-replay",
        "schema": 1,
        "test": "suites/test_a.py::test_b[seed7]",
        "options": {"--seeds": 1, "--first-seed": 7, "--fuzz-seconds": 3.0},
        "seed": 42,
        "source": {"commit": "c" * 40, "tree": "cccccccccccc", "something": "newer"},
        "lab": lab,
        "topology": as_json(TOPOLOGY),
    } | changes


def archive(folder: Path, content: str) -> Path:
    inside = folder / "bundle"
    inside.mkdir()
    (inside / REPLAY).write_text(content)
    (inside / "failure.txt").write_text("x")
    path = folder / "bundle.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(inside, arcname="bundle")
    return path


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_bundle_is_read_again(tmp_path: Path, unpacked: bool) -> None:
    """From its archive, or from a folder it was unpacked into."""
    path = archive(tmp_path, json.dumps(told()))
    what = replay.load(tmp_path / "bundle" if unpacked else path)
    assert what.topology == TOPOLOGY
    assert (what.config.seed, what.config.emulated[0].model, what.config.testers) == (42, "X25", ("t0",))
    assert what.command("mine") == (
        ".venv/bin/python -m pytest 'suites/test_a.py::test_b[seed7]' --lab mine"
        " --first-seed 7 --fuzz-seconds 3 --seeds 1"
    )


def test_what_is_no_longer_as_it_was_is_told(tmp_path: Path) -> None:
    what = replay.load(archive(tmp_path, json.dumps(told())))
    assert replay.differences(what, {"dut": "sha256:" + "d" * 64}, Source(tree="cccccccccccc")) == []
    assert replay.differences(what, {"dut": "sha256:eeee"}, Source(tree="x")) == [
        "sources: cccccccccccc then, x now",
        "image dut: sha256:dddddddddddd then, sha256:eeee now",
    ]


def test_a_test_without_a_topology(tmp_path: Path) -> None:
    assert replay.load(archive(tmp_path, json.dumps(told(topology=None)))).topology is None


BROKEN = {
    "not JSON": "{",
    "no format": "{}",
    "schema 9": json.dumps(told(schema=9)),
    "seed": json.dumps(told(seed="often")),
    "lab.cards": json.dumps(told(lab=told()["lab"] | {"cards": []})),
    "no card model 'X99'": json.dumps(
        told(
            lab=told()["lab"]
            | {"cards": [{"name": "c", "model": "X99", "serial": "1", "mac": "02:00:00:00:00:00"}]}
        )
    ),
    "plugged in twice": json.dumps(told(lab=told()["lab"] | {"wiring": [SWITCH, SWITCH]})),
    "namespaces": json.dumps(told(topology={"name": "x", "namespaces": "many"})),
    "no port": json.dumps(
        told(
            topology={
                "name": "x",
                "namespaces": [{"name": "a", "devices": [{"kind": "port", "name": "p", "on": "?"}]}],
            }
        )
    ),
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_damaged_bundle_is_refused_by_name(tmp_path: Path, said: str) -> None:
    """The error says what is wrong with it before anything is brought up."""
    with pytest.raises(LabError, match=said):
        replay.load(archive(tmp_path, BROKEN[said]))


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    """Nothing there; no archive; an archive that was cut short; one of something else; an empty folder."""
    with pytest.raises(LabError, match="there is no bundle"):
        replay.load(tmp_path / "none.tar.gz")
    (tmp_path / "text.tar.gz").write_text("hello")
    with pytest.raises(LabError, match="no archive, or cut short"):
        replay.load(tmp_path / "text.tar.gz")
    whole = archive(tmp_path, json.dumps(told() | {"filler": [str(at * 7919) for at in range(20000)]}))
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(LabError, match="no archive, or cut short"):
        replay.load(tmp_path / "cut.tar.gz")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        tar.add(__file__, arcname="other/file.py")
    with pytest.raises(LabError, match=f"holds no {REPLAY}"):
        replay.load(tmp_path / "other.tar.gz")
    with pytest.raises(LabError, match=f"holds no {REPLAY}"):
        replay.load(Path(__file__).parent)


def test_a_topology_goes_through_json_unchanged() -> None:
    """Routes, neighbours, wiring and all."""
    assert from_json(json.loads(json.dumps(as_json(TOPOLOGY))), "x") == TOPOLOGY

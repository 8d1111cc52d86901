"""Records of runs that never were: of every outcome, of both kinds of card, over nights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from suites import drawing
from suites.report.record import Capture, Card, Message, Origin, Outcome, Record, Source, Step, Test, rules_of
from suites.topology import Topology, vlans

START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
PLACE = "suites/test_sample.py"


def origin(tree: str = "aaaaaaaaaaaa", card: str = "emulated") -> Origin:
    """Of a lab with one card, or of a part without a lab when ``card`` is empty."""
    found = Origin(
        source=Source(commit=tree[:12].ljust(40, "0"), branch="main", subject="A change", tree=tree),
        machine={"processor": "AMD EPYC", "cores": "2"},
        versions={"python": "3.11.2", "QEMU": "11.1.3", "driver exanic": "1.0.0"},
        images={"dut": "sha256:" + "d" * 64},
        locks={"requirements.lock": "sha256:" + "e" * 64},
    )
    if card:
        found.cards = [Card("card0", card, "X25", "HW_REV_DATE 1726218240", "0000:01:00.0", "exanic", 2)]
        found.accelerator, found.accelerator_reason, found.lab = "tcg", "no KVM here", "lab"
    return found


def sample(name: str, outcome: Outcome = "passed", **more: Any) -> Test:
    """One test of the suites; ``more``: fields of its record."""
    given: dict[str, Any] = {
        "seconds": 1.5,
        "card": "emulated",
        "proves": "N3: it reaches the right one.",
        **more,
    }
    made = Test(name if "::" in name else f"{PLACE}::{name}", outcome, **given)
    made.rules = rules_of(made.proves)
    if outcome in ("failed", "error") and not made.reason:
        made.reason = "AssertionError: answered by {'p83': 3}, expected {'p83': 4}"
        made.failure = "def sample():\n>   assert 3 == 4\nE   AssertionError: answered by {'p83': 3}"
    if outcome == "skipped" and not made.reason:
        made.reason = "needs a card that is real; this lab's is emulated"
    return made


def record(*tests: Test, part: str = "suites", night: int = 0, hour: float = 0, **more: Any) -> Record:
    """A run of these tests; ``night`` and ``hour`` after the first."""
    card, tree = more.pop("card", "emulated"), more.pop("tree", "aaaaaaaaaaaa")
    began = START + timedelta(days=night, hours=hour)
    made = Record(part, began.isoformat(timespec="milliseconds"), tests=list(tests), collected=len(tests))
    made.ended = (began + timedelta(minutes=3)).isoformat(timespec="milliseconds")
    made.origin = origin(tree, card)
    made.exit_status = int(any(one.bad for one in tests))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def rich() -> Test:
    """A failed test with everything a test can have."""
    topology = Topology("overlapping 16", tuple(vlans(16, "card0:0")))
    made = sample(
        "test_everything[kernel-udp-16]", "failed", proves="N1, N3: <b>every</b> datagram & stream."
    )
    made.case, made.sockets = {"sockets": "kernel", "kind": "udp", "count": "16"}, "kernel"
    made.topology, made.layout, made.namespaces = topology.name, "overlapping addresses", 16
    made.drawing = "0123456789ab"
    made.phases = {"setup": 0.1, "call": 1.2, "teardown": 0.2}
    made.steps = [Step("placing overlapping 16: 16 namespaces", 0.0, 0.8), Step("exchanging", 0.9, 0.4, 1)]
    made.capture = Capture("/out/labs/lab/capture", 1_795_546_743_474_161_948, 1_795_546_760_536_468_627)
    made.counters = {"card0:0": {"sent": 64, "received": 63, "rx_error": 1}}
    made.dmesg = [
        Message(12.5, 6, "eth0: renamed from new.0", count=16),
        Message(13.0, 4, "WARNING: x", True),
    ]
    made.health = ["kernel: WARNING: x"]
    made.seed, made.bundle = "7", "/nowhere/bundle.tar.gz"
    made.figures = {"namespaces_16_kib_each": 33.0}
    made.sections = {"Captured stdout call": "said <something>"}
    return made


def drawings() -> dict[str, str]:
    """What :func:`rich` stands on."""
    return {"0123456789ab": drawing.svg(Topology("overlapping 16", tuple(vlans(16, "card0:0"))), style="")}


def nights() -> list[Record]:
    """Ten nights on both kinds of card: one test that came to fail, one that needed a second try, one that
    differs between the kinds; and the native parts of the last."""
    found = []
    names = [
        f"test_reaches_the_right_one[{sockets}-{count}]"
        for sockets in ("kernel", "exasock")
        for count in (2, 16, 128)
    ]
    for night in range(10):
        tree = f"{night // 3:x}" * 12
        for card in ("emulated", "real"):
            tests = [
                sample(name, card=card, sockets=name.split("[")[1].split("-")[0], seconds=1.0 + at)
                for at, name in enumerate(names)
            ]
            tests.append(
                sample(
                    "test_moves_under_traffic",
                    "failed" if night == 9 else "passed",
                    card=card,
                    proves="N8: x",
                )
            )
            tests.append(
                sample("test_sometimes", "failed" if night in (4, 9) else "passed", card=card, proves="N7: x")
            )
            tests.append(sample("test_of_the_emulator", "skipped" if card == "real" else "passed", card=card))
            tests.append(
                sample("test_differs", "failed" if card == "real" else "passed", card=card, proves="N2: x")
            )
            if card == "emulated" and night == 9:
                tests.append(rich())
            found.append(
                record(*tests, night=night, card=card, tree=tree, hour=0 if card == "emulated" else 1)
            )
            found[-1].drawings = drawings()
            if night in (4, 9):
                once_more = sample("test_sometimes", card=card, proves="N7: x")
                found.append(record(once_more, night=night, card=card, tree=tree, hour=2, again=True))
    native = [sample(f"lab/tests/test_config.py::test_{at}", card="", seconds=0.01) for at in range(20)]
    found.append(record(*native, part="unit", night=9, card="", tree="333333333333", hour=-1))
    return found

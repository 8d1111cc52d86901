"""The suites on a lab whose card is real but for VFIO: the wire is this machine's interfaces, as with a
card's cables.

stand-in   guest --- emulated card --- veth x2 (the cables) --- this machine's interfaces --- sw0 --- t0
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import api, paths
from lab.cardd.control import Control
from lab.deadline import scaled
from suites import cabling
from suites.real.stand_in import control as player
from suites.session import Session

pytestmark = pytest.mark.full("a second lab, and the suites in it")

NAME = "stand-in"
CABLES = ("exastand0", "exastand1")
#: Of everything: a namespace answered from the wire, the wire misbehaving, and what needs an emulated card.
SUITES = ("suites/test_example.py", "suites/test_wire_and_card.py")


def run(*argv: str, seconds: float, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv, cwd=paths.ROOT, capture_output=True, text=True, timeout=scaled(seconds), check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def interface(name: str) -> tuple[str, str, str]:
    """What a lab changes on an interface."""
    folder = Path("/sys/class/net") / name
    arp = Path(f"/proc/sys/net/ipv4/conf/{name}/arp_ignore")
    return folder.joinpath("flags").read_text(), folder.joinpath("mtu").read_text(), arp.read_text()


@pytest.fixture(scope="module")
def stand_in(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[api.Lab]:
    """The lab, up; afterwards the interfaces are as they were."""
    for name in CABLES:
        run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}x", seconds=5)
    try:
        before = [interface(name) for name in CABLES]
        file = tmp_path_factory.mktemp("stand-in") / "lab.toml"
        file.write_text(f"card = '0000:3b:00.0'\ntesters = {json.dumps(CABLES)}\n")
        run(sys.executable, "-m", "suites.real.stand_in", NAME, str(file), seconds=60)
        try:
            with api.Lab.attach(NAME) as lab:
                yield lab
        finally:
            api.down(NAME)
        assert [interface(name) for name in CABLES] == before
    finally:
        for name in CABLES:
            run("ip", "link", "del", name, seconds=5)


def test_its_cabling_is_proved(stand_in: api.Lab) -> None:
    """Port by port, through this machine's interfaces; the drawing names them."""
    found = cabling.prove(stand_in)
    assert found.good, found
    (_card, ports), *_ = found.cards
    assert [found.interfaces[one.end] for one in ports] == list(CABLES)
    assert stand_in.facts["card_kind"] == "real"
    stand_in.close()


def test_swapped_cables_are_found(stand_in: api.Lab) -> None:
    """Each port comes out at the other's interface: said so, with what to change."""
    ends = [[f"far:{port}", f"player:{port}"] for port in (0, 1)]
    crossed = [[ends[0][0], ends[1][1]], [ends[1][0], ends[0][1]]]
    with Control(player(stand_in.paths)) as outside:
        outside.wire([{"kind": "cable", "ends": one} for one in crossed])
        try:
            found = cabling.prove(stand_in)
        finally:
            outside.wire([{"kind": "cable", "ends": one} for one in ends])
            stand_in.close()
    (_card, ports), *_ = found.cards
    for port, other in zip(ports, reversed(CABLES), strict=True):
        assert f"comes out at {other}: change testers" in port.problems(found.interfaces)[0]


def test_the_suites_do_not_know(stand_in: api.Lab) -> None:
    """The same tests pass; what only an emulated card can do is skipped, with that reason, and nothing
    else.
    """
    stand_in.close()
    argv = [sys.executable, "-m", "pytest", "-q", "-rs", "--lab", NAME]
    argv += ["--stand-in", "--record", "stand-in", *SUITES]
    done = run(*argv, seconds=60, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    skipped = re.findall(r"^SKIPPED .*: (.*)$", done.stdout, re.MULTILINE)
    assert skipped and set(skipped) == {"needs a card that is emulated; this lab's is stand-in"}
    assert (paths.out() / "labs" / NAME / "capture/card0-0.pcapng").exists()

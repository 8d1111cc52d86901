"""The suites on a machine that is reached over SSH, which a second lab's guest plays.

carrier   ssh --- guest --- emulated card --- veth x2 (the cables) --- this machine's interfaces --- sw0

The guest's image has the datapath already, which counts as put there by others: DKMS is tried natively
(``lab/remote/tests``), for a kernel module takes ten minutes to build where every instruction is emulated.
Ansible takes minutes there, too: what it would put there is brought by the carrier's own agent, unless
``--roles`` is given, with which a dry run, applying and taking off are a part of it.
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
from lab.deadline import Deadline, scaled
from lab.remote import relay, roles, ssh, survey
from suites import cabling
from suites.remote.carrier import ssh_config
from suites.session import Session

pytestmark = pytest.mark.full("two labs more, and the suites over SSH")

CARRIER, NAME, ALIAS = "carrier", "over-ssh", "carrier-box"
CABLES = ("exahost0", "exahost1")
#: A namespace answered from the wire, and what needs an emulated card.
SUITES = ("suites/test_example.py",)
LAB = (sys.executable, "-m", "lab", "--name", NAME)
#: What of the machine could become another: interfaces, settings, modules, files, names, processes of ours.
STATE = (
    "ip -br link; ip -br address; sysctl net.core.default_qdisc net.ipv4.conf.eth0.arp_ignore;"
    " lsmod | grep exa | sort;"
    " find /etc/sysctl.d /var/lib/exalab /usr/lib/exalab /run/netns -printf '%p %M %u\\n' 2>&1 | sort;"
    " sha256sum /etc/sysctl.d/* /usr/lib/exalab/agent/*; pgrep -fc 'agent.py --[h]ost'; true"
)


def run(*argv: str, seconds: float, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv, cwd=paths.ROOT, capture_output=True, text=True, timeout=scaled(seconds), check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def on_carrier(command: str) -> str:
    return run(*ssh.argv(ALIAS), command, seconds=10).stdout


@pytest.fixture(scope="module")
def machine(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The machine, with its card cabled to this one; the lab.toml of a lab on it."""
    for name in CABLES:
        run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}x", seconds=5)
    folder = tmp_path_factory.mktemp("over-ssh")
    try:
        far = [f"{one}x" for one in CABLES]
        run(sys.executable, "-m", "suites.remote.carrier", CARRIER, *far, seconds=60)
        try:
            with api.Lab.attach(CARRIER) as carrier, pytest.MonkeyPatch.context() as patch:
                patch.setenv(ssh.ENVIRONMENT, str(ssh_config(carrier, ALIAS, folder)))
                # It starts after the agent, which has said hello.
                Deadline("the machine's SSH server", scaled(6)).wait_until(
                    lambda: run(*ssh.argv(ALIAS), "true", seconds=10, check=False).returncode == 0, every=0.2
                )
                (card,) = carrier.facts["guest"]["cards"]
                file = folder / "lab.toml"
                file.write_text(f"host = '{ALIAS}'\ncard = '{card['pci']}'\ntesters = {json.dumps(CABLES)}\n")
                yield file
        finally:
            api.down(CARRIER)
    finally:
        for name in CABLES:
            run("ip", "link", "del", name, seconds=5)


@pytest.fixture(scope="module")
def applied(request: pytest.FixtureRequest, machine: Path) -> Iterator[Path]:
    """The machine, prepared; afterwards it is as it was, where the roles have prepared it."""
    before = on_carrier(STATE)
    if not request.config.getoption("--roles"):
        what = roles.wanted(roles.find(ALIAS))
        with api.Lab.attach(CARRIER) as carrier:
            carrier.agent.write_file(relay.AGENT, (paths.ROOT / "lab/guest/agent.py").read_bytes())
            journal = {"schema": 1, "digest": what.digest, "by": "the test"}
            carrier.agent.write_file(survey.JOURNAL, json.dumps(journal))
        yield machine
        return
    planned = run(*LAB, "host", "plan", "--config", str(machine), seconds=60)
    assert "the datapath already, installed by other means" in planned.stderr
    assert "network_tools: Size the kernel's tables" in planned.stdout and "install" not in planned.stdout
    assert on_carrier(STATE) == before
    run(*LAB, "host", "apply", "--config", str(machine), seconds=60)
    yield machine
    assert "changed on" in run(*LAB, "host", "remove", "--config", str(machine), seconds=60).stdout
    assert on_carrier(STATE) == before


def test_the_suites_do_not_know(applied: Path) -> None:
    """The lab comes up on the machine, its cabling is proved, the suites' tests pass; it is up already when
    asked for again; then it goes down, and the machine is as it was before.
    """
    before = on_carrier(STATE)
    up = run(*LAB, "up", "--config", str(applied), seconds=60)
    try:
        assert f"of host {ALIAS}" in up.stdout and "was there, not by us" in up.stdout
        with api.Lab.attach(NAME) as attached:
            found = cabling.prove(attached)
            assert found.good, found
            assert attached.facts["card_kind"] == "real"
            assert attached.agent.exec(["ls", "/run/netns"]).stdout == ""
        argv = [sys.executable, "-m", "pytest", "-q", "-rs", "--lab", NAME]
        argv += ["--stand-in", "--record", NAME, *SUITES]
        done = run(*argv, seconds=60, check=False)
        assert done.returncode == 0, done.stdout[-4000:]
        skipped = re.findall(r"^SKIPPED .*: (.*)$", done.stdout, re.MULTILINE)
        assert set(skipped) <= {"needs a card that is emulated; this lab's is stand-in"}
        again = run(*LAB, "up", "--config", str(applied), seconds=20)
        assert "inspecting" in again.stderr and "taking the card" not in again.stderr
    finally:
        run(*LAB, "down", seconds=10)
    assert on_carrier(STATE) == before


def test_a_lab_that_is_killed(applied: Path) -> None:
    """The bench dies without a word: its agent sees it, ends what runs there, and gives the card back."""
    before = on_carrier(STATE)
    run(*LAB, "up", "--config", str(applied), seconds=60)
    try:
        with api.Lab.attach(NAME) as attached:
            attached.agent.spawn(["sleep", "4711"])
            attached.agent.exec(["ip", "netns", "add", "red"])
            device = attached.facts["guest"]["ports"][0]["netdev"]
            attached.agent.exec(["ip", "link", "set", device, "netns", "red"])
            assert device not in on_carrier("ip -br link")
            run("kill", "-9", str(attached.state.pid), seconds=5)
        waiting = "for i in $(seq 100); do pgrep -f 'agent.py --[h]ost' || exit 0; sleep 0.2; done; exit 1"
        on_carrier(waiting)
        assert on_carrier("pgrep -f 'sleep [4]711'; ls /run/exalab/held/*.json 2>/dev/null; true") == ""
        assert on_carrier(STATE) == before
    finally:
        run(*LAB, "down", seconds=10)

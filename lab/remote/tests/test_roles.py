"""The roles on a machine reached over SSH, played by a Debian root tree (``ssh_host``): DKMS builds modules
there, everything is told, and nothing stays.
"""

from __future__ import annotations

import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from images import debs
from images.playbook import Change
from lab.deadline import Deadline
from lab.errors import LabError
from lab.paths import ROOT
from lab.process import spawn
from lab.remote import roles, ssh
from lab.remote.roles import Machine, Wanted
from lab.remote.tests import small_modules
from lab.remote.tests.ssh_host import CARD, NAME, SshHost, difference

NAMES = ("python3", "python3-pyroute2", "ethtool")
AGENT = "usr/lib/exalab/agent/agent.py"
JOURNAL = "var/lib/exalab/host.json"


@pytest.fixture(scope="module")
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if request.config.getoption("--real-modules"):
        return list(debs.ensure())
    return small_modules.packages(tmp_path_factory.mktemp("packages"))


def found() -> Machine:
    return roles.find(NAME, [CARD])


def wanted(machine: Machine, packages: list[Path]) -> Wanted:
    return roles.wanted(machine, NAMES, packages)


def told(changes: list[Change]) -> str:
    return "\n".join(str(change) for change in changes)


def test_applied_and_taken_off(machine: SshHost, packages: list[Path]) -> None:
    """A dry run changes nothing and tells what would be; applying builds modules for the kernel; once more
    changes nothing; taking off, after a dry run of that, leaves every file, package and setting as it was.
    """
    before = machine.look()
    what = wanted(found(), packages)
    dry = told(roles.apply(found(), what, dry=True))
    assert difference(before, machine.look()) == {}
    for line in (
        "install exasock-dkms 1.0.0",
        "install dkms 3",
        "+def serve_host()",
        "+net.core.default_qdisc",
    ):
        assert line in dry

    done = told(roles.apply(found(), what))
    assert "install python3-pyroute2" in done
    after, seen = machine.look(), found()
    for name, path in seen.seen["modules"].items():
        assert path == f"/lib/modules/{machine.kernel}/updates/dkms/{name}.ko"
    assert (seen.given, seen.applied) == (False, what.digest)
    assert (machine.root / AGENT).exists()
    assert after["setting net/core/default_qdisc"].strip() == "pfifo_fast"
    assert "package python3-psutil" in after

    assert roles.apply(seen, what) == []
    assert difference(after, machine.look()) == {}

    for name in seen.seen["modules"]:
        machine.run("/usr/local/sbin/modprobe", name)
    would = told(roles.remove(seen, dry=True))
    assert "purge dkms" in would and "put back" not in would and f"remove /{AGENT}" in would
    roles.remove(seen)
    assert difference(before, machine.look()) == {}
    assert roles.remove(found()) == []


def test_what_does_not_compile(machine: SshHost, packages: list[Path], tmp_path: Path) -> None:
    """The compiler's last words are told, and the packages are gone again."""
    before = machine.look()
    broken = small_modules.packages(tmp_path, "no_number")
    with pytest.raises(LabError, match=r"no_number.* undeclared") as caught:
        roles.apply(found(), wanted(found(), broken))
    assert "/var/lib/dkms/exanic/1.0.0/build/make.log" in caught.value.message
    assert caught.value.hint is not None and "as it was" in caught.value.hint
    seen = found()
    assert seen.applied == ""
    roles.remove(seen)
    assert difference(before, machine.look()) == {}


def test_interrupted(machine: SshHost, packages: list[Path], tmp_path: Path) -> None:
    """Ctrl-C in the middle of an installation ends us; taking off waits for what goes on there without us,
    and everything is as it was.
    """
    before = machine.look()
    script = (
        "import sys; from pathlib import Path; from lab.remote import roles\n"
        f"machine = roles.find({NAME!r})\n"
        f"roles.apply(machine, roles.wanted(machine, {NAMES!r}, [Path(one) for one in sys.argv[1:]]))\n"
    )
    argv = [sys.executable, "-c", script, *map(str, packages)]
    with spawn(argv, name="applying", log=tmp_path / "log", cwd=ROOT) as process:
        journal = machine.root / JOURNAL
        Deadline("packages to be installed", 120.0).wait_until(
            lambda: journal.exists() and "added" in journal.read_text(), watch=[process]
        )
        process.signal(signal.SIGINT)
        assert process.wait(Deadline("the end", 30.0)) != 0
    assert "KeyboardInterrupt" in (tmp_path / "log").read_text()
    roles.remove(found())
    assert difference(before, machine.look()) == {}


def test_what_was_there_stays(machine: SshHost, packages: list[Path], tmp_path: Path) -> None:
    """A file that is in the way is put back, a package that was there stays, and so does one installed since,
    with what it needs.
    """
    machine.run("apt-get", "--quiet", "--yes", "--no-install-recommends", "install", "python3-pyroute2")
    machine.run("apt-mark", "auto", "python3-pyroute2")
    file = machine.root / "etc/sysctl.d/60-exalab.conf"
    file.write_text("# somebody else's\n")
    file.chmod(0o600)
    try:
        before = machine.look()
        roles.apply(found(), wanted(found(), packages[-1:]))
        assert "somebody" not in file.read_text()
        # Somebody has come to need what came with us.
        made = machine.root / "srv/needs/DEBIAN"
        made.mkdir(parents=True)
        (made / "control").write_text(
            "Package: needs\nVersion: 1\nArchitecture: all\nMaintainer: m <m@m>\nDepends: ethtool\n"
            "Description: d\n"
        )
        machine.run("dpkg-deb", "--build", "/srv/needs", "/srv/needs.deb")
        machine.run("dpkg", "--install", "/srv/needs.deb")
        roles.remove(found())
        changed = difference(before, machine.look())
        kept = [name for name in changed if name.startswith("package ")]
        assert sorted(kept) == ["package ethtool", "package libmnl0:amd64", "package needs"]
        assert file.read_text() == "# somebody else's\n" and file.stat().st_mode & 0o777 == 0o600
    finally:
        file.unlink()
        machine.run("apt-get", "--yes", "purge", "needs", "ethtool", "python3-pyroute2")
        machine.run("apt-get", "--yes", "--purge", "autoremove")
        shutil.rmtree(machine.root / "srv/needs", ignore_errors=True)


def test_an_unknown_host_key(machine: SshHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is trusted that nobody has looked at; the error says what to do."""
    text = machine.config.read_text()
    config = tmp_path / "config"
    monkeypatch.setenv(ssh.ENVIRONMENT, str(config))
    config.write_text(text.replace(str(machine.folder / "client/known_hosts"), "/dev/null"))
    with pytest.raises(ssh.Unreachable, match="the host key of root@testbox is not known") as caught:
        found()
    assert caught.value.hint is not None and "ssh root@testbox" in caught.value.hint


def test_nobody_lets_us_in(machine: SshHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key that it knows; no server; no such machine."""
    text = machine.config.read_text()
    config = tmp_path / "config"
    monkeypatch.setenv(ssh.ENVIRONMENT, str(config))
    config.write_text(text.replace("client/key", "client/none"))
    with pytest.raises(ssh.Unreachable, match="root@testbox lets us not in"):
        found()
    config.write_text("Host testbox\n HostName 127.0.0.1\n Port 9\n")
    with pytest.raises(ssh.Unreachable, match="root@testbox runs no SSH server"):
        found()
    config.write_text("Host testbox\n HostName nowhere.invalid\n")
    with pytest.raises(ssh.Unreachable, match="there is no machine root@testbox"):
        found()


def test_no_card_there(machine: SshHost, packages: list[Path]) -> None:
    """The address is another; the cards that there are are named."""
    seen = roles.find(NAME, ["0000:5e:00.0"])
    with pytest.raises(LabError, match=r"root@testbox: there is no PCI device 0000:5e:00\.0") as caught:
        roles.apply(seen, Wanted((), (), ""))
    assert caught.value.hint == f"ExaNICs of this machine: {CARD}"


def test_a_machine_without_headers(machine: SshHost, packages: list[Path]) -> None:
    """DKMS would build nothing, and not say so."""
    build_link = machine.root / "lib/modules" / machine.kernel / "build"
    where = build_link.readlink()
    build_link.unlink()
    try:
        with pytest.raises(LabError, match="has no headers of its kernel 6") as caught:
            roles.apply(found(), Wanted((), (), ""))
        assert caught.value.hint is not None and f"linux-headers-{machine.kernel}" in caught.value.hint
    finally:
        build_link.symlink_to(where)


def test_somebody_elses_modules(machine: SshHost, packages: list[Path]) -> None:
    """The datapath that an image was built with is respected; half of one is refused."""
    seen = found()
    there = {"exanic": "/lib/modules/x/updates/exanic.ko", "exasock": "/lib/modules/x/updates/exasock.ko"}
    whole = replace(seen, seen={**seen.seen, "modules": there, "library": True})
    assert whole.given and roles.wanted(whole, NAMES).ours == ()
    half = replace(seen, seen={**seen.seen, "modules": {**there, "exasock": None}})
    with pytest.raises(LabError, match="which is not ours, and not all that is needed"):
        roles.apply(half, Wanted((), (), ""))

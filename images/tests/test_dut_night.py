"""The night's units in the hands of a real systemd: the booted image's, with a stand-in of the checkout."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.deadline import Deadline, scaled
from lab.errors import LabError
from lab.nightly import units
from lab.nightly.settings import Settings

from .dut import Dut

pytestmark = pytest.mark.lab

#: Where the stand-in is, in the guest.
ROOT = Path("/srv/exalab")
#: Writes down where and with what it was run; ends as it is told to; with ``slow``, not before it is stopped.
PYTHON = f"""#!/bin/sh
echo "$PWD: $*" >> {ROOT}/ran
trap 'echo told >> {ROOT}/ran; exit 1' TERM
while [ -e {ROOT}/slow ]; do sleep 0.2; done
exit "$(cat {ROOT}/status)"
"""


@dataclass
class Machine:
    """The guest, and the folder here that stands for its /etc/systemd/system."""

    dut: Dut
    folder: Path

    def __call__(self, argv: Sequence[str]) -> str:
        """A command of the installation's, where systemd is, with the files as they are here."""
        there = self.dut.host.run(f"ls {units.FOLDER} | grep ^exalab-nightly").stdout.split()
        for name in set(there) - {path.name for path in self.folder.iterdir()}:
            self.dut.host.check_output(f"rm {units.FOLDER}/{name}")
        for path in self.folder.iterdir():
            self.dut.lab.agent.write_file(units.FOLDER / path.name, path.read_bytes())
        done = self.dut.host.run(shlex.join(argv))
        if done.rc:
            raise LabError(f"{shlex.join(argv)} failed: {done.stderr}")
        return str(done.stdout)

    def install(self, at: str = "01:30") -> str:
        return units.install(ROOT, Settings(at=at), self.folder, self)

    def remove(self) -> bool:
        return units.remove(ROOT, self.folder, self)

    def put(self, name: str, text: str) -> None:
        self.dut.lab.agent.write_file(ROOT / name, text, mode=0o755)

    def ran(self) -> list[str]:
        return str(self.dut.host.run(f"cat {ROOT}/ran").stdout).splitlines()

    def until(self, what: str, true: Callable[[], bool]) -> None:
        Deadline(what, scaled(6)).wait_until(true, every=0.2)

    def active(self, unit: str) -> str:
        return str(self.dut.host.run(f"systemctl is-active {unit}").stdout).strip()

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        words = [f"--property={name}" for name in properties]
        lines = self(["systemctl", "show", *words, unit]).splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def machine(dut: Dut, tmp_path: Path) -> Iterator[Machine]:
    """With the stand-in in its place; nothing of the night afterwards."""
    found = Machine(dut, tmp_path)
    dut.host.check_output(f"mkdir -p {ROOT}/.venv/bin")
    found.put(".venv/bin/python", PYTHON)
    found.put("status", "0")
    yield found
    dut.host.check_output(f"rm -rf {ROOT}")
    found.remove()
    assert "exalab-nightly" not in dut.host.run("systemctl list-unit-files --no-legend").stdout
    dut.host.run("systemctl reset-failed")


def test_a_night_of_systemds(machine: Machine) -> None:
    """Installed it waits for its time, and goes on after a boot; it runs in its checkout; a card that others
    have is no failure, red tests are; its timer runs it; removed while it runs it is told, and nothing stays.

    One test, for systemd takes seconds for each of a dozen commands in an emulated guest.
    """
    run = f"{ROOT}: -m lab.nightly run"
    assert "01:30:00" in machine.install()
    waiting = machine.show(units.TIMER, "ActiveState", "UnitFileState")
    assert waiting == {"ActiveState": "active", "UnitFileState": "enabled"}
    assert machine.show(units.RESUME, "UnitFileState") == {"UnitFileState": "enabled"}
    assert machine.ran() == []

    for status, result in (("75", "success"), ("1", "exit-code")):
        machine.put("status", status)
        started = machine.dut.host.run(f"systemctl start {units.SERVICE}")
        assert (started.rc == 0) == (result == "success")
        assert machine.show(units.SERVICE, "Result") == {"Result": result}
    machine.dut.host.run(f"systemctl start {units.RESUME}")
    assert machine.ran() == [run, run, f"{run} --resume"]

    machine.install("*-*-* *:*:0/2")  # another time in lab.toml
    machine.until("two nights of two seconds", lambda: machine.ran()[3:5] == [run, run])
    machine.put("slow", "")
    machine.until("a night that does not end", lambda: machine.active(units.SERVICE) == "activating")
    before = len(machine.ran())
    assert machine.remove()
    assert machine.ran()[before - 1 :] == [run, "told"]
    assert not machine.remove()

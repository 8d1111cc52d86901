"""The night's systemd units: what they say, and that they come and go as a whole."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.nightly import units
from lab.nightly.settings import Settings

ROOT = Path("/srv/exalab")


class Systemd:
    """Writes down what it was asked; refuses what it is told to."""

    def __init__(self, refuses: str = "") -> None:
        self.asked: list[str] = []
        self.refuses = refuses

    def __call__(self, argv: Sequence[str]) -> str:
        said = " ".join(argv)
        if self.refuses and said.startswith(self.refuses):
            raise LabError(f"{said} failed: no")
        self.asked.append(said)
        return "  Original form: x\n    Next elapse: Sun 2026-11-29 01:30:00 UTC\n"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_installed_and_removed(tmp_path: Path) -> None:
    """Service, timer, and what goes on after a power cut; twice is once; nothing stays."""
    systemd = Systemd()
    for _ in range(2):
        assert units.install(ROOT, Settings(), tmp_path, systemd) == "Sun 2026-11-29 01:30:00 UTC"
    assert names(tmp_path) == sorted([units.SERVICE, units.TIMER, units.RESUME])
    assert "systemctl enable --now exalab-nightly.timer" in systemd.asked
    assert units.remove(ROOT, tmp_path, systemd)
    assert names(tmp_path) == []
    assert systemd.asked[-1] == "systemctl daemon-reload"
    assert not units.remove(ROOT, tmp_path, systemd)


def test_what_they_say() -> None:
    """When, where and what; a card that others have is no failure of the service."""
    files = units.units(ROOT, Settings(at="Mon..Fri 22:00"))
    assert "OnCalendar=Mon..Fri 22:00\nPersistent=true" in files[units.TIMER]
    service = files[units.SERVICE]
    assert "ExecStart=/srv/exalab/.venv/bin/python -m lab.nightly run\n" in service
    assert "WorkingDirectory=/srv/exalab\n" in service
    assert "SuccessExitStatus=75" in service
    assert "run --resume\n" in files[units.RESUME]
    assert "[Install]" not in service


def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    """Where systemd-analyze is, it reads them; elsewhere their form is all that can be looked at."""
    root = tmp_path / "checkout"
    (root / ".venv/bin").mkdir(parents=True)
    python = root / ".venv/bin/python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    files = units.units(root, Settings())
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        for line in text.splitlines():
            assert not line or line[0] in "#[" or "=" in line
    if shutil.which("systemd-analyze"):
        argv = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in files)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert not [line for line in done.stderr.splitlines() if "exalab" in line], done.stderr


@pytest.mark.parametrize("refuses", ["systemctl enable", "systemctl daemon-reload", "systemd-analyze"])
def test_a_refusal_leaves_nothing(tmp_path: Path, refuses: str) -> None:
    """Half an installation is none."""
    with pytest.raises(LabError, match="failed: no"):
        units.install(ROOT, Settings(), tmp_path, Systemd(refuses))
    assert names(tmp_path) == []


def test_another_checkouts_night_is_left_alone(tmp_path: Path) -> None:
    """It is named; so is a file that is nobody's of ours."""
    units.install(ROOT, Settings(), tmp_path, Systemd())
    other = Path("/home/me/exalab")
    for what in (
        lambda: units.install(other, Settings(), tmp_path, Systemd()),
        lambda: units.remove(other, tmp_path, Systemd()),
    ):
        with pytest.raises(LabError, match="/srv/exalab"):
            what()
    assert len(names(tmp_path)) == 3


def test_a_path_that_no_service_can_have() -> None:
    """systemd would read it as something else."""
    with pytest.raises(LabError, match="cannot run in"):
        units.units(Path("/srv/my lab"), Settings())


def test_no_systemd() -> None:
    """The error says what to do without."""
    with pytest.raises(LabError, match="there is no nosuchctl") as caught:
        units.run(["nosuchctl"])
    assert "cron" in str(caught.value.hint)

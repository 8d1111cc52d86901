"""What runs isolated ends with us and leaves no mount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from images import sandbox
from lab.deadline import Deadline
from lab.errors import LabError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def _descendants(marker: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killing_the_parent_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    """A Python that started an isolated mount and a daemon is killed: daemon and mount are gone."""
    before = _mounts()
    marker = f"EXALAB_TEST_MARKER={tmp_path}"
    inner = f"mount -t tmpfs t {tmp_path}; setsid sleep 1000 & echo ready; wait"
    code = (
        "import subprocess, sys; from images.sandbox import isolated;"
        f"subprocess.run(isolated(['sh', '-c', {inner!r}]), env={{'PATH': '/usr/sbin:/usr/bin:/sbin:/bin',"
        f" 'EXALAB_TEST_MARKER': {str(tmp_path)!r}}})"
    )
    outer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert outer.stdout and outer.stdout.readline() == "ready\n"
    assert _descendants(marker)
    outer.send_signal(number)
    outer.wait()
    outer.stdout.close()
    Deadline("everything to end with its parent", 20.0).wait_until(lambda: not _descendants(marker))
    assert _mounts() == before


def test_failure_shows_the_last_lines(tmp_path: Path) -> None:
    """And says where the rest is."""
    with pytest.raises(LabError, match="the trial failed \\(exit 3\\):\nwhy") as caught:
        sandbox.run(["sh", "-c", "echo why >&2; exit 3"], "the trial", log=tmp_path / "log")
    assert caught.value.hint and str(tmp_path / "log") in caught.value.hint
    assert (tmp_path / "log").read_text().endswith("why\n")


def test_environment_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the caller's locale, time zone or paths reaches a build step."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PERL5LIB", "/elsewhere")
    told = sandbox.run(["env"], "env").splitlines()
    assert "LC_ALL=C.UTF-8" in told and "TZ=UTC" in told
    assert not [line for line in told if line.startswith("PERL5LIB")]

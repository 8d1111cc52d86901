"""A night from end to end, with stand-ins for its commands: what hangs, fails, is taken, or is cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab import config as configs
from lab import lease, paths
from lab.config import Config
from lab.deadline import Deadline
from lab.nightly import diary, night
from lab.nightly.recorders import Recorders

CARD = "0000:3b:00.0"


class Stage(night.Commands):
    """Commands that write down that they ran, and then do as they are told: {"suites night": "sleep 60"}."""

    def __init__(self, folder: Path, how: dict[str, str] | None = None) -> None:
        super().__init__("test")
        self.log, self.how, self.back = folder / "ran", how or {}, 0

    def _do(self, what: str) -> list[str]:
        then = self.how.get(what, "true")
        said = f"echo {what} under ${{{lease.ENVIRONMENT}:-none}} by ${{{configs.ENVIRONMENT}:-lab.toml}}"
        return ["sh", "-c", f"{said} >> {self.log}; {then}"]

    def up(self, name: str) -> list[str]:
        return self._do(f"up {name}")

    def images(self) -> list[str]:
        return self._do("images")

    def check(self, name: str) -> list[str]:
        return self._do(f"check {name}")

    def down(self, name: str) -> list[str]:
        return self._do(f"down {name}")

    def suites(self, name: str) -> list[str]:
        return self._do(f"suites {name}")

    def bench(self) -> list[str]:
        return self._do("bench")

    def report(self) -> list[str]:
        return self._do("report")

    def present(self, config: Config) -> bool:
        return True

    def give_back(self) -> None:
        self.back += 1

    def ran(self) -> list[str]:
        return [line.partition(" under ")[0] for line in self.log.read_text().splitlines()]


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What runs make is not this checkout's."""
    folder = tmp_path / "out"
    monkeypatch.setattr(paths, "out", lambda: folder)
    return folder


def config(tmp_path: Path, more: str = "", top: str = "", patience: float = 0.15) -> Config:
    """A lab.toml with a real card."""
    night = f"results = '{tmp_path}/nights'\npatience_minutes = {patience}\n{more}"
    return configs.parse(f"card = '{CARD}'\n{top}\n[nightly]\n{night}", "x")


def quiet(folder: Path, console: Sequence[str]) -> Recorders:
    return Recorders(folder, console, (("dmesg.log", ("sh", "-c", "echo a message; sleep 60")),))


def go(given: Config, stage: Stage) -> tuple[int, diary.Diary]:
    code = night.run(given, commands=lambda _night: stage, recorders=quiet)
    return code, diary.nights(night.results(given.nightly))[-1]


def statuses(told: diary.Diary) -> dict[str, str]:
    return {one.name: one.status for one in told.entries}


WHOLE = [
    "images",
    "up night", "check night", "suites night", "down night",
    "up night-emulated", "check night-emulated", "suites night-emulated", "down night-emulated",
    "bench", "report",
    "down night", "down night-emulated", "down night-bench",
]  # fmt: skip


def test_a_night(tmp_path: Path, out: Path) -> None:
    """Real, emulated, bench, report, clean-up, in this order; everything it made is kept, and what was
    recorded.
    """
    out.mkdir()
    stage = Stage(tmp_path, {"report": f"echo page > {out}/report.html"})
    (out / "bench.json").write_text("{}")
    os.utime(out / "bench.json", (0, 0))
    code, told = go(config(tmp_path, "console = ['echo', 'login:']"), stage)
    assert (code, told.good, told.ended is not None) == (night.PASSED, True, True)
    assert stage.ran() == WHOLE
    assert stage.back == 1
    assert (told.folder / "report.html").read_text() == "page\n"
    assert not (told.folder / "bench.json").exists(), "of an earlier day"
    assert "a message" in (told.folder / "dmesg.log").read_text()
    assert "login:" in (told.folder / "console.log").read_text()
    file = told.folder / "emulated.toml"
    described = {
        line.partition(" under ")[0]: line.split()[-1] for line in stage.log.read_text().splitlines()[:11]
    }
    assert {described[what] for what in WHOLE if "emulated" in what or what == "bench"} == {str(file)}
    assert described["up night"] == described["suites night"] == "lab.toml"
    assert 'name = "card0"\nmodel = "X25"' in (told.folder / "emulated.toml").read_text()


def test_failing_tests_do_not_end_the_night(tmp_path: Path) -> None:
    """They are what a night is for; its status tells."""
    stage = Stage(tmp_path, {"suites night": "echo 3 failed; exit 1"})
    code, told = go(config(tmp_path), stage)
    assert code == night.FAILED
    assert stage.ran() == WHOLE
    (entry,) = [one for one in told.entries if one.name == "real suites"]
    assert (entry.status, entry.told) == ("failed", "ended with status 1: 3 failed")


def test_hung_suites_are_ended_and_the_card_recovered(tmp_path: Path) -> None:
    """By the command of lab.toml; the night goes on, and nothing of what hung is left."""
    stage = Stage(tmp_path, {"suites night": "sleep 4321 & sleep 4321"})
    code, told = go(config(tmp_path, f"recover = ['touch', '{tmp_path}/switched']"), stage)
    assert code == night.FAILED
    assert statuses(told)["real suites"] == "hung"
    assert (tmp_path / "switched").exists()
    assert told.recovered == [f"the suites hung: touch {tmp_path}/switched"]
    assert stage.ran()[-3:] == WHOLE[-3:]
    assert "suites night-emulated" in stage.ran()
    assert subprocess.run(["pgrep", "-f", "sleep 4321"], check=False).returncode == 1


def test_a_card_that_is_not_well_gets_a_second_attempt(tmp_path: Path) -> None:
    """After the command that recovers it; the suites then run on it."""
    stage = Stage(tmp_path, {"check night": f"test -e {tmp_path}/switched"})
    code, told = go(config(tmp_path, f"recover = ['touch', '{tmp_path}/switched']"), stage)
    assert statuses(told)["real health"] == "broken"
    assert statuses(told)["real health again"] == statuses(told)["real suites"] == "passed"
    assert code == night.FAILED, "it was not well, and that is to be seen"


def test_a_card_that_stays_ill_costs_its_part_alone(tmp_path: Path) -> None:
    """Without a command to recover it that is said; the emulated part runs."""
    stage = Stage(tmp_path, {"up night": "echo error: shared group; exit 1"})
    code, told = go(config(tmp_path), stage)
    assert code == night.FAILED
    assert statuses(told)["real suites"] == "broken"
    assert statuses(told)["emulated suites"] == "passed"
    assert "no command `recover`" in told.recovered[0]
    assert "suites night" not in stage.ran()


def test_without_a_real_card(tmp_path: Path) -> None:
    """A night of the emulated card alone is one, too."""
    given = configs.parse(f"[nightly]\nresults = '{tmp_path}/nights'\nbench = false\n", "x")
    stage = Stage(tmp_path)
    code, told = go(given, stage)
    assert code == night.PASSED
    assert statuses(told)["real card"] == "skipped"
    assert "bench" not in stage.ran()


def test_the_lease_is_held_and_known_to_the_labs(tmp_path: Path) -> None:
    """All commands run under it, and it is free afterwards."""
    leases = tmp_path / "leases"
    stage = Stage(tmp_path)
    code, _told = go(config(tmp_path, top=f"leases = '{leases}'"), stage)
    assert code == night.PASSED
    (claim,) = lease.all_of(leases)
    assert claim.given_up
    assert {line.partition(" under ")[2].split()[0] for line in stage.log.read_text().splitlines()[:-3]} == {
        claim.token
    }


def test_a_card_that_others_have_is_left_alone(tmp_path: Path) -> None:
    """The night says who has it, touches nothing, and ends with a status of its own."""
    leases = tmp_path / "leases"
    stage = Stage(tmp_path)
    with lease.acquire(leases, lease.name_of(CARD), "somebody's experiment"):
        given = config(tmp_path, "wait_minutes = 0", f"leases = '{leases}'")
        code, told = go(given, stage)
    assert code == night.BUSY
    assert "somebody's experiment" in told.entries[0].told
    assert not stage.log.exists()


def test_old_nights_go(tmp_path: Path) -> None:
    """As many are kept as were asked for, the newest."""
    old = tmp_path / "nights"
    for number in range(4):
        made = old / f"2020-01-0{number + 1}T010000"
        made.mkdir(parents=True)
        diary.Diary(made, made.name, "c", 0.0, [], [], 1.0).write()
    go(config(tmp_path, "keep = 3"), Stage(tmp_path))
    names = sorted(path.name for path in old.iterdir())
    assert names[:2] == ["2020-01-03T010000", "2020-01-04T010000"]
    assert len(names) == 3


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A night of ``staged_night``."""
    argv = [sys.executable, "-m", "lab.nightly.tests.staged_night", str(folder), *words]
    return subprocess.Popen(argv, cwd=paths.ROOT)


def until_it_hangs(folder: Path) -> None:
    ran = folder / "ran"
    Deadline("the emulated suites to run", 60.0).wait_until(
        lambda: ran.exists() and "suites night-emulated" in ran.read_text()
    )


def test_a_night_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    """Killed as by a power switch: what had ended is not run again, the rest is, and then nothing is left to
    do.
    """
    first = start(tmp_path)
    until_it_hangs(tmp_path)
    first.kill()
    first.wait(30)
    (cut,) = diary.nights(tmp_path / "nights")
    assert cut.ended is None
    (tmp_path / "go").touch()
    before = len((tmp_path / "ran").read_text().splitlines())
    assert start(tmp_path, "--resume").wait(60) == 0
    ran = Stage(tmp_path).ran()[before:]
    # What the power took down is brought up again; what had come to its end is not run again.
    assert ran[:3] == ["images", "down night", "up night-emulated"]
    assert ran[3:5] == ["check night-emulated", "suites night-emulated"]
    assert "suites night" not in ran
    (whole,) = diary.nights(tmp_path / "nights")
    assert whole.good and whole.ended is not None
    assert start(tmp_path, "--resume").wait(60) == 0
    assert len(diary.nights(tmp_path / "nights")) == 1


def test_a_night_that_is_stopped_cleans_up(tmp_path: Path) -> None:
    """SIGTERM, as systemd's stop: what runs is ended, the labs are taken down, and the diary says so."""
    one = start(tmp_path)
    until_it_hangs(tmp_path)
    one.send_signal(signal.SIGTERM)
    assert one.wait(60) != 0
    (told,) = diary.nights(tmp_path / "nights")
    assert statuses(told)["clean-up"] == "passed"
    assert told.ended is not None
    assert Stage(tmp_path).ran()[-3:] == WHOLE[-3:]
    assert subprocess.run(["pgrep", "-f", f"{tmp_path}.*sleep 4322"], check=False).returncode == 1


def test_diaries_that_are_none(tmp_path: Path) -> None:
    """A folder of something else, or half a file, is no night and in nobody's way; an old one is not taken
    up.
    """
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / diary.FILE).write_text('{"entries": [')
    assert diary.nights(tmp_path) == []
    made = diary.begin(tmp_path, "c0ffee")
    assert diary.unfinished(tmp_path, "c0ffee") is not None
    assert diary.unfinished(tmp_path, "another") is None
    made.started = time.time() - 3600 * (diary.FRESH_HOURS + 1)
    made.write()
    assert diary.unfinished(tmp_path, "c0ffee") is None
    assert json.loads((made.folder / diary.FILE).read_text())["schema"] == 1

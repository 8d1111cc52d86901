"""One night, from the lease to the report.

lease of the card, then for the real card and for an emulated one, at the same commit: lab up, health check
with the cabling, suites, lab down; then the bench, the report with the parity of the two, and the clean-up.
A part that hangs is ended, the card is recovered by the command that lab.toml names, and the night goes on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import config as configs
from lab import console, lease, paths, process
from lab.config import Config
from lab.deadline import Deadline
from lab.errors import DeadlineExpired, LabError, ProcessFailed
from lab.nightly import diary as diaries
from lab.nightly.diary import Diary, Entry
from lab.nightly.recorders import Recorders
from lab.nightly.settings import Settings

#: Names of the night's labs.
REAL, EMULATED = "night", "night-emulated"
#: Exit statuses: passed, something failed, somebody else has the card (sysexits' EX_TEMPFAIL).
PASSED, FAILED, BUSY = 0, 1, 75
#: Seconds for what takes one down, and for a health check, whatever the accelerator.
DOWN_SECONDS, HEALTH_SECONDS = 180.0, 900.0
_MODULE = (sys.executable, "-m")


class Interrupted(BaseException):
    """SIGTERM, or a lease that was lost: clean up and end."""


@dataclass
class Night:
    """What a night knows. ``commands`` can be replaced by a test; see :class:`Commands`."""

    config: Config
    diary: Diary
    commands: Commands
    recorders: Recorders
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return self.config.nightly

    def step(self, name: str, argv: Sequence[str], seconds: float, failure: str = "broken") -> Entry:
        """Run a command to its end; ``failure``: what its failing is.

        Its output is in the night's folder. One that hangs is killed, with all that it started.
        """
        self.recorders.tend()
        started = time.monotonic()
        log = self.diary.folder / f"{len(self.diary.entries):02d}-{name.replace(' ', '-')}.log"
        with console.step(name):
            status, told = self._run(name, argv, seconds, log, failure)
        took = round(time.monotonic() - started, 1)
        console.say(f"{name}: {status}" + (f": {told}" if told else ""))
        return self.diary.note(Entry(name, status, took, told))

    def _run(
        self, name: str, argv: Sequence[str], seconds: float, log: Path, failure: str
    ) -> tuple[str, str]:
        try:
            one = process.spawn(
                argv, name=name, log=log, cwd=paths.ROOT, env={**os.environ, **self.environment}
            )
        except ProcessFailed as problem:
            return "broken", problem.message
        try:
            code = one.wait(Deadline(name, seconds))
        except DeadlineExpired:
            return "hung", f"not within {seconds / 60:g} minutes; ended"
        finally:
            one.stop()
        if code == 0:
            return "passed", ""
        last = process.tail(log, 1).strip()
        return failure, f"{process.how_it_ended(code)}: {last}"[:300]

    # parts

    def kind(self, kind: str) -> None:
        """Everything on one kind of card."""
        name = REAL if kind == "real" else EMULATED
        if kind == "emulated":
            # Also for labs that the suites bring up by themselves.
            self.environment[configs.ENVIRONMENT] = str(self.emulated_file())
        if kind == "real" and not self.config.real:
            self.diary.note(Entry("real card", "skipped", 0.0, "lab/lab.toml has no real card"))
            return
        minutes = self.settings.patience_minutes * 60
        if self.diary.has(f"{kind} suites"):
            console.say(f"the {kind} suites ran before the interruption")
        elif not self.healthy(kind, name):
            self.diary.note(Entry(f"{kind} suites", "broken", 0.0, "the lab is not healthy"))
        else:
            ran = self.step(f"{kind} suites", self.commands.suites(name), minutes, "failed")
            if ran.status == "hung":
                self.recover(kind, name, "the suites hung")
        self.step(f"{kind} lab down", self.commands.down(name), DOWN_SECONDS)

    def healthy(self, kind: str, name: str) -> bool:
        """The lab is up and every port is proved; with a real card in two attempts, the card recovered
        between.
        """
        for attempt in (1, 2):
            again = "" if attempt == 1 else " again"
            up = self.step(f"{kind} lab up{again}", self.commands.up(name), HEALTH_SECONDS)
            well = up.status == "passed" and (
                self.step(f"{kind} health{again}", self.commands.check(name), HEALTH_SECONDS).status
                == "passed"
            )
            if well:
                return True
            if attempt == 1 and kind == "real":
                self.recover(kind, name, up.told or "the health check failed")
            else:
                break
        return False

    def recover(self, kind: str, name: str, why: str) -> None:
        """What hangs is taken down, by force when it must be, and the card is brought back by lab.toml's
        command.
        """
        number = len(self.diary.recovered) + 1
        self.step(f"{kind} lab down after a hang {number}", self.commands.down(name), DOWN_SECONDS)
        if kind != "real":
            return
        if not self.settings.recover:
            self.diary.recovered.append(f"{why}: no command `recover` in [nightly], so nothing was done")
            self.diary.write()
            return
        self.diary.recovered.append(f"{why}: {' '.join(self.settings.recover)}")
        self.diary.write()
        self.step(f"recover {number}", self.settings.recover, self.settings.recover_minutes * 60)
        limit = Deadline("the card to be there again", self.settings.recover_minutes * 60)
        try:
            limit.wait_until(lambda: self.commands.present(self.config), every=1.0)
        except DeadlineExpired as problem:
            self.diary.recovered.append(problem.message)
            self.diary.write()

    def emulated_file(self) -> Path:
        """lab.toml of the emulated lab: as many cards, under the same names, in the built-in wiring."""
        file = self.diary.folder / "emulated.toml"
        cards = self.config.real or self.config.emulated
        lines = []
        for card in cards:
            model = card.model if isinstance(card, configs.Card) else "X25"
            lines.append(f'[[card]]\nname = "{card.name}"\nmodel = "{model}"\n')
        file.write_text("\n".join(lines), encoding="utf-8")
        return file

    def keep(self) -> None:
        """Copy what the night made into its folder."""
        out = paths.out()
        for source in (out / "report.html", out / "bench.json", out / "junit"):
            _copy(source, self.diary.folder / source.name, self.diary.started)
        for source in (out / "history", out / "bundles"):
            for path in sorted(source.iterdir()) if source.is_dir() else ():
                _copy(path, self.diary.folder / source.name / path.name, self.diary.started)
        for name in (REAL, EMULATED):
            for log in sorted((out / "labs" / name).glob("*.log")):
                _copy(log, self.diary.folder / "labs" / name / log.name, self.diary.started)


class Commands:
    """The commands of a night."""

    def __init__(self, night: str) -> None:
        self._night = night

    def _lab(self, name: str, *words: str) -> list[str]:
        return [*_MODULE, "lab", "--name", name, *words]

    def up(self, name: str) -> list[str]:
        return self._lab(name, "up", "--renew")

    def images(self) -> list[str]:
        return [*_MODULE, "images", "build"]

    def check(self, name: str) -> list[str]:
        return self._lab(name, "check")

    def down(self, name: str) -> list[str]:
        return self._lab(name, "down")

    def suites(self, name: str) -> list[str]:
        junit = paths.out() / "junit" / f"{name}.xml"
        return [
            *_MODULE, "pytest", "suites", "--ignore", "suites/report", "--lab", name,
            "--record", "suites", "--night", self._night, "--junit-xml", str(junit),
        ]  # fmt: skip

    def bench(self) -> list[str]:
        return [*_MODULE, "suites.bench", "--lab", "night-bench"]

    def report(self) -> list[str]:
        return [*_MODULE, "suites.report"]

    def present(self, config: Config) -> bool:
        """Whether every real card is on its bus."""
        if config.host is not None:
            from lab.remote import roles

            try:
                seen = roles.find(config.host, [card.pci for card in config.real]).seen
            except LabError:
                return False
            return all(card["model"] for card in seen["cards"])
        from lab.real.host import Host

        host = Host()
        return all(host.device(card.pci).exists() for card in config.real)

    def give_back(self) -> None:
        """What a lab that was killed left taken."""
        from lab.real import borrowed

        borrowed.recover()


def _copy(source: Path, target: Path, since: float) -> None:
    """Copy a file or folder that is not older than the night."""
    if not source.exists() or source.stat().st_mtime < since:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def commit() -> str:
    """The checkout's commit, with a sign when there is more than it says; empty without git."""
    words = ["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def results(settings: Settings) -> Path:
    """Where nights are kept."""
    return settings.results or paths.out() / "nights"


def run(
    config: Config,
    *,
    resume: bool = False,
    commands: Callable[[str], Commands] = Commands,
    recorders: Callable[..., Recorders] = Recorders,
    on_lost: Callable[[], None] = lambda: None,
) -> int:
    """A night, or the rest of one that was cut off (``resume``: only that). The exit status.

    ``on_lost`` is called, in another thread, when a lease goes to somebody else; it should interrupt this
    one.
    """
    where = results(config.nightly)
    old = diaries.unfinished(where, commit())
    if resume and old is None:
        console.say("no nightly run was interrupted: nothing to resume")
        return PASSED
    if old is None and config.nightly.before:
        _before(config.nightly.before)
    diary = old or diaries.begin(where, commit())
    if old is not None:
        console.say(f"resuming the nightly run {old.name}")
    held: list[lease.Lease] = []
    try:
        _lease(config, diary, held, on_lost)
    except lease.Taken as problem:
        diary.note(Entry("lease", "skipped", 0.0, problem.message))
        diary.ended = time.time()
        diary.write()
        console.warn(problem.message, hint=problem.hint)
        return BUSY
    night = Night(config, diary, commands(diary.name), recorders(diary.folder, config.nightly.console))
    if held:
        night.environment[lease.ENVIRONMENT] = held[0].claim.token
    try:
        _parts(night)
    except Interrupted as problem:
        diary.note(Entry("night", "broken", 0.0, str(problem)))
        raise
    finally:
        _clean_up(night, held)
    console.out.print(str(diary), markup=False)
    return PASSED if diary.good else FAILED


def _parts(night: Night) -> None:
    began = commit()
    night.step("images", night.commands.images(), night.settings.patience_minutes * 60)
    night.kind("real")
    night.kind("emulated")
    patience = night.settings.patience_minutes * 60
    if night.settings.bench and not night.diary.has("bench"):
        night.step("bench", night.commands.bench(), patience)
    night.step("report", night.commands.report(), HEALTH_SECONDS)
    if commit() != began:
        told = f"the checkout changed from {began[:12]} to {commit()[:12]} meanwhile"
        night.diary.note(Entry("same commit", "broken", 0.0, told))


def _before(argv: Sequence[str]) -> None:
    done = subprocess.run(list(argv), cwd=paths.ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(
            f"{' '.join(argv)} failed: {(done.stderr or done.stdout).strip()[-300:]}",
            hint="change `before` in [nightly] of lab/lab.toml",
        )


def _lease(config: Config, diary: Diary, held: list[lease.Lease], on_lost: Callable[[], None]) -> None:
    """Every real card, always in the same order, so that two nights never wait for each other."""
    if config.leases is None:
        return

    def waiting(claim: lease.Claim) -> None:
        console.say(f"waiting for {claim}")

    try:
        for address in sorted(card.pci for card in config.real):
            found = lease.acquire(
                config.leases,
                lease.name_of(address, config.machine),
                f"night {diary.name}",
                wait=config.nightly.wait_minutes * 60,
                waiting=waiting,
                on_lost=on_lost,
                token=held[0].claim.token if held else None,
            )
            held.append(found)
    except LabError:
        for one in held:
            one.give_up()
        held.clear()
        raise


def _clean_up(night: Night, held: list[lease.Lease]) -> None:
    """Labs down, the card its driver's again, results kept, old nights gone, the lease given up: each
    whatever becomes of the others.
    """
    problems = []
    for name in (REAL, EMULATED, "night-bench"):
        status, told = night._run(
            f"lab {name} down",
            night.commands.down(name),
            DOWN_SECONDS,
            night.diary.folder / "clean-up.log",
            "failed",
        )
        if status != "passed":
            problems.append(f"lab {name}: {told}")
    for action in (night.commands.give_back, night.keep, lambda: prune(night)):
        try:
            action()
        except (LabError, OSError) as problem:
            problems.append(str(problem))
    night.recorders.close()
    for one in held:
        one.give_up()
    night.diary.note(Entry("clean-up", "broken" if problems else "passed", 0.0, "; ".join(problems)))
    night.diary.ended = time.time()
    night.diary.write()


def prune(night: Night) -> None:
    """Nights beyond those to be kept go, the oldest first."""
    known = diaries.nights(results(night.settings))
    for old in known[: max(0, len(known) - night.settings.keep)]:
        if old.folder != night.diary.folder:
            shutil.rmtree(old.folder)

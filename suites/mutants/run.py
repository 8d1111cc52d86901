"""One mutant after the other: put the defect in, build, run its tests, take it out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import console
from lab.paths import out
from suites.mutants.catalog import NATIVE, Mutant
from suites.mutants.tree import Tree, copy

#: The lab of the mutants.
LAB = "mutants"
#: Seconds after which a build, or the tests of one mutant, are given up.
BUILD_SECONDS, TEST_SECONDS = 1800, 2400
#: What can become of a mutant. Only the first is good.
CAUGHT, MISSED, BROKEN = "caught", "missed", "broken"


@dataclass
class Verdict:
    """``noticed``: the tests that failed with the defect; ``why``: what went wrong when it is broken."""

    name: str
    part: str
    what: str
    verdict: str
    noticed: tuple[str, ...] = ()
    why: str = ""
    seconds: float = 0.0


class Unusable(Exception):
    """No tests ran: it says why, and in which log to look."""


def logs() -> Path:
    folder = out() / "mutants/logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(tree: Tree, argv: Sequence[str], log: Path, seconds: float) -> int:
    """A command in the copy; its status. Unusable when it does not end."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    environment["LAB"] = LAB
    with log.open("a", encoding="utf-8") as file:
        try:
            return subprocess.run(
                [sys.executable, "-m", *argv],
                cwd=tree.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise Unusable(f"`{' '.join(argv[:3])}` did not end within {seconds:.0f} s: {log}") from None


def failures(junit: Path) -> tuple[int, tuple[str, ...]]:
    """How many tests a run had, and the names of those that failed or had errors."""
    ran, failed = 0, []
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        if case.find("skipped") is not None:
            continue
        ran += 1
        if case.find("failure") is not None or case.find("error") is not None:
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"
            if name not in failed:
                failed.append(name)
    return ran, tuple(failed)


def _tested(tree: Tree, name: str, tests: Sequence[str]) -> tuple[str, ...]:
    """Run tests in the copy; those that failed. Unusable when none ran."""
    log, junit = logs() / f"{name}.log", logs() / f"{name}.xml"
    junit.unlink(missing_ok=True)
    argv = ["pytest", "-p", "no:cacheprovider", f"--junit-xml={junit}", "-q", "--tb=short", *tests]
    status = _run(tree, argv, log, TEST_SECONDS)
    if status not in (0, 1) or not junit.exists():
        raise Unusable(f"pytest ended with {status}: {log}")
    ran, failed = failures(junit)
    if not ran:
        raise Unusable(f"every test was skipped: {log}")
    return failed


def _noticed(tree: Tree, name: str, tests: Sequence[str]) -> tuple[str, ...]:
    """Build what the tests need and run them. A lab that does not come up has noticed the defect, too."""
    if all(test.startswith(NATIVE) for test in tests):
        return _tested(tree, name, tests)
    log = logs() / f"{name}.log"
    if status := _run(tree, ["images", "build"], log, BUILD_SECONDS):
        raise Unusable(f"it does not build (status {status}): {log}")
    try:
        if _run(tree, ["lab", "up"], log, BUILD_SECONDS):
            return ("lab up",)
        return _tested(tree, name, tests)
    finally:
        _run(tree, ["lab", "down"], log, BUILD_SECONDS)


def judge(tree: Tree, mutant: Mutant, red: Sequence[str]) -> Verdict:
    """What becomes of one mutant. ``red``: tests that fail without any mutant; they notice nothing."""
    started = time.monotonic()
    verdict = Verdict(mutant.name, mutant.part, mutant.what, BROKEN)
    (logs() / f"{mutant.name}.log").unlink(missing_ok=True)
    try:
        with tree.with_defect(mutant):
            verdict.noticed = tuple(
                one for one in _noticed(tree, mutant.name, mutant.tests) if one not in red
            )
        verdict.verdict = CAUGHT if verdict.noticed else MISSED
    except Unusable as error:
        verdict.why = str(error)
    verdict.seconds = round(time.monotonic() - started, 1)
    return verdict


def baseline(tree: Tree, mutants: Sequence[Mutant]) -> tuple[str, ...]:
    """The tests of these mutants that fail with no defect at all. Unusable when they cannot be run."""
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    red: list[str] = []
    for name, part in (
        ("without-native", [one for one in tests if one.startswith(NATIVE)]),
        ("without", [one for one in tests if not one.startswith(NATIVE)]),
    ):
        (logs() / f"{name}.log").unlink(missing_ok=True)
        if part:
            with console.step(f"{len(part)} tests without a mutant"):
                red += _noticed(tree, name, part)
    return tuple(red)


def judge_all(mutants: Sequence[Mutant]) -> tuple[tuple[str, ...], list[Verdict]]:
    """Tests that are red without a mutant, and a verdict for each mutant."""
    with console.step("copying the checkout"):
        tree = copy()
    red = baseline(tree, mutants)
    for one in red:
        console.warn(f"{one} fails without a mutant: it is not counted", hint=f"see {logs()}")
    verdicts = []
    for number, mutant in enumerate(mutants, 1):
        with console.step(f"{number} of {len(mutants)}: {mutant.name}: {mutant.what}") as step:
            verdicts.append(judge(tree, mutant, red))
            step.note(verdicts[-1].verdict)
        if verdicts[-1].verdict != CAUGHT:
            console.warn(f"{mutant.name}: {verdicts[-1].verdict} {verdicts[-1].why}")
    return red, verdicts

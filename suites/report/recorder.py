"""The pytest plugin that records a run: what each test proves, on what, how it went, and where to look.

Loaded by the checkout's ``conftest.py``. A run is a part of the whole with ``--record PART`` (the Makefile
says so); without, it is somebody's own. Fixtures add what only they know to :func:`notes`. The record is one
file in ``out/history``; until the run ends it is a journal there, one line a test, written at once: a run
that is interrupted, or killed, keeps what it knew.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import pytest

from suites import tiers, timeline
from suites.report import history
from suites.report.record import (
    JOURNAL,
    Origin,
    Outcome,
    Record,
    Test,
    as_json,
    now,
    rules_of,
    worst,
    write,
)
from suites.report.selection import selection

#: Characters kept of a failure's text, and of each section (captured output), from its start and its end.
FAILURE, SECTION = (20_000, 40_000), (1_000, 7_000)
_TEST = pytest.StashKey[Test]()
_OUTCOMES = pytest.StashKey[list[Outcome]]()
_DRAWINGS = pytest.StashKey[dict[str, str]]()
_RECORDER = pytest.StashKey["Recorder"]()
_WORKERS_LEFT_OUT = "exalab_left_out"
#: Markers that say how a test is run, not what it is about.
_PLAIN_MARKERS = ("parametrize", "usefixtures", "timeout", "hypothesis", *tiers.TIERS)


def notes(item: pytest.Item) -> Test:
    """What is noted of a test; there also when nobody records it."""
    if _TEST not in item.stash:
        item.stash[_TEST] = Test(item.nodeid, "passed")
    return item.stash[_TEST]


def note_drawing(item: pytest.Item, svg: str) -> None:
    """The drawing of what a test stands on; kept once, however many tests stand on it."""
    key = sha256(svg.encode()).hexdigest()[:12]
    item.stash.setdefault(_DRAWINGS, {})[key] = svg
    notes(item).drawing = key


def origin(config: pytest.Config) -> Origin | None:
    """Where the record of this run comes from, to be completed by who has the lab; None: nobody records."""
    recorder = config.stash.get(_RECORDER, None)
    return recorder.record.origin if recorder is not None else None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("exalab")
    group.addoption(
        "--record", metavar="PART", default=history.OWN, help="the part of the report that this run is"
    )
    group.addoption(
        "--again", action="store_true", help="a repetition: its outcomes count as second attempts"
    )
    group.addoption(
        "--night", default=os.environ.get("EXALAB_NIGHT", ""), help="the nightly run that it belongs to"
    )


def pytest_configure(config: pytest.Config) -> None:
    worker = hasattr(config, "workerinput")  # of pytest-xdist: its reports are recorded where it was started
    dry = config.option.collectonly or config.getoption("--topology-only", default=False)
    config.pluginmanager.register(Notes(config), "exalab-notes")
    if not worker and not dry:
        recorder = Recorder(config)
        config.stash[_RECORDER] = recorder
        config.pluginmanager.register(recorder, "exalab-recorder")


def clipped(text: str, ends: tuple[int, int]) -> str:
    """A text without its middle, when it is longer than both ends."""
    first, last = ends
    if len(text) <= first + last:
        return text
    return f"{text[:first]}\n… {len(text) - first - last} characters left out …\n{text[-last:]}"


def described(item: pytest.Item) -> Test:
    """What is known of a test before it runs."""
    test = notes(item)
    doc = getattr(getattr(item, "function", None), "__doc__", None) or ""
    test.proves = " ".join(doc.split())
    test.rules = rules_of(test.proves)
    test.started = now()
    names = []
    for marker in item.iter_markers():
        if marker.name not in _PLAIN_MARKERS:
            arguments = ", ".join(str(one) for one in marker.args)
            names.append(f"{marker.name}({arguments})" if arguments else marker.name)
    test.markers = tuple(dict.fromkeys(names))
    given: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    test.case = {name: clipped(_shown(value), (60, 0)) for name, value in given.items()}
    test.sockets = test.case.get("sockets", "")
    if not test.sockets and "compared" in getattr(item, "fixturenames", ()):
        test.sockets = "compared"
    test.seed = test.case.get("seed", "")
    return test


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return "-".join(_shown(one) for one in value)
    name = getattr(value, "name", None) or getattr(value, "__name__", None)
    return name if isinstance(name, str) else str(value)


def left_out(items: list[pytest.Item]) -> dict[str, list[str]]:
    """The ids of deselected tests by why, of those where somebody has told why."""
    found: dict[str, list[str]] = {}
    for item in items:
        reason = item.stash.get(tiers.LEFT_OUT, None)
        if reason is not None:
            found.setdefault(reason, []).append(item.nodeid)
    return found


class Notes:
    """Where the test runs: makes its entry, and sends it along with the report of its last phase."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Of a worker of pytest-xdist: what it leaves out is told where the run is recorded."""
        output: dict[str, Any] | None = getattr(self.config, "workeroutput", None)
        if output is not None:
            told = output.setdefault(_WORKERS_LEFT_OUT, {})
            for reason, ids in left_out(items).items():
                told.setdefault(reason, []).extend(ids)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        described(item)
        line = timeline.begin()
        item.stash[_OUTCOMES] = []
        try:
            result = yield
        except BaseException:
            # Ctrl-C, or pytest.exit: there is no report of it, and no other test.
            test = _finished(item, line)
            test.outcome = "interrupted"
            recorder = item.config.stash.get(_RECORDER, None)
            if recorder is not None:
                recorder.add({"test": asdict(test), "drawings": item.stash.get(_DRAWINGS, {})})
            raise
        finally:
            timeline.end()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report: Any = yield
        test = notes(item)
        item.stash.setdefault(_OUTCOMES, []).append(_outcome(report, test))
        test.phases[report.when] = round(report.duration, 4)
        if report.failed:
            text = clipped(str(report.longrepr), FAILURE)
            test.failure += f"\n\n{text}" if test.failure else text
            if not test.reason:
                test.reason = _reason(report)
        if report.when == "teardown":
            for name, value in item.user_properties:
                if isinstance(value, int | float) and not isinstance(value, bool):
                    test.figures[name] = value
            if any(one != "passed" for one in item.stash[_OUTCOMES]):
                for title, content in report.sections:
                    if title.startswith("Captured"):
                        test.sections[title] = clipped(content, SECTION)
            line = timeline.current()
            _finished(item, line)
            report.exalab = {"test": asdict(test), "drawings": item.stash.get(_DRAWINGS, {})}
        return report


def _finished(item: pytest.Item, line: timeline.Timeline | None) -> Test:
    test = notes(item)
    outcomes: list[Outcome] = item.stash.get(_OUTCOMES, [])
    test.outcome = worst(outcomes)
    test.seconds = round(sum(test.phases.values()), 4)
    if line is not None:
        test.steps, test.steps_left_out = line.steps, line.left_out
    return test


def _outcome(report: pytest.TestReport, test: Test) -> Outcome:
    expected = getattr(report, "wasxfail", None)
    if report.skipped:
        if expected is not None:
            test.reason = expected.removeprefix("reason: ")
            return "xfailed"
        told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        test.reason = told.removeprefix("Skipped: ").strip()
        return "skipped"
    if report.failed:
        return "failed" if report.when == "call" else "error"
    return "xpassed" if expected is not None and report.when == "call" else "passed"


def _reason(report: pytest.TestReport) -> str:
    """A failure in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr).strip()
    lines = [line for line in text.splitlines() if line.strip()]
    return clipped(lines[0] if lines else "", (300, 0))


class Recorder:
    """Writes the record of this run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.record = Record(config.getoption("--record"), now())
        self.record.night = config.getoption("--night")
        self.record.again = config.getoption("--again")
        self.record.tier = config.getoption("--tier", default="")
        if not self.record.again:
            self.record.selection = selection(config, self.record.part)
        self.record.arguments = tuple(str(one) for one in config.invocation_params.args)
        self._tests: list[dict[str, Any]] = []
        self._lab_is_told = False
        self._files = ExitStack()
        self._fd: int | None = None

    def pytest_sessionstart(self) -> None:
        """The journal's first line: should this run be killed, at least that is known."""
        from suites.report import origin

        self.record.origin = origin.here()
        self._fd = self._files.enter_context(history.held(history.path_of(self.record, JOURNAL)))
        os.write(self._fd, as_json(self.record).encode())

    def _line(self, entry: dict[str, Any]) -> None:
        if self._fd is not None:
            os.write(self._fd, (json.dumps(entry, separators=(",", ":")) + "\n").encode())

    def add(self, entry: dict[str, Any]) -> None:
        """A test that came to its end, with the drawings that no test before it had."""
        if self.record.origin.lab and not self._lab_is_told:
            self._lab_is_told = True
            self._line({"origin": asdict(self.record.origin)})
        fresh = {key: svg for key, svg in entry["drawings"].items() if key not in self.record.drawings}
        self.record.drawings |= fresh
        self._line({"test": entry["test"], **({"drawings": fresh} if fresh else {})})
        self._tests.append(entry["test"])

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.record.deselected += len(items)
        for reason, ids in left_out(items).items():
            self.record.left_out.setdefault(reason, []).extend(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Every worker of pytest-xdist collects the same tests: the first one's word is enough."""
        told = getattr(node, "workeroutput", {}).get(_WORKERS_LEFT_OUT)
        if told and not self.record.left_out:
            self.record.left_out = told
            self.record.deselected = sum(len(ids) for ids in told.values())

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """A repetition is of what failed. Where that is none of these tests, pytest would run them all."""
        if not (self.record.again and config.getoption("lf", default=False)):
            return
        failed = config.cache.get("cache/lastfailed", {}) if config.cache is not None else {}
        if not any(item.nodeid in failed for item in items):
            config.hook.pytest_deselected(items=list(items))
            items.clear()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.record.collected = len(session.items)
        record = self.record
        told = {"collected": record.collected, "deselected": record.deselected, "left_out": record.left_out}
        self._line(told)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            text = clipped(str(report.longrepr), FAILURE)
            failed = Test(report.nodeid or "collection", "error", failure=text, started=now())
            failed.reason = text.strip().splitlines()[-1] if text.strip() else "it could not be collected"
            self.add({"test": asdict(failed), "drawings": {}})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        entry = getattr(report, "exalab", None)
        if entry is not None:
            self.add(entry)
            report.exalab = None  # type: ignore[attr-defined]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        record = self.record
        record.ended, record.exit_status = now(), int(exitstatus)
        stopped = exitstatus == pytest.ExitCode.INTERRUPTED or len(self._tests) < record.collected
        record.end = "interrupted" if stopped else "complete"
        target = history.path_of(record)
        write(record, target, self._tests)
        history.path_of(record, JOURNAL).unlink(missing_ok=True)
        self._files.close()
        self._fd = None
        history.settle()
        history.prune()

    def pytest_unconfigure(self) -> None:
        self._files.close()

"""JUnit XML: read, of parts that nothing has recorded; written, of what is no test of pytest's.

Both ways lose most of what a record holds: outcome, time and text are left.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from lab.errors import LabError
from lab.replacing import replacing
from suites.report.record import Outcome, Record, Source, Test, rules_of, when

#: What XML 1.0 cannot say, however it is escaped.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """A test case to be written. ``failure``: what it said; empty when it passed."""

    name: str
    seconds: float
    failure: str = ""


def write(path: Path, suite: str, cases: Sequence[Case], began: datetime, source: Source) -> None:
    """One suite, replaced at once; what it was run on goes along as its properties."""
    failures = sum(bool(one.failure) for one in cases)
    root = ElementTree.Element("testsuites")
    about = {
        "name": suite,
        "tests": str(len(cases)),
        "failures": str(failures),
        "errors": "0",
        "skipped": "0",
    }
    about |= {"time": f"{sum(one.seconds for one in cases):.3f}", "timestamp": began.isoformat()}
    told = ElementTree.SubElement(root, "testsuite", about)
    properties = ElementTree.SubElement(told, "properties")
    for name, value in asdict(source).items():
        ElementTree.SubElement(properties, "property", {"name": f"source.{name}", "value": str(value)})
    for one in cases:
        element = ElementTree.SubElement(
            told, "testcase", {"classname": suite, "name": one.name, "time": f"{one.seconds:.3f}"}
        )
        if one.failure:
            text = _FORBIDDEN.sub("?", one.failure)
            failure = ElementTree.SubElement(element, "failure", {"message": text.splitlines()[0][:300]})
            failure.text = text
    with replacing(path) as fresh:
        ElementTree.ElementTree(root).write(fresh, encoding="utf-8", xml_declaration=True)


def read(path: Path, part: str | None = None) -> Record:
    """The record of a part (default: the file's name to its first dot). LabError names what is wrong."""
    part = part or path.name.split(".")[0]
    hint = f"make the part again (make {part}), or remove the file: rm {path}"
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise LabError(f"cannot read {path}: {problem}") from problem
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as problem:
        raise LabError(f"{path}: not XML, or cut short: {problem}", hint=hint) from problem
    suites = [root] if root.tag == "testsuite" else root.findall("testsuite")
    if root.tag not in ("testsuite", "testsuites") or not suites:
        raise LabError(f"{path}: no JUnit XML: its root is <{root.tag}>, without a <testsuite>", hint=hint)
    began = suites[0].get("timestamp") or datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
    try:
        when(began)
        tests = [_test(case) for suite in suites for case in suite.iter("testcase")]
        seconds = sum(float(suite.get("time", 0)) for suite in suites)
    except ValueError as problem:
        raise LabError(f"{path}: {problem}", hint=hint) from problem
    record = Record(part, when(began).isoformat(timespec="milliseconds"))
    record.id = sha256(data).hexdigest()[:12]
    record.ended = (when(began) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    record.origin.source = _source(suites[0])
    record.tests, record.collected = tests, len(tests)
    record.exit_status = int(any(test.bad for test in tests))
    record.remarks = [f"from {path.name}: outcomes, times and texts only"]
    return record


def _source(suite: ElementTree.Element) -> Source:
    """What :func:`write` noted; nothing in the XML of others."""
    told = {one.get("name", ""): one.get("value", "") for one in suite.findall("properties/property")}
    found = Source()
    for name in ("commit", "branch", "subject", "tree"):
        setattr(found, name, told.get(f"source.{name}", ""))
    found.dirty = told.get("source.dirty") == "True"
    return found


def _test(case: ElementTree.Element) -> Test:
    name = case.get("name")
    if not name:
        raise ValueError("a <testcase> without a name")
    file = case.get("file") or (case.get("classname") or "").replace(".", "/")
    test = Test(f"{file}::{name}" if file else name, "passed", float(case.get("time", 0)))
    outcome: Outcome
    for tag, outcome in (("skipped", "skipped"), ("error", "error"), ("failure", "failed")):
        for found in case.findall(tag):
            test.outcome = outcome
            test.reason = (found.get("message") or "").strip().split("\n")[0][:300]
            test.failure = (found.text or "") if outcome != "skipped" else ""
    for one in case.iter("property"):
        if one.get("name") == "property":
            test.proves = one.get("value", "")
            test.rules = rules_of(test.proves)
    return test

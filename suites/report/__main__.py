"""``python -m suites.report``: make ``out/report.html`` of the newest run of every part; runs no test."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lab import console, paths
from lab.errors import LabError
from suites.report import figures, history, junit, page
from suites.report.history import History
from suites.report.merge import Part, current, of_one_state, parts_of
from suites.report.record import Record, read, when, write


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m suites.report",
        description="Make the report of a run: one HTML file. Without FILE: of the newest run of every part"
        " that is recorded in out/history, and of the parts that only out/junit knows.",
        epilog="Exit status: 0 when it was made, 3 when it was made but something could not be read (which it"
        " says), 1 when it could not be made.",
    )
    named = "records (.json, .jsonl) or JUnit XML (.xml) of one run, instead"
    parser.add_argument("file", nargs="*", type=Path, help=named)
    for option, path, what in (
        ("--output", paths.out() / "report.html", "the page"),
        ("--bench", paths.out() / "bench.json", "figures of the bench"),
        ("--history", history.folder(), "earlier records"),
        ("--junit", paths.out() / "junit", "JUnit XML"),
    ):
        parser.add_argument(option, type=Path, metavar="PATH", default=path, help=f"{what} (%(default)s)")
    parser.add_argument("--own", action="store_true", help="include runs made by hand, without --record")
    return parser


def main() -> None:
    options = arguments().parse_args()
    with console.reporting():
        report = make(options)
        page.write(report, options.output)
        for problem in report.problems:
            console.warn(problem)
        print(f"{report.verdict.word}: {report.verdict.sentence}")
        for doubt in report.verdict.doubts:
            print(f"  {doubt}")
        print(f"report: {options.output}")
        sys.exit(3 if report.problems else 0)


def make(options: argparse.Namespace) -> page.Report:
    """Read everything; what cannot be read becomes a problem of the report."""
    problems: list[str] = []
    history.settle(options.history)
    if not options.file:
        take_in(options.junit, options.history, problems)
    known = history.load(options.history)
    problems += known.problems
    left_out: list[Part] = []
    if options.file:
        parts = given(options.file, known)
    else:
        parts, left_out = of_one_state(current(known, options.own))
    if not parts:
        raise LabError(
            f"no run is recorded in {options.history}" + ("" if options.own else " but what was run by hand"),
            hint="make test, or its parts (make unit, make suites); --own takes what was run by hand",
        )
    report = page.Report(parts, known, problems=problems, out=options.output.resolve().parent)
    if options.file:
        report.expected = ()
    report.bench, report.bench_told = bench(options.bench, problems)
    report.goals = goals()
    report.left_out = left_out
    return report


def given(files: list[Path], known: History) -> list[Part]:
    """The parts of the named files; LabError when one cannot be read, as it was asked for."""
    records: list[Record] = [junit.read(file) if file.suffix == ".xml" else read(file) for file in files]
    return parts_of(records, known)


def take_in(folder: Path, where: Path, problems: list[str]) -> None:
    """Make records of JUnit XML of parts of which nothing newer is recorded: then it is history, too."""
    known = history.load(where)
    for file in sorted(folder.glob("*.xml")) if folder.is_dir() else ():
        try:
            record = junit.read(file)
        except LabError as problem:
            problems.append(str(problem))
            continue
        ends = [when(one.ended or one.started) for one in known.records if one.part == record.part]
        # The record of a run and its XML are written in the same moment.
        if not ends or (when(record.ended) > max(ends) and all(one.id != record.id for one in known.records)):
            write(record, where / history.path_of(record).name)


def bench(path: Path, problems: list[str]) -> tuple[figures.Figures | None, str]:
    """The figures, and what to know of them."""
    if not path.exists():
        return None, f"There is no {path.name}: make bench measures."
    try:
        found = figures.load(path)
    except LabError as problem:
        problems.append(str(problem))
        return None, f"{path.name} could not be read."
    return found, f"From {path.name}, measured {page.written(path)}."


def goals() -> dict[str, Any]:
    """What figures should reach."""
    from suites.bench.__main__ import GOALS

    return dict(GOALS)


if __name__ == "__main__":
    main()

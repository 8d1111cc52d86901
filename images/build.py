"""Building the images, and knowing when there is nothing to build.

`ensure` is for everybody; the work itself happens in a child with a mount and a pid namespace of its own, so
that stopping at any moment leaves neither a process nor a mount, and what is unfinished lies in one folder
that goes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lab import console
from lab.errors import LabError

from . import choice, manifest, sandbox
from .choice import Choice
from .definition import ORDER, ROOT, Workspace
from .manifest import Manifest

# The dut's driver is compiled by the builder, and its root file system packed by the tools.
_NEEDS = {"tools": ("tools",), "builder": ("builder",), "dut": ("tools", "builder", "dut")}


def current(name: str, workspace: Workspace | None = None) -> Manifest | None:
    """The manifest of an image that is there and up to date, else None. Reads little."""
    workspace = workspace or Workspace()
    found = manifest.read(workspace.images / name)
    if found is None:
        return None
    for locked, locks in choice.acceptable(workspace):
        if found.locked == locked and found.inputs == manifest.inputs(name, locks):
            return found
    return None


def ensure(
    names: Iterable[str] = ("tools", "dut"), workspace: Workspace | None = None
) -> dict[str, Manifest]:
    """Have these images, built from what the checkout says now; builds what is missing or stale.

    Quick when there is nothing to do. LabError when a build fails, fetch.Stale's text under LOCKED=1.
    """
    workspace = workspace or Workspace()
    names = tuple(names)
    unknown = sorted(set(names) - set(ORDER))
    if unknown:
        raise LabError(f"there is no image {', '.join(unknown)}", hint=f"images are: {', '.join(ORDER)}")
    if all(current(name, workspace) for name in names):
        return _described(names, workspace)
    sandbox.require_root()
    with alone(workspace):
        # Somebody else may have built while we waited.
        if not all(current(name, workspace) for name in names):
            _in_child(names, workspace)
    if not all(current(name, workspace) for name in names):
        console.warn("a source changed while the images were built: they are of the sources before that")
    return _described(names, workspace)


def _described(names: Iterable[str], workspace: Workspace) -> dict[str, Manifest]:
    found = {name: manifest.read(workspace.images / name) for name in names}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise LabError(
            f"image {', '.join(missing)} is missing after its build", hint="this is a defect: report it"
        )
    return {name: value for name, value in found.items() if value}


@contextmanager
def alone(workspace: Workspace) -> Iterator[None]:
    """One build at a time in an output folder; says so while it waits."""
    workspace.images.mkdir(parents=True, exist_ok=True)
    with (workspace.images / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with console.step("waiting for another build of the images"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _in_child(names: tuple[str, ...], workspace: Workspace) -> None:
    """Run `worker` isolated. Whatever ends us ends it; whatever ends it, its scraps are swept."""
    _sweep(workspace)
    workspace.work.mkdir(parents=True)
    report = workspace.work / "error.json"
    order = {
        "names": names,
        "out": str(workspace.out),
        "cache": str(workspace.cache),
        "keep_base": workspace.keep_base,
        "report": str(report),
    }
    # -P: the current folder is no place to import from; the checkout comes by PYTHONPATH.
    argv = sandbox.isolated([sys.executable, "-P", "-m", "images.worker", json.dumps(order)])
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        code = child.wait()
        if code:
            problem = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
            raise LabError(problem.get("message") or f"the build ended with {code}", hint=problem.get("hint"))
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        _sweep(workspace)


def _sweep(workspace: Workspace) -> None:
    if workspace.work.exists():
        shutil.rmtree(workspace.work)


class Times:
    """Seconds of each phase, kept in out/images/times.json for the bench and for people."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure, and show as a step."""
        started = time.monotonic()
        with console.step(name):
            yield
        self.seconds[name] = round(time.monotonic() - started, 2)


def build(names: Iterable[str], workspace: Workspace) -> None:
    """The worker's part: choose locks, fetch, and build what is stale, as much at once as depends on nothing.

    Must run isolated (`_in_child`): it leaves mounts and processes to its namespaces.
    """
    from .make import Maker

    needed = {part for name in names for part in _NEEDS[name]}
    stale = [name for name in ORDER if name in needed and current(name, workspace) is None]
    times = Times()
    started = time.monotonic()
    chosen = choice.choose(stale, workspace)
    times.seconds["choose and fetch"] = round(time.monotonic() - started, 2)
    # A fresh lock concerns all images: the kernel of one and the headers of another must fit.
    digests = _digests(chosen, workspace)
    found = {name: manifest.read(workspace.images / name) for name in needed}
    more = [
        name
        for name in ORDER
        if name in needed
        and name not in stale
        and (seen := found[name])
        and seen.inputs != manifest.inputs(name, digests)
    ]
    if more:
        stale = [name for name in ORDER if name in {*stale, *more}]
        chosen = choice.choose(stale, workspace)
        digests = _digests(chosen, workspace)
    maker = Maker(workspace, chosen, digests, times)
    with ThreadPoolExecutor(len(ORDER), thread_name_prefix="image") as pool:
        done: dict[str, Future[None]] = {}
        for name in stale:
            done[name] = pool.submit(maker.make, name, dict(done))
        problems = [future.exception() for future in done.values()]
    for problem in problems:
        if problem is not None:
            raise problem
    times.seconds["total"] = round(time.monotonic() - started, 2)
    (workspace.images / "times.json").write_text(json.dumps(times.seconds, indent=2) + "\n", encoding="utf-8")


def _digests(chosen: Choice, workspace: Workspace) -> dict[str, str]:
    place = choice.tracked_path if chosen.locked else lambda name: choice.fresh_path(name, workspace)
    return {name: choice.file_digest(Path(place(name))) for name in ORDER}

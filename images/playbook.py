"""Running a playbook by ansible-runner, with every task shown as it runs, and what it changed kept."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.console import Step, step

from .definition import IMAGES

PLAYS = IMAGES / "ansible"
_OK = ("runner_on_ok", "runner_item_on_ok")
_FAILED = ("runner_on_failed", "runner_on_unreachable")


@dataclass(frozen=True)
class Change:
    """What one task changed, or would: ``diff`` as Ansible tells it, empty when it does not."""

    role: str
    task: str
    diff: str = ""

    def __str__(self) -> str:
        return f"{self.role}: {self.task}" + (f"\n{self.diff}" if self.diff else "")


@dataclass
class Played:
    """How a run ended. ``failures`` is empty when all went well; ``unreachable``: a host was, or became."""

    ok: bool = False
    unreachable: bool = False
    failures: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    #: What a failed task's module said besides, for whoever knows the module.
    results: list[dict[str, Any]] = field(default_factory=list)


class _Shown:
    """Turns runner events into console steps, and remembers what changed and what failed."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.played = Played()
        self._current: AbstractContextManager[Step] | None = None
        self._lock = threading.Lock()

    def __call__(self, event: dict[str, Any]) -> bool:
        kind, data = event.get("event", ""), event.get("event_data", {})
        with self._lock:
            if kind == "playbook_on_task_start":
                self.close()
                role = data.get("role", "play")
                self._current = step(f"{self.title}: {role}: {_task(data)}")
                self._current.__enter__()
            elif kind in _OK:
                self._ok(kind, data)
            elif kind in _FAILED and not data.get("ignore_errors"):
                self._failed(kind, data)
        return True

    def _ok(self, kind: str, data: dict[str, Any]) -> None:
        result = data.get("res", {})
        # A loop tells of each of its items, and then of all of them together.
        if result.get("changed") and not (kind == _OK[0] and "results" in result):
            diff = "\n".join(_diffs(result.get("diff")))
            self.played.changes.append(Change(data.get("role", "play"), _task(data), diff))

    def _failed(self, kind: str, data: dict[str, Any]) -> None:
        result = data.get("res", {})
        text = result.get("stderr") or result.get("msg") or result.get("stdout") or json.dumps(result)
        self.played.unreachable = self.played.unreachable or kind == _FAILED[1]
        self.played.results.append(result)
        self.played.failures.append(f"{data.get('role', 'play')}: {data.get('task')}: {text}")

    def close(self) -> None:
        if self._current:
            self._current.__exit__(None, None, None)
            self._current = None


def _task(data: dict[str, Any]) -> str:
    return str(data.get("task", "?")).removeprefix(f"{data.get('role', 'play')} : ")


def _diffs(told: Any) -> Iterator[str]:
    """The lines of a task's difference: ``- before`` and ``+ after``, each under its header."""
    import difflib

    for one in told if isinstance(told, list) else [told] if told else []:
        if not isinstance(one, dict):
            continue
        if "prepared" in one:
            yield str(one["prepared"]).rstrip("\n")
            continue
        before, after = (
            value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)
            for value in (one.get("before", ""), one.get("after", ""))
        )
        if before == after:
            continue
        if header := one.get("after_header") or one.get("before_header"):
            yield f"  {header}"
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
        yield from (f"  {line}" for line in lines if not line.startswith(("---", "+++", "@@")))


@contextmanager
def _signals() -> Iterator[None]:
    """ansible-runner takes Ctrl-C and SIGTERM for itself, and would keep them."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def play(
    name: str,
    inventory: Mapping[str, Any],
    variables: Mapping[str, Any],
    scratch: Path,
    title: str,
    *,
    environment: Mapping[str, str] | None = None,
    arguments: str | None = None,
) -> Played:
    """Run images/ansible/NAME.yml. ``title`` begins the name of every step; ``arguments`` are of
    ansible-playbook(1), for example ``--check --diff``; what the caller's environment sets counts for nothing
    but PATH. Ctrl-C ends it, with what it has started, and is raised.
    """
    import ansible_runner  # half a second: only when there is something to do

    fixed = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "HOME": str(scratch),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "ANSIBLE_CONFIG": str(PLAYS / "ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(PLAYS / "plugins" / "connection"),
        "ANSIBLE_ROLES_PATH": str(PLAYS / "roles"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_LOCAL_TEMP": str(scratch / "tmp"),
        "ANSIBLE_HOME": str(scratch / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for folder in ("runner", "tmp", "home"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    shown = _Shown(title)
    with _signals():
        try:
            result = ansible_runner.run(
                private_data_dir=str(scratch / "runner"),
                project_dir=str(PLAYS),
                playbook=f"{name}.yml",
                inventory=dict(inventory),
                extravars=dict(variables),
                envvars={**fixed, **(environment or {})},
                event_handler=shown,
                quiet=True,
                **({"cmdline": arguments} if arguments else {}),
            )
        finally:
            shown.close()
    if result.status == "canceled":
        raise KeyboardInterrupt
    shown.played.ok = result.status == "successful"
    if not shown.played.ok and not shown.played.failures:
        shown.played.failures.append(result.stdout.read()[-2000:])
    return shown.played

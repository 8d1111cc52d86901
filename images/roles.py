"""Applying the Ansible roles to a tree, with every task shown as it runs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.console import Step, step
from lab.errors import LabError

from .definition import IMAGES

_PLAYS = IMAGES / "ansible"
# Where Ansible puts its files inside a tree: /tmp is another one for every command.
REMOTE_TMP = ".ansible-exalab"


@dataclass(frozen=True)
class Host:
    """A tree as Ansible sees it. `binds`: (source, target, writable)."""

    name: str
    root: Path
    binds: tuple[tuple[str, str, bool], ...] = ()


@dataclass
class _Shown:
    """Turns runner events into console steps and remembers what failed."""

    image: str
    current: AbstractContextManager[Step] | None = None
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: dict[str, Any]) -> bool:
        kind, data = event.get("event", ""), event.get("event_data", {})
        with self.lock:
            if kind == "playbook_on_task_start":
                self.close()
                role = data.get("role", "play")
                self.current = step(
                    f"image {self.image}: {role}: {data.get('task', '?').removeprefix(role + ' : ')}"
                )
                self.current.__enter__()
            elif kind in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
                result = data.get("res", {})
                text = result.get("stderr") or result.get("msg") or result.get("stdout") or json.dumps(result)
                self.failures.append(f"{data.get('role', 'play')}: {data.get('task')}: {text}")
        return True

    def close(self) -> None:
        if self.current:
            self.current.__exit__(None, None, None)
            self.current = None


def apply(image: str, hosts: tuple[Host, ...], variables: dict[str, Any], scratch: Path, epoch: int) -> None:
    """Run images/ansible/IMAGE.yml over the trees. LabError naming the task that failed."""
    import ansible_runner  # half a second: only when there is something to build

    inventory = {
        "all": {
            "hosts": {
                host.name: {
                    "ansible_connection": "exalab_root",
                    "ansible_python_interpreter": "/usr/bin/python3",
                    "ansible_remote_tmp": f"/{REMOTE_TMP}",
                    "exalab_root": str(host.root),
                    "exalab_binds": json.dumps(host.binds),
                }
                for host in hosts
            }
        }
    }
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "HOME": str(scratch),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "ANSIBLE_CONFIG": str(_PLAYS / "ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(_PLAYS / "plugins" / "connection"),
        "ANSIBLE_ROLES_PATH": str(_PLAYS / "roles"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_LOCAL_TEMP": str(scratch / "tmp"),
        "ANSIBLE_HOME": str(scratch / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    shown = _Shown(image)
    for folder in ("runner", "tmp", "home"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    try:
        result = ansible_runner.run(
            private_data_dir=str(scratch / "runner"),
            project_dir=str(_PLAYS),
            playbook=f"{image}.yml",
            inventory=inventory,
            extravars={"exalab_epoch": str(epoch), **variables},
            envvars=environment,
            event_handler=shown,
            quiet=True,
        )
    finally:
        shown.close()
    if result.status != "successful":
        told = "\n".join(shown.failures) or result.stdout.read()[-2000:]
        raise LabError(
            f"image {image}: the roles failed:\n{told}",
            hint=f"roles are in {_PLAYS / 'roles'}; lab up --keep-images uses the images built before",
        )
    for host in hosts:
        shutil.rmtree(host.root / REMOTE_TMP, ignore_errors=True)

"""Applying the Ansible roles to a tree, with every task shown as it runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError

from .playbook import PLAYS, play

# Where Ansible puts its files inside a tree: /tmp is another one for every command.
REMOTE_TMP = ".ansible-exalab"


@dataclass(frozen=True)
class Host:
    """A tree as Ansible sees it. `binds`: (source, target, writable)."""

    name: str
    root: Path
    binds: tuple[tuple[str, str, bool], ...] = ()


def apply(image: str, hosts: tuple[Host, ...], variables: dict[str, Any], scratch: Path, epoch: int) -> None:
    """Run images/ansible/IMAGE.yml over the trees. LabError naming the task that failed."""
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
    played = play(image, inventory, {"exalab_epoch": str(epoch), **variables}, scratch, f"image {image}")
    if not played.ok:
        told = "\n".join(played.failures)
        raise LabError(
            f"image {image}: the roles failed:\n{told}",
            hint=f"roles are in {PLAYS / 'roles'}; lab up --keep-images uses the images built before",
        )
    for host in hosts:
        shutil.rmtree(host.root / REMOTE_TMP, ignore_errors=True)

"""Ansible connection into a root tree, through a mount and a pid namespace of its own for every command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

# The checkout's own packages; a plugin is loaded by path, outside any package.
sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from images.sandbox import CLEAN_ENV, Bind, in_root

DOCUMENTATION = """
name: exalab_root
short_description: Run in a root tree, isolated, leaving nothing behind
description:
  - Every command gets its own mount and pid namespace, with proc, an empty tmp and the wanted binds.
  - When Ansible dies, by whatever signal, the kernel ends the commands and their mounts.
author: exalab
options:
  root:
    description: The root tree.
    type: path
    required: true
    vars:
      - name: exalab_root
  binds:
    description: JSON list of [source, target, writable]; host folders shown inside.
    type: string
    default: "[]"
    vars:
      - name: exalab_binds
  epoch:
    description: SOURCE_DATE_EPOCH of the commands.
    type: string
    default: "0"
    vars:
      - name: exalab_epoch
"""


class Connection(ConnectionBase):  # type: ignore[misc]  # ansible carries no types
    """One root tree."""

    transport = "exalab_root"
    has_pipelining = True

    def _connect(self) -> Connection:
        root = Path(self.get_option("root"))
        if not (root / "bin/sh").exists():
            raise AnsibleConnectionFailure(f"{root} is not a root tree")
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run a shell command inside; returns code, stdout, stderr."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        binds = [
            Bind(Path(source), target, writable) for source, target, writable in json.loads(self._binds())
        ]
        argv = in_root(Path(self.get_option("root")), ["/bin/sh", "-c", cmd], binds)
        env = {**CLEAN_ENV, "SOURCE_DATE_EPOCH": str(self.get_option("epoch"))}
        source: dict[str, Any] = {"input": in_data} if in_data is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(argv, env=env, capture_output=True, check=False, **source)
        return done.returncode, done.stdout, done.stderr

    def _binds(self) -> str:
        value = self.get_option("binds")
        return value if isinstance(value, str) else json.dumps(value)

    def _inside(self, path: str) -> Path:
        return Path(self.get_option("root")) / path.lstrip("/")

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file in."""
        super().put_file(in_path, out_path)
        shutil.copyfile(in_path, self._inside(out_path))

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file out."""
        super().fetch_file(in_path, out_path)
        shutil.copyfile(self._inside(in_path), out_path)

    def close(self) -> None:
        """Nothing lasts between commands."""
        self._connected = False

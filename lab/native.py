"""Shared objects of the lab's own C sources, compiled on first use.

Each goes into ``out/core/<digest>/``, the digest being that of its sources, the flags and the compiler.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lab import paths

FLAGS = ("-std=gnu11", "-O2", "-g", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wshadow")


class NativeError(RuntimeError):
    """It cannot be built; says what to do."""


def _compiler() -> tuple[str, str]:
    command = os.environ.get("CC", "cc")
    if shutil.which(command) is None:
        raise NativeError(f"no C compiler {command!r}: install gcc, or set CC")
    return command, subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout


def shared_object(
    name: str, sources: Iterable[Path], headers: Iterable[Path] = (), flags: tuple[str, ...] = FLAGS
) -> Path:
    """``name`` made of ``sources``, which include ``headers``, unless it is there already. Raises
    ``NativeError`` with the compiler's words.
    """
    command, version = _compiler()
    digest = hashlib.sha256("\0".join((*flags, version)).encode())
    files = sorted(sources)
    for path in [*files, *sorted(headers)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    target = paths.out() / "core" / digest.hexdigest()[:16] / name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own first: another process may be building the same.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / name
        argv = [command, *flags, "-include", "stdint.h", "-o", str(made), *map(str, files)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NativeError(f"{name} does not compile ({' '.join(argv[:2])} ...):\n{done.stderr}")
        made.replace(target)
    return target

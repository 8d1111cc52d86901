"""Builds the C core on first use and loads it.

Every ``*.c`` of this folder goes into one shared object under ``out/core/<digest>/``, the digest being that
of the sources, the flags and the compiler; every ``*_api.h`` is read by cffi too (ABI mode, so nothing of
Python's
is needed to compile). EXALAB_CORE_SANITIZE=1 builds with the address and undefined-behaviour sanitizers.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FLAGS = ("-std=gnu11", "-O2", "-g", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wshadow")
SANITIZE_FLAGS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
)


class CoreError(RuntimeError):
    """The core cannot be built or loaded; says what to do."""


@dataclass(frozen=True)
class Library:
    """The loaded core: cffi's view of its types, and its functions."""

    ffi: Any
    lib: Any
    path: Path


def sanitizing() -> bool:
    """Whether the environment asks for a sanitized build."""
    return os.environ.get("EXALAB_CORE_SANITIZE") == "1"


def _compiler() -> tuple[str, str]:
    command = os.environ.get("CC", "cc")
    if shutil.which(command) is None:
        raise CoreError(f"no C compiler {command!r}: install gcc, set CC, or set EXALAB_CORE=python")
    return command, subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout


def build(sanitize: bool = False) -> Path:
    """The shared object, compiled unless it is there already. Raises CoreError with the compiler's words."""
    flags = (*FLAGS, *(SANITIZE_FLAGS if sanitize else ()))
    command, version = _compiler()
    digest = hashlib.sha256("\0".join((*flags, version)).encode())
    sources = sorted(HERE.glob("*.c"))
    for path in [*sources, *sorted(HERE.glob("*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    target = ROOT / "out" / "core" / digest.hexdigest()[:16] / "libexacore.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own first: another process may be building the same.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        argv = [command, *flags, "-include", "stdint.h", "-o", str(made), *map(str, sources)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CoreError(f"the C core does not compile ({' '.join(argv[:2])} ...):\n{done.stderr}")
        made.replace(target)
    return target


def declarations() -> str:
    """What cffi needs to know: the ``*_api.h`` files without their comments."""
    texts = [path.read_text() for path in sorted(HERE.glob("*_api.h"))]
    return re.sub(r"/\*.*?\*/", "", "\n".join(texts), flags=re.DOTALL)


@functools.cache
def load() -> Library:
    """The core, built if need be, loaded once per process."""
    path = build(sanitizing())
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    return Library(ffi, ffi.dlopen(str(path)), path)

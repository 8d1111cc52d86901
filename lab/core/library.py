"""Builds the C core on first use and loads it.

Every ``*.c`` of this folder goes into one shared object (``lab.native``); every ``*_api.h`` is read by cffi
too (ABI mode, so nothing of Python's is needed to compile). EXALAB_CORE_SANITIZE=1 builds with the address
and undefined-behaviour sanitizers.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

from lab import native

HERE = Path(__file__).resolve().parent
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


def build(sanitize: bool = False) -> Path:
    """The shared object, compiled unless it is there already. Raises CoreError with the compiler's words."""
    flags = (*native.FLAGS, *(SANITIZE_FLAGS if sanitize else ()))
    try:
        return native.shared_object("libexacore.so", HERE.glob("*.c"), HERE.glob("*.h"), flags)
    except native.NativeError as problem:
        raise CoreError(f"{problem}\n(EXALAB_CORE=python does without it)") from problem


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

"""Building and loading the core, and running its tests under the sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import paths
from lab.core import library
from lab.core.library import CoreError, build, load

ROOT = Path(__file__).resolve().parents[3]


def test_second_build_is_free() -> None:
    """The same sources, flags and compiler are the same file."""
    first = build()
    stamp = first.stat().st_mtime_ns
    assert build() == first and first.stat().st_mtime_ns == stamp


def test_no_compiler_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is in the message."""
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CoreError, match="EXALAB_CORE=python"):
        build()


def test_compiler_errors_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A source that does not compile: the compiler's own words."""
    (tmp_path / "broken.c").write_text("int broken(void) { return nothing; }\n")
    monkeypatch.setattr(library, "HERE", tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(CoreError, match="nothing"):
        build()


@given(st.binary(max_size=200))
def test_fcs_is_the_crc32(data: bytes) -> None:
    """Every length and alignment of the eight-byte steps."""
    assert load().lib.exa_fcs(data, len(data)) == zlib.crc32(data)


@pytest.mark.full("the differential tests once more, minutes long")
def test_under_sanitizers() -> None:
    """The differential tests again, with address and undefined-behaviour checks in the core."""
    compiler = os.environ.get("CC", "cc")
    runtime = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("the compiler has no address sanitizer")
    environment = os.environ | {
        "EXALAB_CORE_SANITIZE": "1",
        "EXALAB_EXAMPLES": os.environ.get("EXALAB_EXAMPLES", "15"),
        "LD_PRELOAD": str(Path(runtime).resolve()),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    tests = [f"lab/core/tests/{name}.py" for name in ("test_differential", "test_memory")]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

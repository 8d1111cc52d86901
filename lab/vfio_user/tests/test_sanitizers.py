"""The pump's tests and fuzzers again, with address and undefined-behaviour checks in the C core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import ROOT

pytestmark = pytest.mark.parametrize("transport", ["pump"], indirect=True)

#: Seconds for the fuzzers; EXALAB_FUZZ_SECONDS makes them longer here, too.
SECONDS = os.environ.get("EXALAB_FUZZ_SECONDS", "6")


@pytest.mark.skipif("EXALAB_CORE_SANITIZE" in os.environ, reason="these are the sanitized ones already")
@pytest.mark.full("the fuzzer once more, minutes long")
@pytest.mark.timeout(float(SECONDS) * 10 + 120)
def test_pump_under_sanitizers() -> None:
    """No access out of bounds, no overflow, whatever a client sends."""
    compiler = os.environ.get("CC", "cc")
    argv = [compiler, "-print-file-name=libasan.so"]
    runtime = Path(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip())
    if not runtime.is_absolute():
        pytest.skip("the compiler has no address sanitizer")
    environment = os.environ | {
        "EXALAB_CORE_SANITIZE": "1",
        "EXALAB_FUZZ_SECONDS": SECONDS,
        "LD_PRELOAD": str(runtime.resolve()),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    tests = [
        str(Path(__file__).with_name(name)) for name in ("test_pump.py", "test_fuzz.py", "test_framing.py")
    ]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "pump", *tests]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

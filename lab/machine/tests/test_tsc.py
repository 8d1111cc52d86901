"""The counter's rate is measured, or not given at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.machine import tsc


def test_steady_needs_both_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that changes or stops is none."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    info = tmp_path / "cpuinfo"
    info.write_text("flags\t\t: fpu constant_tsc nonstop_tsc\n")
    assert tsc.steady(info)
    info.write_text("flags\t\t: fpu constant_tsc\n")
    assert not tsc.steady(info)
    assert not tsc.steady(tmp_path / "none")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    info.write_text("flags\t\t: constant_tsc nonstop_tsc\n")
    assert not tsc.steady(info)


def test_rate_is_repeatable() -> None:
    """Two measurements agree to a thousandth, whatever else runs here."""
    found = [rate for _ in range(4) if (rate := tsc.khz())]
    if not found:
        pytest.skip("this machine's counter is not steady, or it is too disturbed")
    assert max(found) - min(found) < max(found) / 1000
    assert 100_000 < found[0] < 10_000_000


def test_disagreement_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stalls while we look gives two results, so none."""
    monkeypatch.setattr(tsc, "steady", lambda: True)
    rates = iter((2_000_000.0, 2_100_000.0))
    monkeypatch.setattr(tsc, "_rate", lambda read: next(rates))
    assert tsc.khz() is None

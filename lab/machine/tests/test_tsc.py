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


def test_a_disturbed_look_is_looked_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor taken away while we look makes that look doubtful, not the answer wrong, nor none."""
    monkeypatch.setattr(tsc, "_APART", 0)
    true = 2_596_132
    looks = iter(
        tsc.Moment(at * true // 1_000_000 + error, float(at), doubt)
        for at, error, doubt in (
            (0, 15_000_000_000, 8e6),
            (40_000_000, 0, 200.0),
            (80_000_000, -20_000_000_000, 9e6),
            (120_000_000, 300, 200.0),
        )
    )
    found = tsc._measure(lambda: next(looks))
    assert found is not None and abs(found - true) < true / 10_000


def test_only_doubt_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every look is disturbed nothing is told."""
    monkeypatch.setattr(tsc, "_APART", 0)
    looks = iter(tsc.Moment(at * 104_000_000, at * 4e7, 1e6) for at in range(100))
    assert tsc._measure(lambda: next(looks)) is None

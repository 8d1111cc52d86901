"""Emulated against real."""

from __future__ import annotations

from suites.report.merge import parts_of
from suites.report.parity import parity
from suites.report.record import Record
from suites.report.tests.samples import record, sample


def _runs(tree: str = "aaaaaaaaaaaa") -> list[Record]:
    emulated = record(
        sample("test_same"),
        sample("test_both_fail", "failed"),
        sample("test_differs"),
        sample("test_needs_faults"),
        sample("test_only_here"),
        sample("suites/tests/test_native.py::test_n", card=""),
    )
    real = record(
        sample("test_same", card="real"),
        sample("test_both_fail", "error", card="real"),
        sample("test_differs", "failed", card="real", reason="link is down"),
        sample("test_needs_faults", "skipped", card="real", reason="needs a card that is emulated"),
        sample("suites/tests/test_native.py::test_n", "failed", card=""),
        card="real",
        hour=1,
        tree=tree,
    )
    return [emulated, real]


def test_same_different_skipped_and_missing() -> None:
    """Each with its reason, differences first; tests that need no card are not compared."""
    found = parity(parts_of(_runs()))
    assert [(pair.test.split("::")[1], pair.verdict, pair.why) for pair in found.pairs] == [
        ("test_differs", "different", "link is down"),
        ("test_only_here", "missing", "it was run on the emulated card only"),
        ("test_needs_faults", "skipped", "needs a card that is emulated"),
        ("test_both_fail", "same", ""),
        ("test_same", "same", ""),
    ]
    assert not found.doubts


def test_other_sources_are_a_doubt() -> None:
    assert "may be the sources'" in parity(parts_of(_runs("bbbb"))).doubts[0]


def test_one_kind_alone_has_no_pairs() -> None:
    found = parity(parts_of(_runs()[:1]))
    assert found.kinds == ["emulated"] and found.pairs == []

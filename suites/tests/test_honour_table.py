"""The table of what is honoured (B7) is complete, and names nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from suites.exasock import honour
from suites.guest import exasock

BUILDER = honour.ROOT / "out/images/builder/root/usr/include"


def header_trees() -> list[Path]:
    """uapi headers: of the image's kernel, and of this machine."""
    found = [folder for folder in (BUILDER, Path("/usr/include")) if (folder / "linux/tcp.h").exists()]
    assert found, "no kernel headers here: `make images`, or install linux-libc-dev"
    return found


@pytest.mark.parametrize("level", honour.levels(), ids=lambda level: level.name)
def test_every_option_has_a_row(level: honour.Level) -> None:
    """B7: each socket option of the kernel's headers has one row, and a row that no header knows says that it
    is a newer kernel's."""
    named = [name for row in honour.rows() if row.level == level.name for name in row.names]
    assert len(named) == len(set(named)), sorted({name for name in named if named.count(name) > 1})
    known: set[str] = set()
    for headers in header_trees():
        options = level.options(headers)
        assert len(options) > 5 and options <= set(named), sorted(options - set(named))
        known |= options
    old = {name for row in honour.rows() if row.level == level.name and not row.newer for name in row.names}
    assert not old - known, sorted(old - known)


def test_every_decision_is_one() -> None:
    """B7: what a row decides is one of the table's words, and each reason is one that is counted."""
    for row in honour.rows():
        for how in (row.udp, row.tcp):
            reason = honour.yields(how)
            counted = exasock.REFUSALS if how.startswith("attach:") else exasock.REASONS
            assert reason is None or reason in counted, row


def test_every_test_is_there() -> None:
    """B7: each test that a row names exists."""
    for row in honour.rows():
        for test in row.tests:
            file, _, name = test.partition("::")
            text = (honour.ROOT / file).read_text(encoding="utf-8")
            assert not name or re.search(rf"^def {name}\(", text, re.MULTILINE), test


def test_the_page_is_the_table() -> None:
    """B7: HONOUR.md is what the table says."""
    assert honour.PAGE.read_text(encoding="utf-8") == honour.page(), "python -m suites.exasock.honour"

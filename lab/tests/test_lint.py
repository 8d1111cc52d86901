"""The linters, as tests: one test per row of `lab.lint.CHECKS`."""

from __future__ import annotations

import pytest

from lab import lint


@pytest.mark.lint
@pytest.mark.parametrize("check", lint.CHECKS, ids=lambda check: check.name)
def test_lint(check: lint.Check) -> None:
    """Every source file of the project passes its linter."""
    passed, output, _ = lint.run(check)
    assert passed, output

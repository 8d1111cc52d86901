"""Tiers: which tests a run is made of, as data beside the tests (docs/tiers.md).

    @pytest.mark.full("why not in core")    or    pytest.param(128, marks=pytest.mark.full("why not in core"))

``core`` is what ``make test`` runs, ``full`` is everything, ``night`` adds what takes hours. A test without a
marker is of the core tier. What a tier leaves out is deselected, and the record names it with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

TIERS = ("core", "full", "night")
#: Why a test was deselected, where somebody has told: a key of the record's ``left_out``.
LEFT_OUT = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("exalab").addoption(
        "--tier", choices=TIERS, default="full", help="leave out what is of a later tier (full)"
    )


def pytest_configure(config: pytest.Config) -> None:
    for tier in TIERS[1:]:
        config.addinivalue_line("markers", f"{tier}(why): of the tier {tier} and later ones, not of earlier")


def beyond(core: Collection[Any], values: Iterable[Any], why: str) -> list[Any]:
    """Parameters of a test, of which those that are not in ``core`` are of the full tier."""
    return [one if one in core else pytest.param(one, marks=pytest.mark.full(why)) for one in values]


def tier_of(item: pytest.Item) -> tuple[str, str]:
    """The first tier that has this test, and why no earlier one. UsageError: a marker does not say why."""
    for tier in reversed(TIERS[1:]):
        marker = item.get_closest_marker(tier)
        if marker is not None:
            if len(marker.args) != 1:
                raise pytest.UsageError(f"{item.nodeid}: pytest.mark.{tier} needs one argument: why")
            return tier, str(marker.args[0])
    return TIERS[0], ""


def leave_out(config: pytest.Config, items: list[pytest.Item], why: dict[pytest.Item, str]) -> None:
    """Deselect the tests that ``why`` names, with the reason."""
    for item, reason in why.items():
        item.stash[LEFT_OUT] = reason
    if why:
        config.hook.pytest_deselected(items=list(why))
        items[:] = [item for item in items if item not in why]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = TIERS.index(config.getoption("--tier"))
    why = {}
    for item in items:
        tier, reason = tier_of(item)
        if TIERS.index(tier) > chosen:
            why[item] = f"{tier} tier: {reason}"
    leave_out(config, items, why)

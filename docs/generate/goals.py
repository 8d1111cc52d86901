"""``reference/goals``: the goals that ``make bench`` holds its figures against."""

from __future__ import annotations

from docs.generate import table
from suites.bench.__main__ import GOALS


def page() -> str:
    rows = [(f"`{name}`", str(goal)) for name, goal in GOALS.items()]
    return (
        "# Goals\n\nMade from the code: the figures of `make bench` that have a goal. [Figures]"
        f"(../figures.md) has what was measured.\n\n{table(('figure', 'goal'), rows)}"
    )

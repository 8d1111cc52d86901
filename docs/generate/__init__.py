"""Reference pages of the site, made from the code when the site is built (``make docs``).

Each module returns Markdown. Where the code and its description do not match (a setting that the example does
not explain, a variable that no page names) it raises ``Undocumented``, and the build fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Undocumented(Exception):
    """Something that users meet has no description; the message says what and where to write it."""


def cell(text: str) -> str:
    """A text that may stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell(part) for part in line) + " |" for line in lines) + "\n"


def read(name: str) -> str:
    """A file of the checkout."""
    return (ROOT / name).read_text(encoding="utf-8")

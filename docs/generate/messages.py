"""``reference/messages``: every error that the bench gives, with its remedy, from the calls in the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from docs.generate import ROOT, table

FOLDERS = ("lab", "images", "suites")
#: Calls that tell a user of an error: the message is the first argument.
TELLING = {"LabError", "TopologyError", "WiringError", "LeaseError", "console.error", "console.warn"}


def text(node: ast.expr | None) -> str:
    """A message as it is read: what is filled in is shown as ``…``. Empty: the code computes all of it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text(node.left) + text(node.right)
    if isinstance(node, ast.IfExp):
        return text(node.body) or text(node.orelse)
    return ""


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """(message, remedy) of each call in a file that tells of an error."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in TELLING:
            words = {word.arg: word.value for word in node.keywords}
            told = text(node.args[0])
            if told.strip("… :"):
                yield told, text(words.get("hint"))


def page() -> str:
    parts = [
        "# Messages and remedies\n",
        "Made from the code: every error and warning of the bench, by the file that gives it. `…` stands for"
        " what is filled in.\n",
    ]
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "tests" in path.parts:
                continue
            rows = [(told, remedy) for told, remedy in messages(path)]
            if rows:
                parts.append(f"## {path.relative_to(ROOT)}\n")
                parts.append(
                    table(("message", "remedy"), [(escaped(one), escaped(two)) for one, two in rows])
                )
    return "\n".join(parts)


def escaped(told: str) -> str:
    """A message as plain text of Markdown: nothing in it is markup."""
    return "".join(f"\\{char}" if char in "*_[]<>#" else char for char in told)

"""``reference/fixtures``: fixtures, markers and options of the suites, from their source."""

from __future__ import annotations

import ast
from pathlib import Path

from docs.generate import ROOT, table


def sources() -> list[Path]:
    """Files of the suites that may define fixtures for others: not the tests themselves."""
    return [
        path
        for path in sorted((ROOT / "suites").rglob("*.py"))
        if not path.name.startswith(("test_", "check_")) and "@pytest.fixture" in path.read_text()
    ]


def is_fixture(node: ast.expr) -> bool:
    call = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(call) == "pytest.fixture"


def scope(node: ast.FunctionDef) -> str:
    """``test``, ``module`` or ``session``, and whether it is there without being asked for."""
    told = "test"
    for one in node.decorator_list:
        if isinstance(one, ast.Call) and is_fixture(one):
            for word in one.keywords:
                if word.arg == "scope" and isinstance(word.value, ast.Constant):
                    told = str(word.value.value)
                if word.arg == "autouse":
                    told += ", automatic"
    return told


def fixtures(path: Path) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.FunctionDef)
            and any(map(is_fixture, node.decorator_list))
            and not node.name.startswith("_")
        ):
            told = ast.get_docstring(node)
            if told is None:
                told = f"``{ast.unparse(node.returns)}``" if node.returns is not None else ""
            told = told.replace("``", "`")
            rows.append((f"`{node.name}`", scope(node), told))
    return rows


def options(tree: ast.Module) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".addoption"):
            words = {word.arg: word.value for word in node.keywords}
            default = words.get("default")
            text = words.get("help")
            rows.append(
                (
                    f"`{ast.literal_eval(node.args[0])}`",
                    "" if default is None else f"`{ast.unparse(default)}`",
                    str(ast.literal_eval(text)) if text is not None else "",
                )
            )
    return rows


def markers(tree: ast.Module) -> list[tuple[str, ...]]:
    """The markers that ``pytest_configure`` declares, ``name(arguments): meaning``."""
    rows: list[tuple[str, ...]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "pytest_configure":
            for one in ast.walk(node):
                if isinstance(one, ast.Constant) and isinstance(one.value, str) and ": " in one.value:
                    name, _, meaning = one.value.partition(": ")
                    if name.split("(")[0].isidentifier():
                        rows.append((f"`{name}`", meaning))
    return rows


def page() -> str:
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "suites").rglob("*.py"))]
    parts = [
        "# Fixtures, markers, options\n",
        "Made from the code of `suites/`. [Write a test](../how-to/a-test.md) shows some of them.\n",
    ]
    for path in sources():
        parts.append(f"## `{path.relative_to(ROOT)}`\n")
        parts.append(table(("fixture", "scope", "what it gives"), fixtures(path)))
    parts.append("## Markers\n")
    parts.append(table(("marker", "meaning"), [row for tree in trees for row in markers(tree)]))
    parts.append("## Options of pytest\n")
    parts.append(table(("option", "default", "meaning"), [row for tree in trees for row in options(tree)]))
    return "\n".join(parts)

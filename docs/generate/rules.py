"""``reference/rule-tests``: which tests and measures name each rule in what they say of themselves."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from docs.generate import ROOT, Undocumented, read, table

RULE = re.compile(r"\b([NB](?:1[0-2]|[1-9]))\b")


def rules() -> dict[str, str]:
    """The rules of the page ``rules.md``, by name."""
    found = dict(re.findall(r"^\*\*([NB]\d+)\*\* (.*?)$", read("docs/rules.md"), re.MULTILINE))
    wanted = {f"N{number}" for number in range(1, 13)} | {f"B{number}" for number in range(1, 9)}
    if found.keys() != wanted:
        raise Undocumented(f"docs/rules.md lacks, or invents, the rules {sorted(found.keys() ^ wanted)}")
    return found


def naming() -> dict[str, list[tuple[str, str]]]:
    """By rule: (test, what it says) of each test, or measure of the bench, whose docstring names the rule."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    measures = sorted((ROOT / "suites/bench").glob("*.py"))
    for path in [*sorted((ROOT / "suites").rglob("test_*.py")), *measures]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (path in measures or node.name.startswith("test_")):
                told = ast.get_docstring(node) or ""
                for rule in dict.fromkeys(RULE.findall(told)):
                    found[rule].append((f"`{path.relative_to(ROOT)}::{node.name}`", told.replace("``", "`")))
    return found


def page() -> str:
    tests = naming()
    parts = [
        "# Tests by rule\n",
        "Made from the code: each test, and each measure of `make bench`, that names the rule."
        " [Rules](../rules.md) defines them.\n",
    ]
    for rule, told in rules().items():
        parts.append(f"## {rule}\n\n{told.replace('](reference/', '](')}\n")
        rows = [(name, what) for name, what in tests[rule]]
        parts.append(
            table(("test or measure", "what it shows"), rows)
            if rows
            else "No test or measure names this rule.\n"
        )
    return "\n".join(parts)

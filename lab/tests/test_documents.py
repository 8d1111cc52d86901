"""What the documents point at is there: files, targets, modules, links. Links within the site are lint's."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import ROOT

EXAMPLE = ROOT / "docs/examples/another-repository"
#: Longer than this, and nobody reads README in five minutes.
README_LINES = 120


def documents() -> list[Path]:
    """All Markdown under version control, and what is about to be."""
    argv = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return [ROOT / name for name in names if (ROOT / name).exists()]


def told(pattern: str) -> list[tuple[Path, str]]:
    """(document, what the pattern's group is) for each place that matches."""
    return [(path, found) for path in documents() for found in re.findall(pattern, path.read_text())]


def wrong(places: list[tuple[Path, str]]) -> list[str]:
    return sorted({f"{path.relative_to(ROOT)}: {what}" for path, what in places})


def test_readme_is_short() -> None:
    """README is a screen or two, not a manual."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_links_lead_somewhere() -> None:
    """A relative link outside the site leads to a file; those within it are mkdocs' to judge."""
    links = told(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
    outside = [(path, link) for path, link in links if not path.is_relative_to(ROOT / "docs")]
    assert wrong([(path, link) for path, link in outside if not (path.parent / link).exists()]) == []


def test_paths_exist() -> None:
    """A file or folder of the checkout that a document names is there."""
    named = told(r"`((?:lab|images|suites|datapath|docs)/[\w./-]+?)(?:::\w+)?`")
    made = {"lab/lab.toml", "suites/test_mine.py"}  # what a reader writes
    gone = [(path, name) for path, name in named if name not in made and not (ROOT / name).exists()]
    assert wrong([(path, name) for path, name in gone if "NAME" not in name]) == []


def test_targets_exist() -> None:
    """`make WORD` in a document is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [
        (path, word)
        for path, words in told(r"(?:`|^|\s{4})make ((?:[a-z][a-z-]+ ?)+)(?=[`A-Z#\n ])")
        for word in words.split()
    ]
    assert wrong([(path, word) for path, word in named if word not in targets]) == []


def test_modules_exist() -> None:
    """`python -m MODULE` in a document is a module."""
    named = told(r"python -m ((?:lab|images|suites)(?:\.\w+)*)")
    assert named
    assert wrong([(path, name) for path, name in named if importlib.util.find_spec(name) is None]) == []


@pytest.mark.parametrize("name", ["conftest.py", "test_venue.py"])
def test_the_other_repository_is_shown(name: str) -> None:
    """The page of how to test from another repository shows the files of the example."""
    page = (ROOT / "docs/how-to/another-repository.md").read_text()
    shown = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert any(block in (EXAMPLE / name).read_text() for block in shown)


def test_the_other_repository_is_collected(tmp_path: Path) -> None:
    """Outside the checkout pytest finds the fixtures, and a test that runs through both kinds of sockets."""
    for path in EXAMPLE.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/usr/sbin:/bin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"test_two_namespaces_speak\[(\w+)\]", done.stdout) == ["kernel", "exasock"]

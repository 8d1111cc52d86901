"""The mutants fit the sources, and what runs them tells a defect that was noticed from one that was not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.paths import ROOT
from suites.mutants import catalog, run, tree
from suites.mutants.catalog import Edit, Mutant

MUTANTS = catalog.load()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_fits_the_sources(mutant: Mutant) -> None:
    """Each mutant's place is in its file, once, and each test that must notice it exists."""
    before = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.mutated(before) != before
    for test in mutant.tests:
        path, _, function = test.partition("::")
        assert (ROOT / path).exists(), test
        if function:
            module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            defined = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
            assert function.partition("[")[0] in defined, test


def test_there_are_enough_of_each_part() -> None:
    """At least 40, each name once, and some of every part of the product."""
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) >= 40 and len(set(names)) == len(names)
    assert {"datapath", "library", "driver", "card", "wire", "bench"} <= {mutant.part for mutant in MUTANTS}


def test_a_place_that_has_changed_is_named() -> None:
    """A mutant whose place is gone, or is there twice, is an error that names the file of mutants to mend."""
    mutant = Mutant("gone", "wire", "a defect", "x.c", (Edit(old="one", new="two"),), ("lab/tests",))
    for text in ("nothing", "one one"):
        with pytest.raises(LabError) as caught:
            mutant.mutated(text)
        assert "gone" in caught.value.message and "wire.toml" in str(caught.value.hint)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(LabError, match="no-such-mutant"):
        catalog.choose(MUTANTS, ["no-such-mutant"])


def example(folder: Path, body: str) -> tree.Tree:
    """A copy of a checkout with one file and one native test of it."""
    tests = folder / "lab/tests"
    tests.mkdir(parents=True)
    (folder / "lab/answer.py").write_text("ANSWER = 42\n", encoding="utf-8")
    (tests / "test_answer.py").write_text(body, encoding="utf-8")
    return tree.Tree(folder)


DEFECT = Mutant(
    "wrong-answer", "bench", "the answer is wrong", "lab/answer.py",
    (Edit(old="42", new="41"),), ("lab/tests/test_answer.py",),
)  # fmt: skip
LOOKS = "import runpy\ndef test_answer():\n    assert runpy.run_path('lab/answer.py')['ANSWER'] == 42\n"
SLEEPS = "def test_answer():\n    pass\n"
SKIPS = "import pytest\n@pytest.mark.skip\ndef test_answer():\n    pass\n"


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (LOOKS, run.CAUGHT),
        (SLEEPS, run.MISSED),
        (SKIPS, run.BROKEN),
        ("import nothing_of_that_name\n", run.BROKEN),
    ],
    ids=["looks", "does not look", "is skipped", "cannot run"],
)
def test_verdicts(body: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect counts as caught when a test fails, not when none ran; the copy is as before afterwards."""
    monkeypatch.setattr(run, "logs", lambda: tmp_path)
    copied = example(tmp_path / "tree", body)
    found = run.judge(copied, DEFECT, red=())
    assert found.verdict == verdict, found
    assert (copied.root / "lab/answer.py").read_text(encoding="utf-8") == "ANSWER = 42\n"


def test_a_test_that_is_red_anyway_notices_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "logs", lambda: tmp_path)
    copied = example(tmp_path / "tree", LOOKS)
    (seen,) = run.judge(copied, DEFECT, red=()).noticed
    assert run.judge(copied, DEFECT, red=(seen,)).verdict == run.MISSED

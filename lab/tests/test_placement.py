"""Where a lab's processes run: the choice, and that a whole family of processes is gathered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from images import definition
from lab import placement
from lab.config import load
from lab.errors import LabError
from lab.up import suited

FAMILY = """
import subprocess, sys, threading
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
threading.Thread(target=sys.stdin.read, daemon=True).start()
print(child.pid, flush=True)
threading.Event().wait(60)
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process with a second thread and a child; both pids."""
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        yield parent.pid, int(parent.stdout.readline())
        parent.kill()


def test_all_threads_and_children_share_one_processor(family: tuple[int, int]) -> None:
    """Every thread of a process and of its children is bound to the lab's processor."""
    at = placement.gather("lab", [family[0]])
    tasks = [int(task.name) for pid in family for task in Path(f"/proc/{pid}/task").iterdir()]
    assert len(tasks) >= 3
    assert {frozenset(os.sched_getaffinity(task)) for task in tasks} == {frozenset({at})}


def test_a_process_that_is_gone_is_passed_over() -> None:
    """A part that just died is the supervisor's to report."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert placement.gather("lab", [gone.pid]) == placement.processor("lab")


@pytest.mark.parametrize(
    ("wanted", "accelerator", "processors", "expected"),
    [
        ("auto", "tcg", 2, True),
        ("auto", "tcg", 8, False),
        ("auto", "kvm", 2, False),
        ("together", "kvm", 8, True),
        ("spread", "tcg", 1, False),
    ],
)
def test_the_choice(
    monkeypatch: pytest.MonkeyPatch, wanted: str, accelerator: str, processors: int, expected: bool
) -> None:
    """Small hosts without KVM gather; the file has the last word."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    assert placement.together(wanted, accelerator) is expected


def test_guests_processors_stay_where_they_were_put(family: tuple[int, int]) -> None:
    """Thread by thread, in the order of both lists."""
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    placement.pin(family, [first, last])
    assert [os.sched_getaffinity(pid) for pid in family] == [{first}, {last}]


def test_processors_that_are_not_there() -> None:
    """They are named, with those that are."""
    placement.check(sorted(os.sched_getaffinity(0)))
    with pytest.raises(LabError, match="cannot have processor 8000") as caught:
        placement.check([8000])
    assert placement._ranges(os.sched_getaffinity(0)) in str(caught.value.hint)
    assert placement._ranges([0, 1, 2, 3, 7, 9, 10]) == "0-3,7,9-10"


def test_too_few_hugepages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how many, and how to get them."""
    monkeypatch.setattr(placement, "HUGEPAGES", tmp_path)
    with pytest.raises(LabError, match="no pages of 2 MiB"):
        placement.check_hugepages(1024)
    (tmp_path / "free_hugepages").write_text("511\n")
    with pytest.raises(LabError, match="need 512 free pages of 2 MiB; there are 511") as caught:
        placement.check_hugepages(1024)
    assert "echo 512 >" in str(caught.value.hint)
    placement.check_hugepages(1022)


def test_a_kernel_that_looks_for_races_has_both_processors() -> None:
    """KCSAN sees a race only while both sides run: its lab is not gathered, unless the file says so."""
    race, kasan = definition.kernel("race"), definition.kernel("kasan")
    asked = {
        (kernel.name, wanted): suited(replace(load(), placement=wanted), kernel).placement
        for kernel in (race, kasan)
        for wanted in ("auto", "together")
    }
    assert asked == {
        ("race", "auto"): "spread",
        ("race", "together"): "together",
        ("kasan", "auto"): "auto",
        ("kasan", "together"): "together",
    }

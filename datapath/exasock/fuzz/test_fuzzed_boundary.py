"""The boundary fuzzed in a process, and what the fuzzer is worth: it finds each defect that is put there.

The sources are those of the module, compiled in a scratch copy against a stand-in of the kernel
(``Makefile``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

DATAPATH = Path(__file__).resolve().parent.parent.parent
SECONDS = 15


@dataclass(frozen=True)
class Mutant:
    """A defect: in ``file`` the line ``old`` becomes ``new``."""

    name: str
    file: str
    old: str
    new: str

    def put(self, exasock: Path) -> None:
        path = exasock / self.file
        text = path.read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"not once in {self.file}: {self.old}"
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def fuzz(scratch: Path, mutant: Mutant | None = None) -> subprocess.CompletedProcess[str]:
    """Build it, with a defect if one is given, and run it by seed 1."""
    for part in ("include", "exanic", "exasock"):
        shutil.copytree(DATAPATH / part, scratch / part)
    if mutant is not None:
        mutant.put(scratch / "exasock")
    argv = ["make", "-s", "-C", str(scratch / "exasock/fuzz"), "run", f"SECONDS={SECONDS}", "SEED=1"]
    argv.append(f"OUT={scratch / 'build'}")
    # an outer make's options are not for this one
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)


def test_whatever_a_process_writes_is_its_own_affair(tmp_path: Path) -> None:
    """N6, B1, B2: claims, tails and heartbeats written at any moment, over slots inside datagrams, slots
    passed over and numbers of another lap: what reaches the stack is what came, once, in order, by its port;
    and an honest reader loses nothing. The run fails unless all of that was reached."""
    done = fuzz(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


MUTANTS = (
    # as it was: the claim word says where a datagram begins, and the slot's own header how long it is
    Mutant(
        "claim word and slot header are believed",
        "hold.c",
        "return held->begins && held->owner == number ? held : NULL;",
        "held->frame = exa_slot(es, number)->frame;\n\treturn held;",
    ),
    Mutant(
        "padding is taken for a datagram",
        "hold.c",
        "return held->begins && held->owner == number ? held : NULL;",
        "return held->owner == number ? held : NULL;",
    ),
    Mutant(
        "what was written over still begins", "hold.c",
        "slots_vacate(es, es->head, pad + span);",
        "(void)slots_vacate;",
    ),
    Mutant(
        "a slot that is read is written", "hold.c",
        "return !held_at(es, owner) || claimed(es, owner) == EXA_CLAIMED_DONE;",
        "return !held_at(es, owner) || claimed(es, owner) != EXA_CLAIMED_NOT;",
    ),
    Mutant(
        "others do not find what is held", "hold.c",
        "if (unlikely(list_empty(&es->holding)))",
        "if (unlikely(!list_empty(&es->holding)))",
    ),
    Mutant(
        "a tail beyond the head is believed", "shared.h",
        "return tail > read && tail <= head ? tail : read;",
        "return tail > read ? tail : read;",
    ),
)  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_defect_is_found(mutant: Mutant, tmp_path: Path) -> None:
    """N6: with the defect put there the same run ends in a sanitizer's report or an assertion."""
    done = fuzz(tmp_path, mutant)
    assert done.returncode != 0 and ("Sanitizer" in done.stderr or "Assertion" in done.stderr), (
        done.stdout + done.stderr
    )

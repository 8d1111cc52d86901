"""The mutants as data: what is changed, and which tests must notice.

Each ``PART.toml`` beside this file has one table for each mutant::

    [lookup-in-another-namespace]
    what = "a datagram's receiver is looked up in the initial namespace"
    file = "datapath/exasock/receive.c"
    old = "exa_lookup(arrival.iface->ns->net, packet,"
    new = "exa_lookup(&init_net, packet,"
    tests = ["suites/exasock/test_namespaces.py::test_sockets_of_four_namespaces_in_one_thread"]

``old`` must occur exactly once in ``file``. ``tests`` are pytest's node ids, or a prefix of one up to its
parameters. Where one place is not enough, ``also`` has more pairs of ``old`` and ``new`` in the same file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lab.errors import LabError

HERE = Path(__file__).resolve().parent
#: Folders whose tests run without a lab.
NATIVE = ("lab/", "images/", "datapath/", "suites/tests/", "suites/report/tests/", "suites/mutants/tests/")
_NAME = r"[a-z0-9-]{3,48}"


class Edit(BaseModel):
    """``old``, which occurs once, becomes ``new``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    old: Annotated[str, Field(min_length=1)]
    new: str


class _Entry(Edit):
    what: Annotated[str, Field(min_length=10)]
    file: str
    tests: Annotated[tuple[str, ...], Field(min_length=1)]
    also: tuple[Edit, ...] = ()


_ENTRIES = TypeAdapter(dict[Annotated[str, Field(pattern=_NAME)], _Entry])


@dataclass(frozen=True)
class Mutant:
    """One defect. ``part``: the file of mutants it is from; ``what``: the defect in words."""

    name: str
    part: str
    what: str
    file: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]

    @property
    def native(self) -> bool:
        """Whether none of its tests needs a lab."""
        return all(test.startswith(NATIVE) for test in self.tests)

    def mutated(self, text: str) -> str:
        """The content of :attr:`file` with the defect in it. LabError: the place is not there once."""
        for edit in self.edits:
            if (times := text.count(edit.old)) != 1:
                raise LabError(
                    f"mutant {self.name}: {times} places in {self.file} are {edit.old!r}, not one",
                    hint=f"the source has changed: bring suites/mutants/{self.part}.toml up to date",
                )
            text = text.replace(edit.old, edit.new)
        return text


def load(folder: Path = HERE) -> list[Mutant]:
    """All mutants, by part and in the order of their files. LabError: a file is not what it should be."""
    found: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            entries = _ENTRIES.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise LabError(
                f"{path}: {error}", hint="suites/mutants/catalog.py says what a mutant is"
            ) from error
        for name, entry in entries.items():
            edits = (Edit(old=entry.old, new=entry.new), *entry.also)
            found.append(Mutant(name, path.stem, entry.what, entry.file, edits, entry.tests))
    return found


def choose(mutants: list[Mutant], wanted: list[str]) -> list[Mutant]:
    """Those that are wanted by name or by part; all if nothing is. LabError names what there is not."""
    known = {mutant.name for mutant in mutants} | {mutant.part for mutant in mutants}
    unknown = [one for one in wanted if one not in known]
    if unknown:
        raise LabError(
            f"there is no mutant and no part {', '.join(unknown)}",
            hint=f"parts are {', '.join(sorted({mutant.part for mutant in mutants}))}; --list shows all",
        )
    return [one for one in mutants if not wanted or one.name in wanted or one.part in wanted]

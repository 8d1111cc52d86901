"""``python -m suites.mutants [NAME | PART ...]``: does a test notice each deliberate defect?"""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Table

from lab import console
from lab.errors import LabError
from lab.paths import out
from lab.replacing import replacing
from suites.mutants import catalog, run


def listed(mutants: list[catalog.Mutant]) -> Table:
    table = Table(title=f"{len(mutants)} mutants")
    for column in ("part", "name", "defect", "tests"):
        table.add_column(column)
    for mutant in mutants:
        table.add_row(mutant.part, mutant.name, mutant.what, "\n".join(mutant.tests))
    return table


def told(verdicts: list[run.Verdict]) -> Table:
    caught = sum(one.verdict == run.CAUGHT for one in verdicts)
    table = Table(title=f"mutants: {caught} of {len(verdicts)} caught")
    for column in ("part", "name", "verdict", "noticed by", "s"):
        table.add_column(column)
    for one in verdicts:
        style = "green" if one.verdict == run.CAUGHT else "red"
        noticed = "\n".join(one.noticed) or one.why
        table.add_row(one.part, one.name, f"[{style}]{one.verdict}[/]", noticed, f"{one.seconds:.0f}")
    return table


@click.command()
@click.argument("wanted", nargs=-1, metavar="[NAME | PART]...")
@click.option("--list", "listing", is_flag=True, help="Show the mutants and their tests; run nothing.")
@click.option("--native", is_flag=True, help="Only mutants whose tests need no lab.")
def main(wanted: tuple[str, ...], listing: bool, native: bool) -> int:
    """Put one deliberate defect at a time into a copy of the checkout, and run the tests that must notice it.

    Writes out/mutants.json. Status 0: every mutant that was tried is caught, and no test is red without one.
    """
    mutants = catalog.choose(catalog.load(), list(wanted))
    if native:
        mutants = [one for one in mutants if one.native]
    if listing:
        console.out.print(listed(mutants))
        return 0
    try:
        red, verdicts = run.judge_all(mutants)
    except run.Unusable as error:
        raise LabError(f"the tests cannot be run without a mutant: {error}") from error
    record = {"red_without_a_mutant": red, "mutants": [asdict(one) for one in verdicts]}
    with replacing(out() / "mutants.json") as path:
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    console.out.print(told(verdicts))
    return 1 if red or any(one.verdict != run.CAUGHT for one in verdicts) else 0


if __name__ == "__main__":
    console.run(main, "python -m suites.mutants")

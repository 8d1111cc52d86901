"""``lab host plan|apply|remove``: the machine under test over SSH, prepared, and left as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab import config, console
from lab.errors import LabError

if TYPE_CHECKING:
    from images.playbook import Change
    from lab.config import Config

#: Lines of a change that are shown; a file that is new would be all of it.
SHOWN = 16
_MACHINE = click.argument("machine", required=False)
_FILE = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="a file instead of lab/lab.toml"
)


@click.group("host")
def group() -> None:
    """Prepare and restore the machine under test over SSH (host = "…" in lab.toml).

    MACHINE, as ssh takes it, stands in the place of the one that lab.toml names; nothing is then asked about
    its cards.
    """


def _chosen(machine: str | None, file: Path | None) -> tuple[str, tuple[str, ...]]:
    """The machine, and the addresses of its cards."""
    if machine is not None:
        return config.parse(f"host = {_quoted(machine)}\ncard = '0000:00:00.0'\n", "MACHINE").host or "", ()
    found: Config = config.load(file)
    if found.host is None:
        raise LabError(
            f"{found.source} names no host", hint='write host = "root@machine" beside card = "0000:3b:00.0"'
        )
    return found.host, tuple(card.pci for card in found.real)


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)


@group.command()
@_MACHINE
@_FILE
def plan(machine: str | None, file: Path | None) -> None:
    """Show what apply would change there. Changes nothing."""
    _apply(machine, file, dry=True)


@group.command()
@_MACHINE
@_FILE
def apply(machine: str | None, file: Path | None) -> None:
    """Install what a lab needs: packages, modules built by DKMS, the agent."""
    _apply(machine, file, dry=False)


def _apply(machine: str | None, file: Path | None, *, dry: bool) -> None:
    from lab.remote import roles

    host, cards = _chosen(machine, file)
    found = roles.find(host, cards)
    if found.given:
        console.say(f"{host} has the datapath already, installed by other means: it is not changed")
    changes = roles.apply(found, roles.wanted(found), dry=dry)
    _tell(changes, f"{host} has all of it: nothing to change", f"{host}", dry)


@group.command()
@_MACHINE
@_FILE
@click.option("--dry-run", "dry", is_flag=True, help="show what would be removed; change nothing")
def remove(machine: str | None, file: Path | None, dry: bool) -> None:
    """Uninstall what apply installed, and restore files and settings."""
    from lab.remote import roles

    host, _ = _chosen(machine, file)
    changes = roles.remove(roles.find(host), dry=dry)
    _tell(changes, f"{host} has nothing of ours", f"{host}", dry)


def _tell(changes: Sequence[Change], none: str, host: str, dry: bool) -> None:
    """What was changed, for people."""
    if not changes:
        console.out.print(none, markup=False)
        return
    console.out.print(f"{'would change' if dry else 'changed'} on {host}:", markup=False)
    for change in changes:
        lines = str(change).splitlines()
        if left := len(lines) - SHOWN:
            lines[SHOWN:] = [f"  … {left} more lines"] if left > 0 else []
        console.out.print("\n    ".join([f"  {lines[0]}", *lines[1:]]), markup=False)

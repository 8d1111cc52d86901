"""What a lab has of another machine while it is up. Runs *there*, in the agent that ends with the lab."""

from __future__ import annotations

from collections.abc import Sequence

from lab.errors import LabError
from lab.guest import agent
from lab.real import borrowed, journal
from lab.real.borrowed import Borrowed
from lab.real.journal import Owner


def take(cards: Sequence[str], lab: str, root: str) -> dict[str, str | None] | None:
    """Take the cards, by PCI address, with the modules loaded; they are given back when the agent ends. None,
    or what speaks against it: {"message", "hint"}.
    """
    owner = Owner(lab, root)
    held = Borrowed(owner)
    agent.at_end.append(held.give_back)
    try:
        borrowed.recover()
        held.use(cards)
    except LabError as problem:
        return {"message": problem.message, "hint": problem.hint}
    return None


def release() -> dict[str, str | None] | None:
    """Give back what labs that died have left taken. None, or what speaks against it: one that lives."""
    try:
        borrowed.recover()
        for name in journal.left(journal.folder()):
            if journal.is_held(journal.folder(), name):
                raise journal.Held(name, journal.owner_of(journal.folder() / f"{name}.json"))
    except LabError as problem:
        return {"message": problem.message, "hint": problem.hint}
    return None

"""All that one lab holds of this machine: taken together, given back together, also after a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from lab.errors import LabError
from lab.real import card, journal, tester, used
from lab.real.host import Host
from lab.real.journal import Held, Journal, Owner

_GIVE_BACK: dict[str, Callable[[Host, Journal, str], None]] = {
    card.PREFIX: card.give_back,
    tester.PREFIX: tester.give_back,
}


def _give_back(host: Host, one: Journal) -> None:
    if one.open and used.is_of(one.before):
        used.give_back(host, one, one.path.stem.removeprefix(card.PREFIX))
        return
    for prefix, back in _GIVE_BACK.items():
        if one.path.stem.startswith(prefix):
            back(host, one, one.path.stem.removeprefix(prefix))


class Borrowed:
    """What a lab holds. Its locks live as long as this process."""

    def __init__(self, owner: Owner, host: Host | None = None, where: Path | None = None) -> None:
        self._owner = owner
        self._host = host or Host()
        self._where = where or journal.folder()
        self._held: list[Journal] = []

    def take(self, cards: Iterable[str], interfaces: Iterable[str]) -> None:
        """Cards by PCI address, interfaces by name. Raises ``LabError``; what was taken until then stays
        held.
        """
        for name in interfaces:
            tester.take(self._host, self._hold(tester.PREFIX + name), name)
        for address in cards:
            card.take(self._host, self._hold(card.PREFIX + address), address)

    def use(self, cards: Iterable[str]) -> None:
        """Cards by PCI address, where they are. Raises ``LabError``; what was taken until then stays held."""
        for address in cards:
            used.take(self._host, self._hold(card.PREFIX + address), address)

    def _hold(self, name: str) -> Journal:
        one = Journal(self._where, name, self._owner)
        self._held.append(one)
        return one

    def give_back(self) -> None:
        """All of it, the last thing first. What cannot be given back does not keep the rest: one ``LabError``
        in the end tells all of that."""
        problems: list[LabError] = []
        for one in reversed(self._held):
            try:
                _give_back(self._host, one)
            except LabError as problem:
                problems.append(problem)
            finally:
                one.close()
        self._held.clear()
        if problems:
            raise LabError("\n".join(problem.message for problem in problems), hint=problems[0].hint)


def refuse_held(address: str, where: Path | None = None) -> None:
    """Raise ``Held``, which tells whose it is, when a lab that lives has the card."""
    where, name = where or journal.folder(), card.PREFIX + address
    if journal.is_held(where, name):
        raise Held(name, journal.owner_of(where / f"{name}.json"))


def recover(owner: Owner | None = None, host: Host | None = None, where: Path | None = None) -> list[str]:
    """Give back what dead labs left taken: of one owner, or of all. The things that were given back, for
    people.

    What a live lab holds is left alone. Raises ``LabError`` for what cannot be given back.
    """
    where = where or journal.folder()
    done = []
    for name in journal.left(where, owner):
        try:
            one = Journal(where, name, owner or Owner("", ""))
        except Held:
            continue
        with one:
            if one.open:
                _give_back(host or Host(), one)
                done.append(name.partition("-")[2])
    return done

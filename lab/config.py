"""``lab/lab.toml``: which cards the lab has, how they are wired, and the machine they are in.

Without the file there is one emulated X25 in a switch with a tester. ``card = "0000:3b:00.0"`` in its place
is a real card of this machine; with ``host = "root@machine"`` beside it, one of that machine, which is then
the machine under test. ``lab/lab.toml.example`` shows everything. Errors say the file, the line and the
remedy.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lab.card.models import MODELS
from lab.cardd.spec import MAX_CARDS
from lab.errors import LabError
from lab.nightly.settings import Settings
from lab.paths import ROOT
from lab.wire.segments import Cable, EndName, Switch, SwitchPort, Wiring

FILE = ROOT / "lab/lab.toml"
EXAMPLE = "lab/lab.toml.example"
#: The variable that names another file in its place.
ENVIRONMENT = "EXALAB_TOML"
#: MAC addresses of emulated cards: the vendor's prefix, then what no card of its is sold with.
MAC_PREFIX = "64:3f:5f:e8"
#: Ports of a card, at most (a V9P broken out).
MAX_PORTS = 16
_PCI = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
#: [user@]machine, as ssh takes it: a name, an address, or a Host of ssh_config(5). Never an option of ssh's.
_HOST = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9_.:-]*")


@dataclass(frozen=True)
class Card:
    """An emulated card. ``mac`` is port 0's; the other ports' follow."""

    name: str
    model: str
    serial: str
    mac: str

    @property
    def ports(self) -> int:
        return MODELS[self.model].ports

    @property
    def wired(self) -> tuple[int, ...]:
        """The ports that can be plugged into the lab's wires: all."""
        return tuple(range(self.ports))


@dataclass(frozen=True)
class RealCard:
    """A card of this machine, or of the lab's host, by PCI address there.

    ``testers``: of port 0, 1, …: the network interface of this machine that is cabled to it, or an empty
    string.
    """

    name: str
    pci: str
    testers: tuple[str, ...] = ()

    @property
    def ports(self) -> int:
        """How many ports it has at least; the driver knows the number."""
        return max(1, len(self.testers))

    @property
    def wired(self) -> tuple[int, ...]:
        """The ports that can be plugged into the lab's wires: those that are cabled to this machine."""
        return tuple(port for port, interface in enumerate(self.testers) if interface)


@dataclass(frozen=True)
class Config:
    """One lab. ``memory`` in MiB; ``leases``: the directory in which real cards are leased
    (``lab.lease``).

    ``count_instructions``: those of the guest (``lab.machine.counting``).

    ``host``: the machine under test, over SSH; its cards are all real. None: a guest of this machine.
    """

    cards: tuple[Card | RealCard, ...]
    wiring: Wiring
    cpus: int = 2
    memory: int = 1024
    accelerator: str = "auto"
    placement: str = "auto"
    processors: tuple[int, ...] = ()
    hugepages: bool = False
    count_instructions: bool = False
    seed: int = 1
    source: str = "built-in"
    testers: tuple[str, ...] = field(default=())
    leases: Path | None = None
    nightly: Settings = field(default_factory=Settings)
    host: str | None = None

    @property
    def machine(self) -> str | None:
        """The host's name alone, without the user; None without one."""
        return self.host.rpartition("@")[2] if self.host is not None else None

    @property
    def emulated(self) -> tuple[Card, ...]:
        """The emulated cards."""
        return tuple(card for card in self.cards if isinstance(card, Card))

    @property
    def real(self) -> tuple[RealCard, ...]:
        """The real cards."""
        return tuple(card for card in self.cards if isinstance(card, RealCard))


def kind(card: Card | RealCard) -> str:
    """``emulated`` or ``real``."""
    return "real" if isinstance(card, RealCard) else "emulated"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _mebibytes(value: object) -> object:
    """``"1G"`` or ``"768M"`` as MiB."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+)\s*([MG])(?:i?B)?", value.strip())
        if not found:
            raise ValueError(f'{value!r} is not a size: write "768M" or "2G"')
        return int(found[1]) * (1024 if found[2] == "G" else 1)
    raise ValueError('write a size with its unit: "768M" or "2G"')


def _model(value: object) -> object:
    if not isinstance(value, str) or value.upper() not in MODELS:
        raise ValueError(f"there is no card model {value!r}: {', '.join(sorted(MODELS))}")
    return value.upper()


def _port(value: object) -> object:
    """A port of a switch: its end alone, or a table."""
    return {"end": value} if isinstance(value, str) else value


def _pci(value: object) -> object:
    """A PCI address in the kernel's own form."""
    if not isinstance(value, str) or not _PCI.fullmatch(value.lower()):
        raise ValueError(
            f'{value!r} is not a PCI address: write it as "0000:3b:00.0"; `lspci -D -d 1ce4:` lists the cards'
        )
    address = value.lower()
    return address if address.count(":") == 2 else f"0000:{address}"


def _host(value: object) -> object:
    """A machine as ssh takes it."""
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError(
            f'{value!r} is not a machine: write it as ssh takes it, "root@machine"; a port, a key or a way'
            " there go into ssh's own configuration (~/.ssh/config)"
        )
    return value


def _interface(value: object) -> object:
    """The name of a network interface, or an empty string for a port without a cable to this machine."""
    if not isinstance(value, str) or not re.fullmatch(r"[^\s/:]{0,15}", value) or value in (".", ".."):
        raise ValueError(f'{value!r} is not the name of a network interface; "" for a port that has no cable')
    return value


class _Machine(_Strict):
    cpus: Annotated[int, Field(ge=1, le=64)] = 2
    memory: Annotated[int, BeforeValidator(_mebibytes), Field(ge=384, le=1 << 20)] = 1024
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    placement: Literal["auto", "together", "spread"] = "auto"
    processors: tuple[Annotated[int, Field(ge=0, le=8191)], ...] = ()
    hugepages: bool = False
    count_instructions: bool = False


_Address = Annotated[str, BeforeValidator(_pci)]
_Testers = Annotated[tuple[Annotated[str, BeforeValidator(_interface)], ...], Field(max_length=MAX_PORTS)]


class _Card(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,15}$")] | None = None
    model: Annotated[str, BeforeValidator(_model)] = "X25"
    pci: _Address | None = None
    testers: _Testers = ()
    serial: Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -~]+$")] | None = None
    mac: Annotated[str, Field(pattern=r"^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$")] | None = None


def _directory(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(
            f"{str(value)!r} is not absolute: everybody who shares the card names the same directory"
        )
    return value


class _Cable(_Strict):
    ends: tuple[EndName, EndName]


class _Switch(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,15}$")] | None = None
    ports: tuple[Annotated[SwitchPort, BeforeValidator(_port)], ...]


class _File(_Strict):
    host: Annotated[str, BeforeValidator(_host)] | None = None
    machine: _Machine = _Machine()
    leases: Annotated[Path, AfterValidator(_directory)] | None = None
    nightly: Settings = Settings()
    card: Annotated[tuple[_Card, ...], Field(min_length=1, max_length=MAX_CARDS)] = (_Card(),)
    cable: tuple[_Cable, ...] = ()
    switch: tuple[_Switch, ...] = ()
    seed: int = 1


#: What cannot be said of a card of this machine: it has its own.
_OF_EMULATED = ("model", "serial", "mac")


def named() -> Path | None:
    """The file that describes the lab when none is given; None: there is none."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given)
    return FILE if FILE.exists() else None


def load(path: Path | None = None) -> Config:
    """The lab of ``path`` (default: what the variable EXALAB_TOML names, lab/lab.toml when it is there, else
    the built-in one).

    Raises ``LabError`` naming file, line and remedy.
    """
    if path is None:
        path = named()
    if path is None:
        return parse("", "built-in")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise LabError(f"cannot read {path}: {problem}") from problem
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return parse(text, str(shown))


def parse(text: str, source: str) -> Config:
    """The lab that ``text`` (TOML) describes; ``source`` names it in errors."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise LabError(f"{source}: not TOML: {problem}", hint=f"compare it with {EXAMPLE}") from problem
    lines = Lines(text)
    _of_the_lab(data, source, lines)
    data = _one_line(data, source, lines)
    try:
        given = _File.model_validate(data)
    except ValidationError as problem:
        raise _explained(problem, source, lines) from None
    return _complete(given, source, lines)


def _of_the_lab(data: dict[str, Any], source: str, lines: Lines) -> None:
    """A host is of the whole lab: say so, rather than "no such setting"."""
    tables = data.get("card")
    for number, table in enumerate(tables if isinstance(tables, list) else []):
        if isinstance(table, dict) and "host" in table:
            raise LabError(
                f"{source}:{lines.find(('card', number, 'host'))}: card.{number}.host: all cards of a lab are"
                " in one machine",
                hint='write host = "root@machine" at the top of the file, above all tables',
            )


def _one_line(data: dict[str, Any], source: str, lines: Lines) -> dict[str, Any]:
    """``card = ADDRESS``, with ``testers`` beside it, as the table it stands for."""
    card = data.get("card")
    rest = {key: value for key, value in data.items() if key not in ("card", "testers")}
    if isinstance(card, str):
        try:
            address = _pci(card)
        except ValueError as problem:
            raise LabError(
                f"{source}:{lines.find(('card',))}: card: {problem}",
                hint="for an emulated card write a table: [[card]] with a model",
            ) from None
        table = {"pci": address} | ({"testers": data["testers"]} if "testers" in data else {})
        return rest | {"card": [table]}
    if "testers" in data:
        raise LabError(
            f"{source}:{lines.find(('testers',))}: testers: no card is named beside it",
            hint='write it beside card = "0000:3b:00.0", or in a table [[card]] with pci = …',
        )
    return data


def _explained(problem: ValidationError, source: str, lines: Lines) -> LabError:
    """Every error of pydantic as one line with its place."""
    texts = []
    for error in problem.errors(include_url=False):
        place = tuple(error["loc"])
        key = ".".join(str(part) for part in place)
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            message = "there is no such setting"
        texts.append(f"{source}:{lines.find(place)}: {key}: {message}")
    return LabError("\n".join(texts), hint=f"every setting is shown in {EXAMPLE}")


def _complete(given: _File, source: str, lines: Lines) -> Config:
    """Defaults that depend on others, and what can only be checked together."""
    cards: list[Card | RealCard] = []
    for number, one in enumerate(given.card):
        name = one.name or f"card{number}"
        where = lines.find(("card", number, "name"))
        if name == "tester":
            raise LabError(
                f"{source}:{where}: a card cannot be called tester",
                hint="the word is reserved for the testers of the wire",
            )
        if any(card.name == name for card in cards):
            raise LabError(
                f"{source}:{where}: two cards are called {name}", hint="give each card a name of its own"
            )
        if one.pci is not None:
            cards.append(_real(one, number, name, cards, source, lines))
            continue
        if one.testers:
            raise LabError(
                f"{source}:{lines.find(('card', number, 'testers'))}: testers belong to a real card",
                hint='connect an emulated card by [[switch]] or [[cable]]; a real card has pci = "…"',
            )
        mac = one.mac or f"{MAC_PREFIX}:{number:02x}:00"
        cards.append(Card(name, one.model, one.serial or f"E{number:07d}", mac))
    _elsewhere(given, cards, source, lines)
    _processors(given.machine, source, lines)
    if given.machine.hugepages and any(isinstance(card, Card) for card in cards):
        where = lines.find(("machine", "hugepages"))
        raise LabError(
            f"{source}:{where}: machine.hugepages: an emulated card cannot map hugepages",
            hint="remove it: hugepages are for labs with real cards only",
        )
    segments = _segments(given, cards)
    ports = {f"{card.name}:{port}" for card in cards for port in card.wired}
    real = {card.name for card in cards if isinstance(card, RealCard)}
    used: set[str] = set()
    testers: list[str] = []
    for place, end in segments.places:
        where = lines.find(place)
        if end.startswith("tester:"):
            testers.append(end.removeprefix("tester:"))
        elif end not in ports and end.split(":")[0] in real:
            raise LabError(
                f"{source}:{where}: {end} is not cabled to this machine",
                hint="in the card's testers, name the interface at the other end of its cable",
            )
        elif end not in ports:
            known = ", ".join(sorted(ports))
            raise LabError(f"{source}:{where}: there is no port {end}", hint=f"ports of these cards: {known}")
        if end in used:
            raise LabError(
                f"{source}:{where}: {end} is plugged in twice",
                hint="an end takes one cable: remove one of the two",
            )
        used.add(end)
    return Config(
        cards=tuple(cards),
        wiring=Wiring(segments=tuple(segments.all)),
        cpus=given.machine.cpus,
        memory=given.machine.memory,
        accelerator=given.machine.accelerator,
        placement=given.machine.placement,
        processors=given.machine.processors,
        hugepages=given.machine.hugepages,
        count_instructions=given.machine.count_instructions,
        seed=given.seed,
        source=source,
        testers=tuple(testers),
        leases=given.leases,
        nightly=given.nightly,
        host=given.host,
    )


@dataclass
class _Segments:
    """The wiring, and where in the file each end was named."""

    all: list[Cable | Switch] = field(default_factory=list)
    places: list[tuple[tuple[str | int, ...], str]] = field(default_factory=list)


def _processors(machine: _Machine, source: str, lines: Lines) -> None:
    """One of the host's for each of the guest's, or none."""
    given = machine.processors
    if given and (len(given) != machine.cpus or len(set(given)) != len(given)):
        where = lines.find(("machine", "processors"))
        raise LabError(
            f"{source}:{where}: machine.processors: {len(set(given))} processors for"
            f" {machine.cpus} processors of the guest",
            hint=f"name {machine.cpus} different processors, or change cpus",
        )


def _elsewhere(given: _File, cards: list[Card | RealCard], source: str, lines: Lines) -> None:
    """A lab on another machine has that machine's cards and no guest."""
    if given.host is None:
        return
    if any(isinstance(card, Card) for card in cards):
        raise LabError(
            f"{source}:{lines.find(('host',))}: host: no card of {given.host} is named",
            hint='write its address there beside it, card = "0000:3b:00.0"; emulated cards need a guest of'
            " this machine: remove host",
        )
    if "machine" in given.model_fields_set:
        raise LabError(
            f"{source}:{lines.find(('machine',))}: [machine] describes a guest, and {given.host} is none",
            hint="remove the table, or host",
        )


def _real(
    one: _Card, number: int, name: str, cards: list[Card | RealCard], source: str, lines: Lines
) -> RealCard:
    """A card of this machine, checked against those before it."""
    assert one.pci is not None
    for key in _OF_EMULATED:
        if key in one.model_fields_set:
            raise LabError(
                f"{source}:{lines.find(('card', number, key))}: card.{number}.{key}: a real card has its own",
                hint=f"remove {key}; or remove pci for an emulated card",
            )
    before = [card for card in cards if isinstance(card, RealCard)]
    if any(card.pci == one.pci for card in before):
        raise LabError(
            f"{source}:{lines.find(('card', number, 'pci'))}: {one.pci} is in the lab twice",
            hint="write one table for each card; testers numbers its ports from 0",
        )
    used = [interface for card in before for interface in card.testers if interface]
    for interface in filter(None, one.testers):
        if interface in used:
            raise LabError(
                f"{source}:{lines.find(('card', number, 'testers'))}: {interface} is cabled to two ports",
                hint="an interface takes one cable: name each interface once",
            )
        used.append(interface)
    return RealCard(name, one.pci, one.testers)


def _segments(given: _File, cards: list[Card | RealCard]) -> _Segments:
    found = _Segments()
    for number, cable in enumerate(given.cable):
        found.all.append(Cable(ends=cable.ends))
        found.places += [(("cable", number, "ends", side), end) for side, end in enumerate(cable.ends)]
    for number, switch in enumerate(given.switch):
        found.all.append(Switch(name=switch.name or f"sw{number}", ports=switch.ports))
        found.places += [(("switch", number, "ports", at), port.end) for at, port in enumerate(switch.ports)]
    if not found.all:
        # Nothing said about wires: everything in one switch, with a tester to speak from outside.
        ends = [f"{card.name}:{port}" for card in cards for port in card.wired]
        ports = tuple(SwitchPort(end=end) for end in (*ends, "tester:t0"))
        found.all.append(Switch(name="sw0", ports=ports))
        found.places += [((), port.end) for port in ports]
    return found


class Lines:
    """Which line of a TOML text a setting is on. Knows tables and keys at the start of a line."""

    def __init__(self, text: str) -> None:
        self._known: dict[tuple[str | int, ...], int] = {(): 1}
        counts: dict[str, int] = {}
        table: tuple[str | int, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            if found := re.match(r"\s*\[\[\s*([\w.-]+)\s*\]\]", line):
                name = found[1]
                table = (*name.split("."), counts.get(name, 0))
                counts[name] = counts.get(name, 0) + 1
                self._known[table] = number
            elif found := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
                table = tuple(found[1].split("."))
                self._known[table] = number
            elif found := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line):
                self._known.setdefault((*table, found[1]), number)

    def find(self, place: tuple[str | int, ...]) -> int:
        """The line of ``place`` or of the nearest thing around it."""
        while place not in self._known:
            place = place[:-1]
        return self._known[place]

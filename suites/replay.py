"""``lab replay BUNDLE``: what stood when a test failed, once more: the lab with its wiring and seed, and the
topology in its guest, left standing for a person.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from lab import config as configs
from lab.card.models import MODELS
from lab.errors import LabError
from lab.wire.segments import Wiring
from suites.bundle import REPLAY, REPLAY_FORMAT, REPLAY_SCHEMA
from suites.report.record import Source
from suites.topology import Topology, from_json

#: No part of a bundle that is read here is longer.
LONGEST = 64 << 20
_DAMAGED = "the bundle is damaged: take another"


class _Card(BaseModel):
    name: str
    model: str
    serial: str
    mac: str


class _Lab(BaseModel):
    profile: Literal["fast", "systemd"]
    cards: list[_Card] = Field(min_length=1)
    wiring: list[dict[str, Any]]
    cpus: int
    memory: int
    images: dict[str, str] = {}


class _File(BaseModel):
    test: str
    options: dict[str, Any] = {}
    seed: int
    source: dict[str, Any] = {}
    lab: _Lab
    topology: dict[str, Any] | None


@dataclass(frozen=True)
class Replay:
    """What a bundle says stood."""

    bundle: Path
    test: str
    profile: Literal["fast", "systemd"]
    config: configs.Config
    topology: Topology | None
    options: dict[str, Any] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    source: Source = field(default_factory=Source)

    def command(self, lab: str) -> str:
        """The test, with what chose its case."""
        given = " ".join(f"{name} {value:g}" for name, value in sorted(self.options.items()))
        return f".venv/bin/python -m pytest '{self.test}' --lab {lab} {given}".rstrip()


def load(bundle: Path) -> Replay:
    """Read a bundle: its archive, or a folder it was unpacked into. LabError says what is wrong with it."""
    text = _text(bundle)
    where = f"{bundle}: {REPLAY}"
    try:
        data = json.loads(text)
    except ValueError as problem:
        raise LabError(f"{where}: not JSON: {problem}", hint=_DAMAGED) from problem
    if not isinstance(data, dict) or data.get("format") != REPLAY_FORMAT:
        raise LabError(f"{where}: not what a bundle holds (no format {REPLAY_FORMAT!r})")
    if data.get("schema") != REPLAY_SCHEMA:
        raise LabError(
            f"{where}: of schema {data.get('schema')!r}; this version replays {REPLAY_SCHEMA}",
            hint="check out the commit that its environment.json names",
        )
    try:
        given = _File.model_validate(data)
        wiring = Wiring.model_validate({"segments": given.lab.wiring})
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise LabError(f"{where}: {place}: {first['msg']}", hint=_DAMAGED) from None
    known = {name: given.source[name] for name in vars(Source()) if name in given.source}
    cards = tuple(configs.Card(one.name, one.model, one.serial, one.mac) for one in given.lab.cards)
    for card in cards:
        if card.model not in MODELS:
            raise LabError(f"{where}: there is no card model {card.model!r}")
    config = configs.Config(
        cards=cards,
        wiring=wiring,
        cpus=given.lab.cpus,
        memory=given.lab.memory,
        seed=given.seed,
        source=f"bundle {bundle.name}",
        testers=tuple(end.removeprefix("tester:") for end in wiring.ends() if end.startswith("tester:")),
    )
    topology = from_json(given.topology, where) if given.topology is not None else None
    return Replay(
        bundle,
        given.test,
        given.lab.profile,
        config,
        topology,
        given.options,
        given.lab.images,
        Source(**known),
    )


def _text(bundle: Path) -> str:
    hint = "bundles are in out/bundles; a failed test says which one is its own"
    if bundle.is_dir():
        file = bundle / REPLAY
        if not file.is_file():
            raise LabError(f"{bundle} holds no {REPLAY}: no bundle, or one of an older version", hint=hint)
        return file.read_text(encoding="utf-8", errors="replace")
    if not bundle.is_file():
        raise LabError(f"there is no bundle {bundle}", hint=hint)
    try:
        with tarfile.open(bundle) as tar:
            for member in tar:
                if member.isfile() and Path(member.name).name == REPLAY and len(Path(member.name).parts) <= 2:
                    content = tar.extractfile(member)
                    assert content is not None
                    return content.read(LONGEST).decode(errors="replace")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError) as problem:
        raise LabError(f"{bundle} is no archive, or cut short: {problem}", hint=hint) from problem
    raise LabError(f"{bundle} holds no {REPLAY}: no bundle, or one of an older version", hint=hint)


def differences(replay: Replay, images: dict[str, str], now: Source) -> list[str]:
    """What is not as it was when the test failed."""
    found = []
    if replay.source.tree and replay.source.tree != now.tree:
        found.append(f"sources: {replay.source.tree} then, {now.tree} now")
    for name, digest in sorted(replay.images.items()):
        if images.get(name) != digest:
            found.append(f"image {name}: {digest[:19]} then, {str(images.get(name))[:19]} now")
    return found


def bring_up(name: str, replay: Replay) -> list[str]:
    """The lab of this name as the bundle has it, with its topology standing; returns what differs.

    A lab that is up as something else is left alone: LabError.
    """
    from lab import api
    from lab import state as states
    from lab.paths import Paths
    from suites.place import Placed
    from suites.report.origin import source
    from suites.session import Session

    paths = Paths(name)
    if states.is_alive(paths):
        state = states.read(paths)
        if state.facts.get("config") != replay.config.source:
            raise LabError(
                f"lab {name} is up, and it is not this bundle's",
                hint=f"use another lab: lab --name replay replay {replay.bundle}"
                f" (or stop lab {name} first: make lab-down LAB={name})",
            )
    with api.up(name, profile=replay.profile, config=replay.config) as lab:
        session = Session(lab)
        if replay.topology is not None:
            Placed(session, replay.topology)  # and left standing
        images = {key: str(digest) for key, digest in lab.facts.get("images", {}).items()}
        session.close()
    return differences(replay, images, source())

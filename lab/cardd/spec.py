"""What a card daemon is to serve: a file, checked before anything starts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lab.card.models import model as card_model
from lab.errors import LabError
from lab.wire.segments import Segment, Wiring

#: A unix socket's path, with its final NUL, has 108 bytes.
SOCKET_PATH_LIMIT = 107
MAX_CARDS = 8
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


def _check_socket(path: Path) -> Path:
    if len(str(path).encode()) > SOCKET_PATH_LIMIT:
        raise ValueError(f"{path} is longer than the {SOCKET_PATH_LIMIT} bytes of a socket's name")
    return path


def _check_model(name: str) -> str:
    try:
        return card_model(name).name
    except KeyError as problem:
        raise ValueError(str(problem.args[0])) from None


def _check_mac(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is not an address like 64:3f:5f:01:00:00")
    if int(text[:2], 16) & 1:
        raise ValueError(f"{text} is a multicast address")
    return text.lower()


SocketPath = Annotated[Path, AfterValidator(_check_socket)]


class CardSpec(BaseModel):
    """One card: ``socket`` is where its QEMU connects."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
    model: Annotated[str, AfterValidator(_check_model)]
    serial: Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -~]+$")]
    mac: Annotated[str, AfterValidator(_check_mac)]
    socket: SocketPath


class NicSpec(BaseModel):
    """The outside of a real card's port ``end``: the interface of this machine that is cabled to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    end: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}:\d{1,2}$")]
    interface: Annotated[str, Field(min_length=1, max_length=15)]


class Spec(BaseModel):
    """One lab's hardware. ``trace_dir``: where register traces go; ``core``: see :mod:`lab.wire.fabric`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cards: Annotated[tuple[CardSpec, ...], Field(max_length=MAX_CARDS)]
    nics: tuple[NicSpec, ...] = ()
    wiring: tuple[Segment, ...] = ()
    control: SocketPath
    capture_dir: Path | None = None
    tester_dir: Path | None = None
    trace_dir: Path | None = None
    seed: int = 0
    core: Literal["c", "python"] | None = None
    spin_us: int = Field(default=0, ge=0, le=1000, description="look for the next doorbell that long")
    allow_unsealed: bool = Field(default=False, description="map guest memory that may shrink")

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        for what, values in (
            ("card name", [card.name for card in self.cards]),
            ("serial", [card.serial for card in self.cards]),
            ("interface", [nic.interface for nic in self.nics]),
            ("port", [nic.end for nic in self.nics]),
            ("socket", [str(card.socket) for card in self.cards] + [str(self.control)]),
        ):
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{what} {value!r} is used twice")
        Wiring(segments=self.wiring)  # an end plugged in twice
        return self


def describe(problem: ValidationError) -> str:
    """A pydantic error for people: one line per mistake, each with the field it is about."""
    lines = []
    for error in problem.errors():
        where = ".".join(str(part) for part in error["loc"])
        said = error["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {said}" if where else said)
    return "; ".join(lines)


def parse(text: str, where: str = "spec") -> Spec:
    """A spec from JSON. Raises LabError that names the field."""
    try:
        return Spec.model_validate_json(text)
    except ValidationError as problem:
        raise LabError(f"{where}: {describe(problem)}", hint="see lab/cardd/spec.py for the fields") from None


def load(path: Path) -> Spec:
    """A spec from its file. Raises LabError when it cannot be read or is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise LabError(f"cannot read the spec {path}: {problem}") from problem
    return parse(text, str(path))


def schema() -> str:
    """The JSON schema of a spec, for editors."""
    return json.dumps(Spec.model_json_schema(), indent=2)

"""The wiring as it is written in files and sent over the control socket.

``cardN:P`` is a port, ``tester:NAME`` a tester. Errors are pydantic's, naming the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

_END = re.compile(
    r"(?:(?P<card>[a-z][a-z0-9_-]*):(?P<port>\d{1,2})|tester:(?P<tester>[A-Za-z0-9_.-]{1,64}))\Z"
)
VlanId = Annotated[int, Field(ge=1, le=4094)]


def _check_end(value: str) -> str:
    match = _END.match(value)
    if not match or match["card"] == "tester":
        raise ValueError(f"{value!r} is neither CARD:PORT (card0:0) nor tester:NAME")
    return value


def tester_name(end: str) -> str | None:
    """NAME when ``end`` is ``tester:NAME``, else None."""
    match = _END.match(end)
    return match["tester"] if match else None


EndName = Annotated[str, AfterValidator(_check_end)]


class Cable(BaseModel):
    """A cable between two ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["cable"] = "cable"
    ends: tuple[EndName, EndName]


class SwitchPort(BaseModel):
    """A port of a switch: untagged frames are in VLAN ``pvid`` (None: refused), tagged ones as listed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    end: EndName
    pvid: VlanId | None = 1
    tagged: tuple[VlanId, ...] | Literal["all"] = "all"


class Switch(BaseModel):
    """A learning switch."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["switch"] = "switch"
    name: str = "switch"
    ports: tuple[SwitchPort, ...]


Segment = Annotated[Cable | Switch, Field(discriminator="kind")]


class Wiring(BaseModel):
    """All segments; an end can be in one of them only."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    segments: tuple[Segment, ...] = ()

    @model_validator(mode="after")
    def _ends_once(self) -> Wiring:
        seen: set[str] = set()
        for end in self.ends():
            if end in seen:
                raise ValueError(f"end {end} is plugged in twice")
            seen.add(end)
        return self

    def ends(self) -> list[str]:
        """Every end of every segment, in order."""
        found: list[str] = []
        for segment in self.segments:
            if isinstance(segment, Cable):
                found += segment.ends
            else:
                found += [port.end for port in segment.ports]
        return found


_ADAPTER: TypeAdapter[Wiring] = TypeAdapter(Wiring)


def parse(segments: Iterable[Mapping[str, Any] | Cable | Switch]) -> Wiring:
    """The wiring from its segments as data. Raises pydantic.ValidationError."""
    plain = [item.model_dump() if isinstance(item, BaseModel) else dict(item) for item in segments]
    return _ADAPTER.validate_python({"segments": plain})

"""``[nightly]`` of ``lab/lab.toml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def _calendar(value: str) -> str:
    """A time of day, or what systemd.time(7) calls a calendar event."""
    if not value.strip() or "\n" in value:
        raise ValueError('write a time of day ("01:30"), or a calendar event of systemd ("Mon..Fri 22:00")')
    found = _TIME.fullmatch(value.strip())
    return f"*-*-* {int(found[1]):02d}:{found[2]}:00" if found else value.strip()


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is not absolute: the nightly run may start in another folder")
    return path


_Command = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=64)]


class Settings(BaseModel):
    """How a night runs. Commands are lists of words, run as root in the checkout.

    ``before``: brings the checkout up to date. ``recover``: ends a hang of the card or of what it is in: a
    power switch, IPMI. ``console``: prints the console of that machine all night.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    at: Annotated[str, AfterValidator(_calendar)] = "*-*-* 01:30:00"
    results: Annotated[Path, AfterValidator(_absolute)] | None = None
    keep: Annotated[int, Field(ge=1, le=10_000)] = 60
    wait_minutes: Annotated[float, Field(ge=0, le=1440)] = 240
    patience_minutes: Annotated[float, Field(gt=0, le=1440)] = 120
    recover_minutes: Annotated[float, Field(gt=0, le=240)] = 15
    before: _Command = ()
    recover: _Command = ()
    console: _Command = ()
    bench: bool = True

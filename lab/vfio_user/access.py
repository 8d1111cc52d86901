"""One access of a region by the client, as a trace keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, order=True)
class Access:
    """``ns`` is the monotonic clock; ``kind`` "r" or "w"; ``data`` in the order of the bytes."""

    ns: int
    kind: str
    region: int
    offset: int
    data: bytes


class AccessLog(Protocol):
    """What a server tells of its clients' accesses."""

    def record(self, kind: str, region: int, offset: int, data: bytes) -> None:
        """An access that Python served, now."""

    def extend(self, accesses: Iterable[Access]) -> None:
        """Accesses of a while ago, that the pump served."""

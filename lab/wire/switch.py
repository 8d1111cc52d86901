"""A learning switch with VLANs: which ports a frame leaves by, and with which tag.

Store and forward: a frame with a bad FCS goes nowhere. The address table is bounded; when it is full it is
forgotten as a whole and learnt again, so that the outcome never depends on a hash. The same logic is in
``lab/core/switch.c``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.wire.frame import MAX_FRAME, intact, tag, untag, vlan_of
from lab.wire.segments import Switch

#: Most (VLAN, address) pairs a switch remembers.
TABLE_SIZE = 16384


@dataclass
class SwitchCounters:
    """What the switch did not forward. Frames."""

    bad_fcs: int = 0
    vlan_refused: int = 0
    forgotten: int = 0


@dataclass(frozen=True)
class _Port:
    end: str
    pvid: int | None
    tagged: frozenset[int] | None

    def accepts(self, vlan: int) -> bool:
        """Whether the port is a member of ``vlan``."""
        return vlan == self.pvid or self.tagged is None or vlan in self.tagged


@dataclass
class LearningSwitch:
    """One switch. Ends are names; frames carry their FCS."""

    ports: dict[str, _Port]
    counters: SwitchCounters = field(default_factory=SwitchCounters)
    _table: dict[tuple[int, bytes], str] = field(default_factory=dict)

    @classmethod
    def build(cls, segment: Switch) -> LearningSwitch:
        """The switch of a segment."""
        return cls(
            {
                port.end: _Port(port.end, port.pvid, None if port.tagged == "all" else frozenset(port.tagged))
                for port in segment.ports
            }
        )

    def forget(self) -> None:
        """Empty the address table, as when a link changes."""
        self._table.clear()

    def forward(self, source: str, frame: bytes) -> list[tuple[str, bytes]]:
        """Where a frame that came in on ``source`` goes: (end, frame as it leaves there), in port order."""
        if len(frame) > MAX_FRAME or not intact(frame):
            self.counters.bad_fcs += 1
            return []
        ingress = self.ports[source]
        tagged = vlan_of(frame)
        vlan = ingress.pvid if tagged is None else tagged
        if vlan is None or not ingress.accepts(vlan):
            self.counters.vlan_refused += 1
            return []
        if not frame[6] & 1:
            self._learn(vlan, frame[6:12], source)
        known = None if frame[0] & 1 else self._table.get((vlan, frame[:6]))
        if known is not None:
            targets = [self.ports[known]] if known != source else []
        else:
            targets = [port for end, port in self.ports.items() if end != source and port.accepts(vlan)]
        leaving = [(port.end, _as_leaving(port, frame, vlan, tagged)) for port in targets]
        return [(end, data) for end, data in leaving if len(data) <= MAX_FRAME]

    def _learn(self, vlan: int, address: bytes, source: str) -> None:
        key = (vlan, address)
        if key not in self._table and len(self._table) >= TABLE_SIZE:
            self._table.clear()
            self.counters.forgotten += 1
        self._table[key] = source


def _as_leaving(port: _Port, frame: bytes, vlan: int, tagged: int | None) -> bytes:
    if vlan == port.pvid:
        # An untagged or priority-tagged frame stays as it is on a native port.
        return frame if tagged is None else untag(frame)
    return frame if tagged is not None else tag(frame, vlan)

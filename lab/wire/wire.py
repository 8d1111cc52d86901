"""The wire: what joins the ends, and what happens to frames between them.

An end is a card's port or a tester. Frames (with FCS) enter by :meth:`Wire.send`, pass the sender's rules,
the
cable or switch, the receiver's rules, and leave through the receiver's ``receive``. Everything is synchronous
unless a rule holds a frame. :class:`lab.core.wire.CoreWire` does the same in C where no rule applies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.wire import rules as wire_rules
from lab.wire import segments as wire_segments
from lab.wire.frame import MAX_FRAME, RUNT
from lab.wire.rules import RuleSet
from lab.wire.segments import Cable, Wiring
from lab.wire.switch import LearningSwitch
from lab.wire.timers import Timers

#: How often one frame may be forwarded again within one send: bridging cards can build a loop.
LOOP_LIMIT = 8


class WiringError(ValueError):
    """A segment or a call names an end that does not exist."""


@dataclass
class EndCounters:
    """Frames at one end of the wire."""

    sent: int = 0
    received: int = 0
    no_link: int = 0
    looped: int = 0
    refused: int = 0


@dataclass
class End:
    """One end: ``ready`` when its transmitter is on, ``speed`` in Mb/s (None: any), ``up`` by order."""

    name: str
    receive: Callable[[bytes], None]
    on_link: Callable[[bool], None]
    ready: bool = True
    speed: int | None = None
    up: bool = True
    carrier: bool = False
    counters: EndCounters = field(default_factory=EndCounters)
    rules: dict[str, RuleSet] = field(default_factory=dict)


def ignore_link(_: bool) -> None:
    """An end that does not care about its link."""


class Wire:
    """All segments of a lab. ``seed`` makes the rules repeatable."""

    def __init__(self, seed: int, timers: Timers) -> None:
        self.seed = seed
        self.timers = timers
        self.wiring = Wiring()
        self.ends: dict[str, End] = {}
        self._peers: dict[str, str] = {}
        self._switches: dict[str, LearningSwitch] = {}
        self._depth = 0

    def attach(
        self,
        name: str,
        receive: Callable[[bytes], None],
        on_link: Callable[[bool], None] = ignore_link,
        ready: bool = True,
        speed: int | None = None,
    ) -> None:
        """Bring an end into being; it has no cable until :meth:`apply` says so."""
        self.ends[name] = End(name, receive, on_link, ready, speed)

    def detach(self, name: str) -> None:
        """Take an end away; what it was plugged into loses its link."""
        self.rules(name, [])
        del self.ends[name]
        self._refresh()

    def apply(self, segments: Iterable[Mapping[str, Any]] | Wiring) -> None:
        """Rewire everything at once; rules and orders about links stay with their ends.

        Raises pydantic.ValidationError for bad data and WiringError for an end nobody has attached.
        """
        wiring = segments if isinstance(segments, Wiring) else wire_segments.parse(segments)
        for name in wiring.ends():
            self._end(name)
        self.wiring = wiring
        self._peers.clear()
        self._switches.clear()
        for segment in wiring.segments:
            if isinstance(segment, Cable):
                first, second = segment.ends
                self._peers[first], self._peers[second] = second, first
            else:
                switch = LearningSwitch.build(segment)
                self._switches.update(dict.fromkeys(switch.ports, switch))
        self._rewired()
        self._refresh()

    def set_ready(self, name: str, ready: bool, speed: int | None) -> None:
        """The end's transmitter went on or off, or changed its speed."""
        end = self._end(name)
        if (end.ready, end.speed) != (ready, speed):
            end.ready, end.speed = ready, speed
            self._refresh()

    def set_link(self, name: str, up: bool) -> None:
        """Pull the end's cable (False) or plug it in again, by order of a test."""
        self._end(name).up = up
        self._refresh()

    def carrier(self, name: str) -> bool:
        """Whether the end sees a link now."""
        return self._end(name).carrier

    def rules(self, name: str, rules: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Set the end's rules, in place of those it had; frames held by those go on their way.

        Returns what those were: {"end", "direction", "kind", "acted": on so many frames}.
        """
        end = self._end(name)
        parsed = wire_rules.parse(rules)
        old = list(end.rules.values())
        told = [
            {"end": name, "direction": direction, "kind": kind, "acted": acted}
            for direction, ruleset in end.rules.items()
            for kind, acted in ruleset.acted()
        ]
        end.rules = {}
        exits = {"tx": self._forward, "rx": self._arrive}
        for direction, leave in exits.items():
            chosen = [rule for rule in parsed if rule.direction == direction]
            if chosen:

                def emit(frame: bytes, leave: Callable[[str, bytes], None] = leave) -> None:
                    leave(name, frame)

                end.rules[direction] = RuleSet(f"{name}/{direction}", chosen, self.seed, self.timers, emit)
        self._ruled(end)
        for ruleset in old:
            ruleset.close()
        return told

    def send(self, name: str, frame: bytes) -> None:
        """The end sends a frame (with FCS); one too short or too long to be carried is refused."""
        end = self.ends[name]
        if not RUNT <= len(frame) <= MAX_FRAME:
            end.counters.refused += 1
            return
        end.counters.sent += 1
        ruleset = end.rules.get("tx")
        if ruleset is not None:
            ruleset.process(frame)
        else:
            self._forward(name, frame)

    def counters(self) -> dict[str, dict[str, Any]]:
        """Per end: frames, and what the rules did."""
        found: dict[str, dict[str, Any]] = {}
        for name, end in self.ends.items():
            values: dict[str, Any] = asdict(end.counters)
            for direction, ruleset in end.rules.items():
                values[f"rules_{direction}"] = asdict(ruleset.counters)
            found[name] = values
        for segment in self.wiring.segments:
            if not isinstance(segment, Cable) and segment.ports:
                found[f"switch:{segment.name}"] = self._switch_counters(segment.ports[0].end)
        return found

    def _switch_counters(self, end: str) -> dict[str, Any]:
        return asdict(self._switches[end].counters)

    def _forward(self, name: str, frame: bytes) -> None:
        """Carry a frame from an end, past its rules, to wherever it goes."""
        end = self.ends.get(name)
        if end is None:
            return
        if not end.carrier:
            end.counters.no_link += 1
            return
        if self._depth >= LOOP_LIMIT:
            end.counters.looped += 1
            return
        self._depth += 1
        try:
            switch = self._switches.get(name)
            targets = [(self._peers[name], frame)] if switch is None else switch.forward(name, frame)
            for target, leaving in targets:
                ruleset = self.ends[target].rules.get("rx")
                if ruleset is not None:
                    ruleset.process(leaving)
                else:
                    self._arrive(target, leaving)
        finally:
            self._depth -= 1

    def _arrive(self, name: str, frame: bytes) -> None:
        """Hand a frame, past the rules, to the end it reached."""
        end = self.ends.get(name)
        if end is None:
            return
        if not end.carrier:
            end.counters.no_link += 1
            return
        end.counters.received += 1
        end.receive(frame)

    def _end(self, name: str) -> End:
        try:
            return self.ends[name]
        except KeyError:
            known = ", ".join(sorted(self.ends)) or "none"
            raise WiringError(f"no end {name!r} on the wire; there are: {known}") from None

    def _refresh(self) -> None:
        """Work out every end's link and tell those whose link changed."""
        changed: list[End] = []
        for name, end in self.ends.items():
            carrier = self._sees_link(end, name)
            if carrier != end.carrier:
                end.carrier = carrier
                changed.append(end)
                if name in self._switches:
                    self._switches[name].forget()
        for end in changed:
            self._carrier_changed(end)
            end.on_link(end.carrier)

    def _sees_link(self, end: End, name: str) -> bool:
        if not (end.ready and end.up):
            return False
        if name in self._switches:
            return True
        peer = self.ends.get(self._peers.get(name, ""))
        if peer is None or not (peer.ready and peer.up):
            return False
        return end.speed is None or peer.speed is None or end.speed == peer.speed

    def _rewired(self) -> None:
        """The segments are new: for a wire that keeps them elsewhere too."""

    def _carrier_changed(self, end: End) -> None:
        """The end's link changed: for a wire that keeps it elsewhere too."""

    def _ruled(self, end: End) -> None:
        """The end's rules changed: for a wire that must know which frames to hand over."""

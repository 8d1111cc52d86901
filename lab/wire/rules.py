"""What the wire does to frames on purpose: loss, duplication, reordering, delay, corruption, pause.

Rules belong to one end and one direction ("tx": frames the end sends, "rx": frames it is sent). Whether a
rule
acts on a frame depends only on the seed, the end, the direction, the rule's place and the frame's number
since the rules were set, so a run can be repeated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lab.wire.frame import fcs, vlan_of
from lab.wire.timers import Timer, Timers

Direction = Literal["tx", "rx"]
#: Most frames one pause or reorder rule holds; more are lost and counted.
HELD_LIMIT = 4096


class Match(BaseModel):
    """Which frames a rule is about; everything given must hold. Addresses as ``02:00:00:00:00:01``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dst: str | None = None
    src: str | None = None
    ethertype: int | None = None
    vlan: int | None = None
    protocol: int | None = Field(default=None, description="IP protocol, behind any tag")
    contains: str | None = Field(default=None, description="hexadecimal bytes anywhere in the frame")
    frames: tuple[int, ...] | None = Field(default=None, description="frame numbers, from 0")

    def hit(self, frame: bytes, number: int) -> bool:
        """Whether this frame, the ``number``-th, is meant."""
        if self.frames is not None and number not in self.frames:
            return False
        if self.dst is not None and frame[:6] != _address(self.dst):
            return False
        if self.src is not None and frame[6:12] != _address(self.src):
            return False
        if self.vlan is not None and vlan_of(frame) != self.vlan:
            return False
        at = 16 if frame[12:14] == b"\x81\x00" else 12
        kind = int.from_bytes(frame[at : at + 2], "big")
        if self.ethertype is not None and kind != self.ethertype:
            return False
        if self.protocol is not None:
            place = {0x0800: at + 11, 0x86DD: at + 8}.get(kind)
            if place is None or len(frame) <= place or frame[place] != self.protocol:
                return False
        return self.contains is None or bytes.fromhex(self.contains) in frame


def _address(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    direction: Direction = "tx"
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    count: Annotated[int, Field(ge=0)] | None = Field(default=None, description="act at most so often")
    match: Match = Match()


class Loss(_Rule):
    """The frame vanishes."""

    kind: Literal["loss"] = "loss"


class Duplicate(_Rule):
    """The frame comes ``copies`` more times."""

    kind: Literal["duplicate"] = "duplicate"
    copies: Annotated[int, Field(ge=1, le=64)] = 1


class Reorder(_Rule):
    """The frame waits until ``gap`` later ones have passed, or ``timeout_us``."""

    kind: Literal["reorder"] = "reorder"
    gap: Annotated[int, Field(ge=1, le=1024)] = 1
    timeout_us: Annotated[int, Field(ge=1)] = 100_000


class Delay(_Rule):
    """The frame comes later, by ``delay_us`` plus up to ``jitter_us``."""

    kind: Literal["delay"] = "delay"
    delay_us: Annotated[int, Field(ge=0)]
    jitter_us: Annotated[int, Field(ge=0)] = 0


class Corrupt(_Rule):
    """``bits`` bits flip behind the addresses; the FCS is wrong then, unless ``fix_fcs``."""

    kind: Literal["corrupt"] = "corrupt"
    bits: Annotated[int, Field(ge=1, le=64)] = 1
    fix_fcs: bool = False


class Pause(_Rule):
    """Frames wait until the rules change, or ``duration_us`` after the first; then pass in order."""

    kind: Literal["pause"] = "pause"
    duration_us: Annotated[int, Field(ge=1)] | None = None


Rule = Annotated[Loss | Duplicate | Reorder | Delay | Corrupt | Pause, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


def parse(rules: Iterable[Mapping[str, Any] | _Rule]) -> list[Rule]:
    """Rules from data. Raises pydantic.ValidationError."""
    plain = [item.model_dump() if isinstance(item, BaseModel) else dict(item) for item in rules]
    return _ADAPTER.validate_python(plain)


@dataclass
class RuleCounters:
    """How often each thing was done. Frames."""

    seen: int = 0
    loss: int = 0
    duplicate: int = 0
    reorder: int = 0
    delay: int = 0
    corrupt: int = 0
    pause: int = 0
    overflow: int = 0


@dataclass
class _Stage:
    """A rule at work: how often it has acted, and the frames it holds."""

    rule: Rule
    acted: int = 0
    held: list[tuple[int, bytes]] = field(default_factory=list)
    timer: Timer | None = None


class RuleSet:
    """The rules of one end and direction, in order; each gets what the one before let through.

    ``emit`` is called with every frame that comes out, at once or from a timer.
    """

    def __init__(
        self, name: str, rules: list[Rule], seed: int, timers: Timers, emit: Callable[[bytes], None]
    ) -> None:
        self.counters = RuleCounters()
        self._name = name
        self._seed = seed
        self._timers = timers
        self._emit = emit
        self._stages = [_Stage(rule) for rule in rules]
        self._waiting: dict[int, tuple[Timer, int, bytes]] = {}
        self._tokens = 0

    def acted(self) -> list[tuple[str, int]]:
        """The kind of each rule, and on how many frames it has acted."""
        return [(stage.rule.kind, stage.acted) for stage in self._stages]

    def process(self, frame: bytes) -> None:
        """Take in the next frame."""
        number = self.counters.seen
        self.counters.seen += 1
        self._run(frame, number, 0)
        for place, stage in enumerate(self._stages):
            if isinstance(stage.rule, Reorder):
                self._let_pass(place, stage, number)

    def close(self) -> None:
        """Let go of everything held, in order, past the remaining rules."""
        stages, self._stages = self._stages, []
        for stage in stages:
            if stage.timer is not None:
                stage.timer.cancel()
            for _, frame in stage.held:
                self._emit(frame)
        for timer, _, frame in list(self._waiting.values()):
            timer.cancel()
            self._emit(frame)
        self._waiting.clear()

    def _run(self, frame: bytes, number: int, place: int) -> None:
        while place < len(self._stages):
            stage = self._stages[place]
            place += 1
            if not self._acts(stage, place, frame, number):
                continue
            outcome = self._act(stage, place, frame, number)
            if outcome is None:
                return
            frame = outcome
        self._emit(frame)

    def _acts(self, stage: _Stage, place: int, frame: bytes, number: int) -> bool:
        rule = stage.rule
        if rule.count is not None and stage.acted >= rule.count:
            return False
        if not rule.match.hit(frame, number):
            return False
        if rule.probability < 1 and self._dice(place, number, "act").random() >= rule.probability:
            return False
        stage.acted += 1
        setattr(self.counters, rule.kind, getattr(self.counters, rule.kind) + 1)
        return True

    def _act(self, stage: _Stage, place: int, frame: bytes, number: int) -> bytes | None:
        """Do it. Returns the frame that goes on, None when none does now; ``place`` is the next rule's."""
        rule = stage.rule
        if isinstance(rule, Loss):
            return None
        if isinstance(rule, Duplicate):
            for _ in range(rule.copies):
                self._run(frame, number, place)
            return frame
        if isinstance(rule, Corrupt):
            return self._corrupt(rule, place, frame, number)
        if isinstance(rule, Delay):
            extra = self._dice(place, number, "jitter").randrange(rule.jitter_us + 1)
            self._later((rule.delay_us + extra) / 1e6, frame, number, place)
            return None
        if len(stage.held) >= HELD_LIMIT:
            self.counters.overflow += 1
            return None
        stage.held.append((number, frame))
        wait = rule.timeout_us if isinstance(rule, Reorder) else rule.duration_us
        if stage.timer is None and wait is not None:
            stage.timer = self._timers.after(wait / 1e6, lambda: self._release(place, stage))
        return None

    def _corrupt(self, rule: Corrupt, place: int, frame: bytes, number: int) -> bytes:
        dice = self._dice(place, number, "bits")
        damaged = bytearray(frame)
        first, last = 12 * 8, (len(frame) - 4) * 8
        for position in dice.sample(range(first, last), min(rule.bits, last - first)):
            damaged[position // 8] ^= 1 << position % 8
        if rule.fix_fcs:
            damaged[-4:] = fcs(bytes(damaged[:-4]))
        return bytes(damaged)

    def _later(self, seconds: float, frame: bytes, number: int, place: int) -> None:
        token = self._tokens
        self._tokens += 1

        def arrive() -> None:
            del self._waiting[token]
            self._run(frame, number, place)

        self._waiting[token] = (self._timers.after(seconds, arrive), number, frame)

    def _let_pass(self, place: int, stage: _Stage, newest: int) -> None:
        """Send on the frames of a reorder rule that enough later frames have overtaken."""
        assert isinstance(stage.rule, Reorder)
        while stage.held and newest - stage.held[0][0] >= stage.rule.gap:
            number, frame = stage.held.pop(0)
            self._run(frame, number, place + 1)

    def _release(self, place: int, stage: _Stage) -> None:
        stage.timer = None
        held, stage.held = stage.held, []
        for number, frame in held:
            self._run(frame, number, place)

    def _dice(self, place: int, number: int, what: str) -> random.Random:
        return random.Random(f"{self._seed}/{self._name}/{place}/{number}/{what}")

"""The cabling proved port by port: a frame out of every port, a frame into every port, and where they were
seen.

Frames are of the type for local experiments and name where they started; what is on the wires otherwise goes
on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from lab.api import Lab
from lab.deadline import Deadline, scaled
from lab.errors import DeadlineExpired
from lab.wire.scapy_socket import TesterSocket
from lab.wire.segments import tester_name
from suites import capture
from suites.guest import cabling as guest

#: Addresses that no station has; the ends of a frame's own are in its payload.
_SOURCE, _TARGET = bytes.fromhex("02cab1000001"), bytes.fromhex("02cab1ffffff")
_MARK = b"exalab-cabling "


@dataclass
class Found:
    """One port of a card, by what was seen. Ends are ``card0:0``, ``tester:t0``."""

    end: str
    device: str | None
    said: str | None
    wired: bool
    link: bool = False
    speed: int | None = None
    outside: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def problems(self, interfaces: dict[str, str]) -> list[str]:
        """What is not as the lab has it, each with its remedy; ``interfaces``: of the ends of real ports."""
        if self.device is None:
            return ["has no net device in the guest's first namespace: no driver, or it is in another one"]
        if not self.wired:
            return []
        if not self.link:
            return ["has no link: is the cable plugged in at both ends, and the speed the same?"]
        found = []
        for what, seen in (
            ("what it sends comes out at", self.outside),
            ("what it hears comes in at", self.inside),
        ):
            if seen == [self.end]:
                continue
            names = ", ".join(interfaces.get(end, end) for end in seen)
            if not seen:
                found.append(f"{what} no interface of this machine: the cable leads elsewhere")
            elif self.end not in seen:
                found.append(f"{what} {names}: change testers in lab/lab.toml, or the cables")
            else:
                found.append(f"{what} {names}: more than its own; a switch or a bridge outside joins them")
        if not found and self.reached != self.expected:
            found.append(
                f"reaches {', '.join(self.reached) or 'nobody'}, not {', '.join(self.expected) or 'nobody'}"
            )
        return found


@dataclass
class Cabling:
    """What was found of a lab. ``interfaces``: this machine's, by the end of the real port they are cabled
    to.
    """

    title: str
    cards: list[tuple[str, list[Found]]]
    interfaces: dict[str, str]

    @property
    def good(self) -> bool:
        return not any(one.problems(self.interfaces) for _card, ports in self.cards for one in ports)

    def drawing(self) -> Text:
        """Every port, what is at the other end, and what is wrong with it. Lines are as long as they are."""
        drawn = Text()
        for card, ports in self.cards:
            drawn.append(f"{card}\n", "bold")
            for one in ports:
                self._draw(drawn, one, last=one is ports[-1])
        drawn.rstrip()
        return drawn

    def _draw(self, drawn: Text, one: Found, last: bool) -> None:
        problems = one.problems(self.interfaces)
        drawn.append("└── " if last else "├── ", "dim")
        drawn.append("✗ " if problems else "✓ ", "red" if problems else "green")
        drawn.append(f"port {one.end.partition(':')[2]}  ")
        drawn.append(one.device or "-", "green")
        if not one.wired:
            drawn.append("  not cabled to this machine\n", "dim")
            return
        if one.link:
            drawn.append(f"  {one.speed} Mb/s" if one.speed else "  link", "dim")
        if one.said:
            seen = ", ".join(self.interfaces.get(end, end) for end in one.outside)
            drawn.append(f"  ⇄ {seen or '?'}", "magenta")
        drawn.append(f"  → {', '.join(one.reached) or 'nobody'}\n", "cyan")
        for problem in problems:
            drawn.append("    " if last else "│   ", "dim")
            drawn.append(f"  {problem}\n", "red")


def _frame(start: str) -> bytes:
    head = _TARGET + _SOURCE + guest.TYPE.to_bytes(2, "big")
    return (head + _MARK + start.encode()).ljust(60, b"\0")


def _start(data: bytes) -> str | None:
    """Where a frame of ours started; None for others'."""
    head, mark, rest = data.partition(_MARK)
    return rest.rstrip(b"\0").decode(errors="replace") if mark and head[6:12] == _SOURCE else None


def neighbours(end: str, wiring: list[dict[str, Any]]) -> list[str]:
    """The ends that an untagged frame for nobody known reaches from ``end``."""
    for segment in wiring:
        if segment["kind"] == "cable" and end in segment["ends"]:
            return [other for other in segment["ends"] if other != end]
        if segment["kind"] == "switch":
            vlans = {port["end"]: port["pvid"] for port in segment["ports"]}
            if end in vlans:
                same = [other for other, vlan in vlans.items() if vlan is not None and vlan == vlans[end]]
                return sorted(other for other in same if other != end)
    return []


def prove(lab: Lab) -> Cabling:
    """Look at every port of every card. Raises ``LabError`` only when the lab itself does not answer."""
    from lab import guest_facts

    facts, control = lab.facts, lab.control
    lab.agent.load(guest_facts, guest)
    devices = {}
    for port in lab.agent.call(guest_facts.ports):
        devices[f"{facts['cards'][port['card']]['name']}:{port['port']}"] = str(port["netdev"])
    ends = {one["end"]: one for one in control.ports()}
    wiring = control.status()["wiring"]
    interfaces = {name: str(one["interface"]) for name, one in ends.items() if one.get("interface")}
    found: dict[str, Found] = {}
    for card in facts["cards"]:
        for number in range(card["ports"]):
            name = f"{card['name']}:{number}"
            found[name] = Found(name, devices.get(name), interfaces.get(name), name in ends)
            plugged = [end for end in neighbours(name, wiring) if tester_name(end) or _has_link(ends, end)]
            found[name].expected = sorted(plugged)
    with _listening(lab, devices):
        _look(lab, found, devices, ends)
    cards = []
    for card in facts["cards"]:
        mine = [one for name, one in found.items() if name.partition(":")[0] == card["name"]]
        cards.append((f"{card['name']}  {card['model']}  {card.get('kind', 'emulated')}", mine))
    return Cabling(f"lab {lab.name}", cards, interfaces)


def _has_link(ends: dict[str, Any], end: str) -> bool:
    return end in ends and bool(ends[end]["up"])


@contextlib.contextmanager
def _listening(lab: Lab, devices: dict[str, str]) -> Iterator[None]:
    lab.agent.call(guest.listen, names=list(devices.values()))
    try:
        yield
    finally:
        lab.agent.call(guest.quiet)


def _look(lab: Lab, found: dict[str, Found], devices: dict[str, str], ends: dict[str, Any]) -> None:
    control, agent = lab.control, lab.agent
    by_device = {device: end for end, device in devices.items()}
    asked = [one for one in found.values() if one.wired and one.device]
    limit = Deadline("links", scaled(1.0))
    while True:  # a port that was down takes a moment to have its link
        links = agent.call(guest.links)
        outside = {one["end"]: bool(one["link"]) for one in control.ports()}
        for one in asked:
            seen = links.get(one.device, {"link": False, "speed": None})
            one.link, one.speed = bool(seen["link"]) and outside[one.end], seen["speed"]
        if all(one.link for one in asked) or limit.remaining() <= 0:
            break
        with contextlib.suppress(DeadlineExpired):
            Deadline("a link", 0.05).wait_until(lambda: False)
    talking = [one for one in asked if one.link]
    with contextlib.ExitStack() as stack:
        testers = {}
        for end in ends:
            if name := tester_name(end):
                testers[end] = stack.enter_context(TesterSocket(lab.paths.testers / f"{name}.sock"))
                testers[end].ins.settimeout(0.0)
        began = time.time_ns()
        heard: dict[str, set[str]] = {one.end: set() for one in talking}
        for one in talking:
            agent.call(guest.speak, name=one.device, frame=_frame(one.end).hex())
        for one in talking:
            one.expected = sorted(set(one.expected) - _silent(found))
        wanted = {one.end: set(one.expected) for one in talking}
        limit = Deadline("frames out of every port", scaled(1.0))
        while any(wanted[end] - heard[end] for end in heard) and limit.remaining() > 0:
            for device, data in agent.call(guest.heard, seconds=0.1):
                _note(heard, bytes.fromhex(data), by_device[device])
            for end, tester in testers.items():
                for data in _drain(tester):
                    _note(heard, data, end)
        control.flush()
        for end in found:
            if end in ends:
                for captured in capture.read(lab.paths.capture, end, began):
                    start = _start(captured.frame.data)
                    if captured.sent and start in found:
                        found[start].outside.append(end)
    for one in talking:
        one.outside = sorted(set(one.outside))
        one.reached = sorted(heard[one.end])
    _inwards(lab, talking, by_device)


def _inwards(lab: Lab, talking: list[Found], by_device: dict[str, str]) -> None:
    """A frame into every port from outside, and which ports hear it."""
    agent = lab.agent
    agent.call(guest.heard, seconds=0)
    for one in talking:
        lab.control.inject(one.end, _frame(f"into {one.end}"))
    limit = Deadline("frames into every port", scaled(1.0))
    while not all(one.inside for one in talking) and limit.remaining() > 0:
        for device, data in agent.call(guest.heard, seconds=0.1):
            for one in talking:
                if _start(bytes.fromhex(data)) == f"into {one.end}" and by_device[device] not in one.inside:
                    one.inside.append(by_device[device])


def _silent(found: dict[str, Found]) -> set[str]:
    """Ends without a link hear nothing."""
    return {one.end for one in found.values() if not one.link}


def _note(heard: dict[str, set[str]], data: bytes, end: str) -> None:
    start = _start(data)
    if start in heard and start != end:
        heard[start].add(end)


def _drain(tester: TesterSocket) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while data := tester.recv_raw()[1]:
            yield data

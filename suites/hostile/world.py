"""A victim, a control and a tenant that stand side by side, and what became of them.

    card0:0 -+- v     vlan 6    10.1.0.1    the victim: datagrams and a connection, past the kernel
             +- init  (port)    10.3.0.1    the control: the same by kernel sockets, in the host's namespace
             +- t     vlan 7    10.66.0.1   the tenant: root of its own user namespace, nobody outside
    card0:1 -+- w     vlan 6    10.1.0.2    the other ends
             +- d     macvlan   10.3.0.2

or, where the tenant has a port for itself, with a station on the wire for all that is exchanged:

    card0:0 --- v     (port)    10.1.0.1    victim and control; the station sends everything back
    card0:1 --- t     (port)    10.66.0.1   the tenant, with /dev/exanic0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from lab.deadline import Deadline, scaled
from lab.errors import DeadlineExpired
from lab.guest.client import Agent
from suites import capture, timeline
from suites.capture import Frame
from suites.exasock.compare import SPINNING
from suites.guest import exasock, namespaces, streams
from suites.hostile import guest_card, guest_sockets, guest_victim
from suites.hostile.attacks import HARMLESS, MARK, Attack
from suites.hostile.tenant import Tenant
from suites.outside import Outside, Station
from suites.place import Placed
from suites.session import KERNEL, Session
from suites.topology import INITIAL, Device, Namespace, Topology

Json = dict[str, Any]
VICTIM, CONTROL, NEWCOMER = 1, 2, 3
#: Sockets that the whole machine may have accelerated: few, so that they are soon all taken.
SOCKETS = 128
#: As in ``suites/exasock``: a process that spins may not run for long where a machine is
#: emulated, and shared.
PATIENCE = {"hold_us": 100_000, "fresh_us": 10_000_000, "tcp_hold_us": 100_000, "max_sockets": SOCKETS}
#: Seconds between two rounds of the control.
PACE = 0.02
#: Of what it had beside a harmless neighbour, the victim keeps so much of its fast path.
KEPT = 0.99
#: Rounds that the victim must have had beside each attack: what it keeps of nothing says nothing.
LEAST = 5
#: Why a program's own datagrams and segments are the kernel's: it did not look, or not in time.
OWN = frozenset(
    (
        "idle",
        "timeout",
        "sleep",
        "queue",
        "full",
        "loss",
        "queued",
        "unseen",
        "rest",
        "callers",
        "unused",
        "over",
    )
)
STATION_MAC = "02:7e:57:00:06:66"


class Echo(Station):
    """A station that sends every datagram back to where it came from."""

    def answer(self, frame: Frame) -> bytes | None:
        if frame.protocol != capture.UDP or frame.dst != self.mac or frame.sport is None:
            return super().answer(frame)
        at = 14 + 4 * len(frame.tags)
        data = frame.data
        udp = at + 20
        head = bytes.fromhex((frame.src + self.mac).replace(":", "")) + data[12:at]
        # Both sums stay what they are: the addresses and the ports change places.
        ends = data[at + 16 : at + 20] + data[at + 12 : at + 16]
        return (
            head + data[at : at + 12] + ends + data[udp + 2 : udp + 4] + data[udp : udp + 2] + data[udp + 4 :]
        )


@dataclass
class World:
    """What stands. ``near`` and ``far``: ends of the victim's pair; ``echo``: the far one is on the wire."""

    session: Session
    standing: Placed
    wire: Outside
    tenant: Tenant
    near: Json
    far: Json
    kernel: tuple[Json, Json]
    echo: bool
    tenant_end: str
    cookies: list[int] = field(default_factory=list)
    #: The share of each way that went past the kernel beside a harmless neighbour.
    usual: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    wire_mac = "02:7e:57:00:06:99"

    #: The start of a frame that says it is from the far end to the near one.
    victim_head = b""

    victim: Agent = field(init=False)
    control: Agent = field(init=False)

    def __post_init__(self) -> None:
        self.victim = self.session.programs(SPINNING).worker("victim")
        self.control = self.session.programs(KERNEL).worker("control")
        for worker in (self.victim, self.control):
            worker.load(exasock, streams, guest_victim)

    def begin(self) -> None:
        names = sorted({end["netns"] for end in (self.near, self.far) if end["netns"]})
        self.cookies = [self.session.agent.call(exasock.cookie, netns=name) for name in names]
        known = self.session.agent.call(namespaces.macs, names=["v"])["v"]["lan0"]
        tags = b"" if self.echo else b"\x81\x00\x00\x06"
        self.victim_head = bytes.fromhex((known + self.wire_mac).replace(":", "")) + tags + b"\x08\x00"
        given: Json = {"tcp": not self.echo, "echo": self.echo}
        self.victim.call(guest_victim.start, number=VICTIM, here=self.near, there=self.far, **given)
        here, there = self.kernel
        self.control.call(guest_victim.start, number=CONTROL, here=here, there=there, pace=PACE, **given)
        limit = Deadline("the victim is past the kernel", scaled(6))
        while True:
            before, after = self._during(self.victim_goes_on)
            shares = self._shares(before, after)
            if self._moved(before, after) and min(shares.values()) >= KEPT:
                break
            try:
                limit.check()
            except DeadlineExpired as error:
                raise AssertionError(f"{shares}: {self._why(before, after)}; {after}") from error

    def victim_goes_on(self, rounds: int = 20, number: int = VICTIM) -> None:
        given = {"number": number, "rounds": rounds, "seconds": scaled(5)}
        self.victim.call(guest_victim.goes_on, **given, timeout=scaled(7))

    def _worked(self, before: Json, after: Json) -> bool:
        return after["rounds"] - before["rounds"] >= LEAST and self._moved(before, after)

    def _told(self) -> Json:
        told: Json = self.victim.call(
            guest_victim.told, number=VICTIM, cookies=self.cookies, timeout=scaled(10)
        )
        assert told["alive"] and not told["faults"], f"the victim: {told}"
        return told

    def _during(self, work: Callable[[], object]) -> tuple[Json, Json]:
        before = self._told()
        work()
        return before, self._told()

    def _moved(self, before: Json, after: Json) -> bool:
        """Some of each way went past the kernel."""
        ways = ("sent", "claimed") if self.echo else ("sent", "claimed", "tx_bytes", "rx_bytes")
        return all(after["fast"].get(way, 0) > before["fast"].get(way, 0) for way in ways)

    def _shares(self, before: Json, after: Json) -> dict[str, float]:
        """Of each way, what went past the kernel of all but what the reader was too late for itself: on a
        machine that is busy a process stands still for longer than anything is held. Of a connection:
        messages, less the times that it went home for a reason that is not the program's own."""
        why, messages = self._why(before, after), 2 * (after["messages"] - before["messages"])

        def others(way: str) -> int:
            return sum(n for name, n in why.items() if name.startswith(way) and name.split()[1] not in OWN)

        fast = {name: count - before["fast"].get(name, 0) for name, count in after["fast"].items()}
        shares = {}
        for name, way in (("sent", "tx "), ("claimed", "rx ")):
            done, refused = fast.get(name, 0), others(way)
            shares[name] = done / (done + refused) if done + refused else 1.0
        if messages and not self.echo:
            shares["messages"] = max(1 - others("gives ") / messages, 0.0)
        return shares

    @staticmethod
    def _why(before: Json, after: Json) -> dict[str, int]:
        """Why the rest was the kernel's: {reason: times}."""
        grown = {name: count - before["why"].get(name, 0) for name, count in after["why"].items()}
        return {name: count for name, count in grown.items() if count}

    def beside(self, attack: Attack, seconds: float) -> list[str]:
        """What is to be said against what the victim had of it."""
        done: Counter[str] = Counter()
        self.tenant.known()
        limit = Deadline(f"the victim's work beside {attack.name}", scaled(6) + 3 * seconds)
        with timeline.step(f"{attack.name}: {attack.what}"):
            before, after = self._during(lambda: done.update(attack.run(self, seconds)))
            # Where processes wait for a processor, one attack may be over before it had its turn.
            while limit.remaining() and not self._worked(before, after):
                after = self._during(lambda: done.update(attack.run(self, seconds)))[1]
        found = [f"it did nothing of {what}: {done}" for what in attack.acted if not _acted(done, what)]
        rounds = after["rounds"] - before["rounds"]
        if not self._worked(before, after):
            found.append(f"the victim had {rounds} rounds, {before['fast']} then {after['fast']}")
        shares = self._shares(before, after)
        self.rates[attack.name] = rounds / max(after["seconds"] - before["seconds"], 0.001)
        least = min(share / (self.usual.get(way) or 1.0) for way, share in shares.items())
        self.shares[attack.name] = least
        why = self._why(before, after)
        self.told.append(f"{attack.name}: {dict(done)}; {rounds} rounds, shares {shares}, kernel {why}")
        print(self.told[-1])
        if attack.name == HARMLESS.name:
            self.usual = shares
        elif attack.shares and least < KEPT:
            found.append(
                f"the victim keeps {least:.3f} of its fast path: {shares}, before {self.usual}; {why}"
            )
        told = self.control.call(guest_victim.told, number=CONTROL, timeout=scaled(10))
        if told["faults"] or not told["alive"]:
            found.append(f"the control: {told}")
        if attack.newcomer:
            found += self._newcomer()
        self.tenant.worker.call(guest_sockets.let_go)
        self.tenant.worker.call(guest_card.let_go)
        return [f"{attack.name}: {one}" for one in found]

    def _newcomer(self) -> list[str]:
        """A program that begins now is accelerated as well."""
        here, there = ({**end, "port": end["port"] + 100} for end in (self.near, self.far))
        self.victim.call(
            guest_victim.start, number=NEWCOMER, here=here, there=there, tcp=False, echo=self.echo
        )
        self.victim_goes_on(30, NEWCOMER)
        told = self.victim.call(guest_victim.told, number=NEWCOMER, cookies=self.cookies)
        ended = self.victim.call(guest_victim.end, number=NEWCOMER)
        if not told["fast"].get("sent") or not told["fast"].get("claimed") or ended["faults"]:
            return [f"a newcomer is not past the kernel: {told}"]
        return []

    def leaks(self) -> list[str]:
        """Frames that left the card where they may not: the tenant's, and the victim's and the control's."""
        ends = {"card0:0"} if self.echo else {"card0:0", "card0:1"}
        found = []
        for end in self.session.devices:
            for one in self.wire.captured(end):
                if not one.sent:
                    continue
                frame = one.frame
                hostile = MARK in frame.data or frame.src == self.tenant.mac != self._port_mac(end)
                if hostile and (frame.tags != self.tenant.tags or end != self.tenant_end):
                    found.append(f"{end} sent {frame} of the tenant")
                if guest_victim.MAGIC in frame.data and (end not in ends or frame.tags not in ((), (6,))):
                    found.append(f"{end} sent {frame}, which is not the tenant's")
        return found[:5]

    def card(self) -> dict[str, str]:
        """What the victim's port says of itself and of the card; nothing of it is the tenant's to change."""
        told = {}
        for option in ("--show-priv-flags", "-c", "-g", "-k", "-a", "-n", "-e"):
            argv = ["ethtool", option, "lan0"]
            if option == "-e":  # its addresses, its name and its ports' settings
                argv += ["offset", "0", "length", "96"]
            told[option] = self.session.agent.exec(argv, netns="v", check=False).stdout
        return told

    def _port_mac(self, end: str) -> str:
        return next(str(one["mac"]).lower() for one in self.session.control.ports() if one["end"] == end)

    def end(self) -> None:
        self.victim.call(guest_victim.end_all, timeout=scaled(10))
        self.control.call(guest_victim.end_all, timeout=scaled(10))


def _acted(done: dict[str, int], what: str) -> bool:
    return any(name.startswith(what) and times > 0 for name, times in done.items())


def vlan(name: str, port: int, vid: int, address: str) -> Namespace:
    return Namespace(name, (Device("vlan", "lan0", f"card0:{port}", vid=vid, addresses=(address,)),))


def end(netns: str | None, address: str, port: int) -> Json:
    return {"netns": netns, "address": address, "port": port}


def shared_port(capabilities: str) -> Callable[[Session, Callable[[Topology], Placed], Outside], World]:
    """The tenant has a VLAN of the victim's port."""

    def made(session: Session, place: Callable[[Topology], Placed], wire: Outside) -> World:
        host = Namespace(INITIAL, (Device("port", "eth", "card0:0", addresses=("10.3.0.1/24",)),))
        far = Device("macvlan", "lan0", "card0:1", mac="02:00:00:00:dd:02", addresses=("10.3.0.2/24",))
        pair = (vlan("v", 0, 6, "10.1.0.1/24"), vlan("w", 1, 6, "10.1.0.2/24"))
        standing = place(Topology("a tenant on the victim's port", (*pair, host, Namespace("d", (far,)))))
        device = Device("vlan", "lan0", "card0:0", vid=7, addresses=("10.66.0.1/24",))
        tenant = Tenant(session, capabilities, device, (7,))
        return World(
            session, standing, wire, tenant, end("v", "10.1.0.1", 7001), end("w", "10.1.0.2", 7002),
            (end(None, "10.3.0.1", 7003), end("d", "10.3.0.2", 7004)), False, "card0:0",
        )  # fmt: skip

    return made


def own_port(capabilities: str) -> Callable[[Session, Callable[[Topology], Placed], Outside], World]:
    """The tenant has the card's other port, and the card's device file."""

    def made(session: Session, place: Callable[[Topology], Placed], wire: Outside) -> World:
        port = Device("port", "lan0", "card0:0", addresses=("10.1.0.1/24",))
        standing = place(Topology("a tenant with a port", (Namespace("v", (port,)),)))
        station = Echo(STATION_MAC, "10.1.0.2")
        wire.stations[station.tags, station.ip] = station
        device = Device("port", "lan0", "card0:1", addresses=("10.66.0.1/24",))
        tenant = Tenant(session, capabilities, device, (), ("/dev/exanic0",))
        return World(
            session, standing, wire, tenant, end("v", "10.1.0.1", 7001), end(None, "10.1.0.2", 7002),
            (end("v", "10.1.0.1", 7003), end(None, "10.1.0.2", 7004)), True, "card0:1",
        )  # fmt: skip

    return made


@contextmanager
def standing(world: World) -> Iterator[World]:
    """Everything at work; afterwards nothing is left of it."""
    with ExitStack() as stack:
        stack.callback(world.tenant.leave)
        world.tenant.enter(world.standing)
        stack.callback(world.end)
        world.begin()
        yield world

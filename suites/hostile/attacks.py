"""Every attack: its name, who makes it, what it does, and what says that it acted.

An attack is a function of the world and of how long it goes on, and returns {what: times}.
"""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from lab.deadline import scaled
from suites.hostile import guest_card, guest_devices, guest_sockets, guest_tenancy, guest_victim

if TYPE_CHECKING:
    from suites.hostile.world import World

Done = dict[str, int]
#: Frames of one burst, and seconds between two: a flood that a port can take in, so that nothing is lost.
BURST, PAUSE = 40, 0.05
MARK = b"exalab-hostile"
#: In frames from the wire for the victim's own address: what its kernel answers may quote them.
STRANGER = b"exalab-stranger"
FLAGS = "--set-priv-flags"


@dataclass(frozen=True)
class Attack:
    """``acted``: beginnings of what it must have done. ``shares``: whether the victim must keep its fast
    path; not where the attacker speaks in the victim's own segment, with the victim's own addresses."""

    name: str
    what: str
    run: Callable[[World, float], Done]
    acted: tuple[str, ...]
    shares: bool = True
    #: Afterwards, while the attacker has what it got: somebody new is accelerated as well.
    newcomer: bool = False


#: Seconds, of a machine with KVM: what an attack needs at most to get all that it can have.
PATIENCE = 3.0


def inside(
    function: Callable[..., Done], patient: bool = False, **given: Any
) -> Callable[[World, float], Done]:
    """An attack that the tenant makes by itself."""

    def run(world: World, seconds: float) -> Done:
        more = {"patience": scaled(PATIENCE)} if patient else {}
        timeout = seconds + scaled(12)
        told: Done = world.tenant.worker.call(function, seconds=seconds, timeout=timeout, **given, **more)
        return told

    return run


def moving(world: World, seconds: float) -> Done:
    return inside(guest_devices.moving, device="lan0", address=f"{world.tenant.address}/24")(world, seconds)


def addressed(function: Callable[..., Done], **given: Any) -> Callable[[World, float], Done]:
    """The same, and it is told its address."""

    def run(world: World, seconds: float) -> Done:
        return inside(function, address=world.tenant.address, **given)(world, seconds)

    return run


# --- from the wire ------------------------------------------------------------------------------------------


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def packet(
    source: str,
    to: str,
    body: bytes,
    *,
    protocol: int = 17,
    fragment: int = 0,
    options: bytes = b"",
    number: int = 0,
) -> bytes:
    """An IPv4 packet, its header's checksum right."""
    sizes = (0x45 + len(options) // 4, 0, 20 + len(options) + len(body), number & 0xFFFF)
    head = struct.pack("!BBHHHBBH", *sizes, fragment, 64, protocol, 0)
    ends = IPv4Address(source).packed + IPv4Address(to).packed
    return head[:10] + checksum(head + ends + options) + ends + options + body


def udp(sport: int, dport: int, data: bytes) -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def flood(world: World, seconds: float, frame: Callable[[int], bytes]) -> Done:
    """Bursts of frames from the wire for so long."""
    stop, sent = threading.Event(), 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not sent:
        for _ in range(BURST):
            world.wire.send(frame(sent))
            sent += 1
        stop.wait(PAUSE)
    return {"sent": sent}


def to_tenant(world: World, source: str, to: str, body: bytes, **given: Any) -> bytes:
    return world.tenant.head(world.wire_mac) + packet(source, to, body, **given)


def fragments(world: World, seconds: float) -> Done:
    """First, middle and last fragments of datagrams that are never whole, for the tenant's device."""

    def frame(number: int) -> bytes:
        source, at = f"10.88.{number >> 8 & 255}.{number & 255}", (0x2000, 0x2005, 0x000A)[number % 3]
        given = {"fragment": at, "number": number}
        return to_tenant(world, source, world.tenant.address, MARK + bytes(26), **given)

    return flood(world, seconds, frame)


def options(world: World, seconds: float) -> Done:
    """UDP and TCP with IP options, for the tenant's device and for whatever address."""
    route = bytes([7, 7, 4, 0, 0, 0, 0, 0])

    def frame(number: int) -> bytes:
        to = world.tenant.address if number % 2 else f"10.99.0.{number & 255}"
        body = udp(9, 9, MARK + bytes(24))
        return to_tenant(world, "10.66.0.200", to, body, protocol=6 if number % 3 else 17, options=route)

    return flood(world, seconds, frame)


def sources(world: World, seconds: float) -> Done:
    """Datagrams from ever new addresses, for the tenant's device."""
    draw = random.Random(5)

    def frame(_number: int) -> bytes:
        source = f"10.66.{draw.randrange(256)}.{draw.randrange(1, 255)}"
        body = udp(draw.randrange(1024, 65536), 7777, MARK + bytes(8))
        return to_tenant(world, source, world.tenant.address, body)

    return flood(world, seconds, frame)


def at_victim(world: World, seconds: float) -> Done:
    """Fragments, options and new sources in the victim's own segment, to its own address."""
    kinds: tuple[Done | dict[str, bytes], ...] = ({"fragment": 0x2001}, {"options": bytes([1, 1, 1, 0])}, {})

    def frame(number: int) -> bytes:
        source, given = f"10.1.{number >> 8 & 255}.{number & 255 or 1}", kinds[number % len(kinds)]
        body = udp(9, 9, STRANGER + bytes(25))
        made = packet(source, world.near["address"], body, number=number, **given)
        return world.victim_head + made

    return flood(world, seconds, frame)


def forged(world: World, seconds: float) -> Done:
    """Segments of the victim's own connection: resets, SYNs, data, acknowledgments, urgent ones, with numbers
    that TCP is to answer or to drop, not to obey."""
    draw = random.Random(6)
    near, far = world.near, world.far
    ends = IPv4Address(far["address"]).packed + IPv4Address(near["address"]).packed

    def frame(_number: int) -> bytes:
        flags = draw.choice((0x04, 0x14, 0x02, 0x12, 0x18, 0x10, 0x11, 0x00, 0x29))
        data = STRANGER + b"!" if flags == 0x18 else b""
        numbers = (draw.getrandbits(32), draw.getrandbits(32))
        rest = (0x50, flags, draw.choice((0, 1, 65535)), 0, 0)
        head = struct.pack("!HHIIBBHHH", far["port"], near["port"], *numbers, *rest)
        pseudo = ends + struct.pack("!BBH", 0, 6, 20 + len(data))
        segment = head[:16] + checksum(pseudo + head + data) + head[18:] + data
        return world.victim_head + packet(far["address"], near["address"], segment, protocol=6)

    return flood(world, seconds, frame)


def stalled(world: World, seconds: float) -> Done:
    """The tenant's own port has no link again and again while it sends."""
    control, stop = world.session.control, threading.Event()
    done = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or done < 2:
        control.link(world.tenant_end, False)
        stop.wait(PAUSE)
        control.link(world.tenant_end, True)
        stop.wait(PAUSE)
        done += 1
    return {"stalls": done}


# --- by both ------------------------------------------------------------------------------------------------

#: What a datagram's bytes say where a slot's header would be, if they were taken for one: the frame's length.
LENGTHS = (0, 60, 2000, 0xFFFFFFE0)
PORT = 7666


def imitations(world: World) -> Iterator[bytes]:
    """Datagrams of four slots each whose inner slots look like headers of the kernel's own."""
    number = 0
    while True:
        length = LENGTHS[number % len(LENGTHS)]
        payload = bytearray(MARK + bytes(1458))
        for slot in (1, 2):
            at = slot * 512 - 64 - 42 - (4 if world.tenant.tags else 0)
            header = struct.pack("=IHHIIHHiIHBBQQI", number, 0, 64, 1, 2, 9, 9, 1, 0, 0, 64, 0, 0, 0, length)
            frame = bytes.fromhex("ffffffffffff020000000666") + b"\x08\x00" + MARK * 8
            payload[at : at + len(header) + 12 + len(frame)] = header + bytes(12) + frame
        body = udp(9, PORT, bytes(payload[:1472]))
        yield to_tenant(world, "10.66.0.200", world.tenant.address, body, number=number)
        number += 1


def scribbling(world: World, seconds: float) -> Done:
    """The control page claims what is not held, while datagrams imitate the kernel's descriptions."""
    given = {"seconds": seconds, "address": world.tenant.address, "port": PORT, "patience": scaled(PATIENCE)}
    call = {"module": guest_sockets.__name__, "function": "scribbling", "kwargs": given}
    pending = world.tenant.worker.submit("call", **call)
    made, stop, sent = imitations(world), threading.Event(), 0
    while not pending.done():
        for _ in range(BURST // 4):
            world.wire.send(next(made))
            sent += 1
        stop.wait(PAUSE)
    told: Done = pending.result(scaled(6))
    return told | {"sent": sent}


def sneaking(world: World, seconds: float) -> Done:
    others, cookies = [one.name for one in world.standing.topology.namespaces], world.cookies
    given = {"others": [name for name in others if name != "init"], "cookies": cookies}
    return addressed(guest_sockets.sneaking, **given)(world, seconds)


GIFTS = "/run/hostile/gifts"


def giving(world: World, seconds: float) -> Done:
    """Its descriptors are sent into the victim's process."""
    given = {"path": GIFTS, "seconds": seconds + scaled(6)}
    call = {"module": guest_victim.__name__, "function": "take_gifts", "kwargs": given}
    pending = world.victim.submit("call", **call)
    world.session.agent.call(guest_tenancy.await_path, path=GIFTS, seconds=scaled(3))
    told = addressed(guest_sockets.giving, path=GIFTS)(world, seconds)
    taken: Done = pending.result(scaled(6))
    return told | taken


def owned_fragments(world: World, seconds: float) -> Done:
    world.tenant.knows("10.66.0.99")
    return addressed(guest_sockets.fragments, device="lan0", to="10.66.0.99")(world, seconds)


HARMLESS = Attack("harmless", "it computes", inside(guest_devices.nothing), ("questions",))
DEVICES = (
    Attack("flapping", "its device goes down and up", inside(guest_devices.flapping), ("flaps",)),
    Attack("readdressing", "other addresses, MAC and IP", inside(guest_devices.readdressing), ("addresses",)),
    Attack("renaming", "its device has other names", inside(guest_devices.renaming), ("names",)),
    Attack("moving", "its device moves between its namespaces", moving, ("moves",)),
    Attack("routes", "its routes, rules, neighbours", inside(guest_devices.routes), ("routes",)),
    Attack("macvlans", "macvlans on its device", inside(guest_devices.macvlans), ("macvlans",)),
    Attack("dummies", "macvlans on a dummy", inside(guest_devices.dummies), ("macvlans",)),
    Attack("ethtool", "everything that ethtool sets", inside(guest_devices.ethtool), (FLAGS,)),
)
WIRE = (
    Attack("fragments", "a flood of fragments for it", fragments, ("sent",)),
    Attack("options", "a flood of IP options for it", options, ("sent",)),
    Attack("sources", "a flood of new sources for it", sources, ("sent",)),
    Attack("own fragments", "fragments from its own device", owned_fragments, ("sent",)),
    Attack("at the victim", "all that, in the victim's segment", at_victim, ("sent",), shares=False),
    Attack("forged", "segments of the victim's connection", forged, ("sent",), shares=False),
)
SCRIBBLED = ("held", "claims", "flushes", "sent")
HOARDING = addressed(guest_sockets.hoarding, patient=True)
CONNECTIONS = addressed(guest_sockets.hoarding_connections, patient=True)
SOCKETS = (
    Attack("scribbling", "its control page lies", scribbling, SCRIBBLED),
    Attack("calling", "every call, hostile", inside(guest_sockets.calling, seed=1), ("calls", "attached")),
    Attack("dying", "killed in the middle of everything", addressed(guest_sockets.dying), ("killed",)),
    Attack("giving", "its descriptors, into the victim's process", giving, ("given", "sockets", "files")),
    Attack("hoarding", "all sockets it can have", HOARDING, ("attached", "refused"), newcomer=True),
    Attack("connections", "all connections it can have", CONNECTIONS, ("attached", "refused"), newcomer=True),
    Attack("modules", "the modules unloaded", inside(guest_sockets.modules), ("delete EPERM", "init EPERM")),
)
ROOT_SOCKETS = (Attack("sneaking", "into other namespaces", sneaking, ("list EPERM", "attached own")),)
PAGES = inside(guest_card.hoarding, port=1)
CARD = (
    Attack("card calls", "every call of /dev/exanic0", inside(guest_card.calling, seed=1), ("ok",)),
    Attack("card maps", "every page of /dev/exanic0", inside(guest_card.mapping, seed=1), ("ring1 ok",)),
    Attack(
        "card hoarding",
        "all transmit memory and slots",
        PAGES,
        ("pages", "slots", "pages ENOMEM", "slots ENOMEM"),
        newcomer=True,
    ),
    Attack("port flapping", "its port goes down and up", inside(guest_devices.flapping), ("flaps",)),
    Attack("port addresses", "its port's addresses", inside(guest_devices.readdressing), ("addresses",)),
    Attack("port ethtool", "everything that ethtool sets", inside(guest_devices.ethtool), (FLAGS,)),
    Attack("port scribbling", "its control page lies", scribbling, SCRIBBLED),
    Attack("stalled", "its port has no link again and again", stalled, ("stalls",)),
)

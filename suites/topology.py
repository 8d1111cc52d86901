"""Topologies as data: which namespace has which device on which port, with which addresses, wired how.

A topology is checked before anything is built, drawn as text (``print(topology)``; the drawings at the head
of the test files come from here) and as SVG (``suites.drawing``) for the report and the bundle of a failed
test. ``as_json`` and ``from_json``: for the bundle, and back for its replay.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import Any, Literal

from lab.errors import LabError

#: The name of the namespace the guest starts in; it is never created or destroyed.
INITIAL = "init"
Kind = Literal["port", "vlan", "macvlan"]
_END = re.compile(r"[a-z][a-z0-9_-]*:\d{1,2}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
#: Alike namespaces drawn one by one before the rest is summed up.
_DRAWN = 6


class TopologyError(LabError):
    """The topology contradicts itself; says where."""


@dataclass(frozen=True)
class Device:
    """A network device of a namespace.

    ``on``: the port below it (``card0:0``), or ``./NAME``, a device of the same namespace. A ``port`` is the
    card's own net device. ``addresses`` with prefix length: ``10.0.0.1/24``. ``mac`` None: the kernel chooses
    (a VLAN has its port's, a macvlan a random one).
    """

    kind: Kind
    name: str
    on: str
    vid: int | None = None
    mac: str | None = None
    mtu: int | None = None
    mode: str | None = None
    addresses: tuple[str, ...] = ()

    @property
    def ip(self) -> str:
        """The first address, without prefix length."""
        return str(IPv4Interface(self.addresses[0]).ip)


@dataclass(frozen=True)
class Namespace:
    """A network namespace. ``routes``: (destination, gateway address or device name)."""

    name: str
    devices: tuple[Device, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    neighbours: tuple[tuple[str, str, str], ...] = ()

    def device(self, name: str | None = None) -> Device:
        """A device by its name; the only or first one without."""
        for device in self.devices:
            if name is None or device.name == name:
                return device
        raise KeyError(f"namespace {self.name} has no device {name or 'at all'}")

    @property
    def ip(self) -> str:
        return self.device().ip

    @property
    def netns(self) -> str | None:
        """As the guest's modules take it: None for the initial namespace."""
        return None if self.name == INITIAL else self.name


@dataclass(frozen=True)
class Topology:
    """Everything a test stands on. ``wiring``: segments as ``lab.wire`` takes them; None: the lab's own."""

    name: str
    namespaces: tuple[Namespace, ...] = ()
    wiring: tuple[Mapping[str, Any], ...] | None = None
    _by_name: dict[str, Namespace] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for namespace in self.namespaces:
            if namespace.name in self._by_name:
                raise TopologyError(f"topology {self.name}: namespace {namespace.name} is described twice")
            self._by_name[namespace.name] = namespace
        Checker(self).check()

    def __getitem__(self, name: str) -> Namespace:
        return self._by_name[name]

    def __str__(self) -> str:
        return "\n".join(draw(self))

    def ports(self) -> list[str]:
        """The ports it uses, in order."""
        return sorted({device.on for device in self._outer_devices()})

    def _outer_devices(self) -> Iterator[Device]:
        for namespace in self.namespaces:
            yield from (device for device in namespace.devices if not device.on.startswith("./"))

    def place(self, namespace: Namespace, device: Device) -> tuple[str, tuple[int, ...]]:
        """Where a device meets the wire: its port, and the VLAN tags its frames carry, outermost first."""
        tags = (device.vid,) if device.vid is not None else ()
        if not device.on.startswith("./"):
            return device.on, tags
        port, outer = self.place(namespace, namespace.device(device.on[2:]))
        return port, outer + tags

    def specs(self, devices: Mapping[str, str]) -> list[dict[str, Any]]:
        """What ``suites.guest.namespaces.create`` takes; ``devices``: the net device of each port."""
        specs = []
        for namespace in self.namespaces:
            if namespace.name == INITIAL:
                continue
            told = [device_spec(device, devices) for device in namespace.devices]
            routes = [list(route) for route in namespace.routes]
            neighbours = [list(one) for one in namespace.neighbours]
            specs.append(
                {"name": namespace.name, "devices": told, "routes": routes, "neighbours": neighbours}
            )
        return specs


def device_spec(device: Device, devices: Mapping[str, str]) -> dict[str, Any]:
    """A device as the guest's modules take it."""
    told: dict[str, Any] = {name: value for name, value in vars(device).items() if value is not None}
    told["addresses"] = list(device.addresses)
    if not device.on.startswith("./"):
        told["on"] = devices[device.on]
    return told


class Checker:
    """Says what is wrong with a topology before a kernel would, and in the topology's own words."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.moved: dict[str, str] = {}
        self.vlans: dict[tuple[str, int], str] = {}

    def check(self) -> None:
        for namespace in self.topology.namespaces:
            self._name(namespace.name, "namespace")
            known: set[str] = set()
            for device in namespace.devices:
                where = f"{namespace.name}/{device.name}"
                self._name(device.name, "device")
                if device.name in known:
                    self._fail(where, "two devices of that name")
                self._device(namespace, device, known, where)
                known.add(device.name)
            self._routes(namespace, known)
        for end, owner in self.moved.items():
            for device, where in self._all_devices():
                if device.on == end and device.kind != "port" and where.split("/")[0] != owner:
                    self._fail(where, f"{end} lives in {owner}: no other namespace can build on it")

    def _all_devices(self) -> Iterator[tuple[Device, str]]:
        for namespace in self.topology.namespaces:
            for device in namespace.devices:
                yield device, f"{namespace.name}/{device.name}"

    def _fail(self, where: str, what: str) -> None:
        raise TopologyError(f"topology {self.topology.name}: {where}: {what}")

    def _name(self, name: str, what: str) -> None:
        if not _NAME.fullmatch(name):
            self._fail(name, f"no name for a {what} (1 to 15 of A-Z a-z 0-9 _ . -)")

    def _device(self, namespace: Namespace, device: Device, known: set[str], where: str) -> None:
        if device.on.startswith("./"):
            if device.on[2:] not in known:
                self._fail(where, f"stands on {device.on}, which is not described before it")
            if device.kind == "port":
                self._fail(where, "a port stands on the card")
        elif not _END.fullmatch(device.on):
            self._fail(where, f"{device.on!r} is no port: card0:0, or ./NAME for a device beside it")
        if device.kind == "port":
            if device.on in self.moved:
                self._fail(where, f"{device.on} is already in {self.moved[device.on]}")
            if namespace.name != INITIAL:
                self.moved[device.on] = namespace.name
        if (device.kind == "vlan") != (device.vid is not None):
            self._fail(where, "a vlan has a vid, and nothing else does")
        if device.vid is not None:
            self._vlan(namespace, device, where)
        for text in device.addresses:
            try:
                IPv4Interface(text)
            except (AddressValueError, NetmaskValueError) as error:
                self._fail(where, str(error))

    def _vlan(self, namespace: Namespace, device: Device, where: str) -> None:
        assert device.vid is not None
        if not 1 <= device.vid <= 4094:
            self._fail(where, f"VLAN {device.vid} is not in 1..4094")
        key = (device.on if not device.on.startswith("./") else f"{namespace.name}{device.on}", device.vid)
        if key in self.vlans:
            self._fail(where, f"VLAN {device.vid} of {device.on} is already {self.vlans[key]}")
        self.vlans[key] = where

    def _routes(self, namespace: Namespace, known: set[str]) -> None:
        for to, via in namespace.routes:
            try:
                IPv4Network(to)
                if via not in known:
                    IPv4Address(via)
            except (AddressValueError, NetmaskValueError, ValueError) as error:
                self._fail(namespace.name, f"route {to} via {via}: {error}")
        for device, _address, _mac in namespace.neighbours:
            if device not in known:
                self._fail(namespace.name, f"a neighbour on {device}, which it does not have")


def layout(topology: Topology) -> str:
    """How the address ranges lie: what tells the cases of a report apart."""
    if len(topology.namespaces) < 2:
        return "one namespace"
    owners: dict[str, set[str]] = defaultdict(set)
    for namespace in topology.namespaces:
        for device in namespace.devices:
            for address in device.addresses:
                owners[str(IPv4Interface(address).ip)].add(namespace.name)
    if any(len(names) > 1 for names in owners.values()):
        return "overlapping addresses"
    return "addresses of their own" if owners else "no addresses"


# --- files --------------------------------------------------------------------------------------------------


def as_json(topology: Topology) -> dict[str, Any]:
    """What :func:`from_json` takes."""
    wiring = None if topology.wiring is None else [dict(segment) for segment in topology.wiring]
    return {
        "name": topology.name,
        "namespaces": [asdict(namespace) for namespace in topology.namespaces],
        "wiring": wiring,
    }


def from_json(data: Any, where: str) -> Topology:
    """The topology again, checked. TopologyError names the field; ``where``: the file."""
    from pydantic import TypeAdapter, ValidationError

    try:
        if not isinstance(data, dict):
            raise ValueError(f"no topology, but {type(data).__name__}")
        namespaces = TypeAdapter(tuple[Namespace, ...]).validate_python(data.get("namespaces"))
        wiring = TypeAdapter(tuple[dict[str, Any], ...] | None).validate_python(data.get("wiring"))
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TopologyError(f"{where}: {place or 'namespaces'}: {first['msg']}") from None
    except ValueError as problem:
        raise TopologyError(f"{where}: {problem}") from None
    return Topology(str(data.get("name", "")), namespaces, wiring)


# --- drawing ------------------------------------------------------------------------------------------------


def _label(device: Device) -> str:
    kind = f"vlan {device.vid}" if device.kind == "vlan" else device.kind
    return "  ".join(part for part in (kind, *device.addresses, device.mac or "") if part)


def rows(topology: Topology) -> dict[str, list[tuple[str, str, str]]]:
    """For each port: namespace, device and label of what stands on it, in order."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for namespace in topology.namespaces:
        for device in namespace.devices:
            port, _tags = topology.place(namespace, device)
            on = f" on {device.on[2:]}" if device.on.startswith("./") else ""
            found[port].append((namespace.name, device.name, _label(device) + on))
    return dict(sorted(found.items()))


def summed(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """So many that they can be drawn: the first ones, how many more, the last one."""
    if len(rows) <= _DRAWN:
        return rows
    return [*rows[: _DRAWN - 2], ("...", "", f"{len(rows) - _DRAWN + 1} more"), rows[-1]]


def wiring_lines(wiring: Iterable[Mapping[str, Any]] | None) -> list[str]:
    """One line for each segment."""
    if wiring is None:
        return ["wire: as the lab has it"]
    lines = []
    for segment in wiring:
        if segment["kind"] == "cable":
            lines.append("cable: " + " === ".join(segment["ends"]))
        else:
            ends = " === ".join(port["end"] for port in segment["ports"])
            lines.append(f"switch {segment.get('name', '')}: {ends}")
    return lines or ["no wire"]


def draw(topology: Topology) -> list[str]:
    """The topology as lines of ASCII."""
    count = len(topology.namespaces)
    lines = [f"{topology.name}: {count} namespace{'s' if count != 1 else ''}", ""]
    for port, all_of_it in rows(topology).items():
        shown = summed(all_of_it)
        widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
        for number, (namespace, device, label) in enumerate(shown):
            head = port if number == 0 else " " * len(port)
            joint = "---" if len(shown) == 1 else "-+-" if number == 0 else " +-"
            line = f"{head} {joint} {namespace:<{widths[0]}}  {device:<{widths[1]}}  {label}"
            lines.append(line.rstrip())
    lines += ["", *wiring_lines(topology.wiring)]
    return lines


# --- the usual ones -----------------------------------------------------------------------------------------


def vlans(
    count: int,
    port: str,
    *,
    host: int | None = 1,
    prefix: str = "n",
    first_vid: int = 101,
) -> list[Namespace]:
    """``count`` namespaces, each with one VLAN of ``port``.

    With ``host`` every one of them has the same address 10.0.0.HOST/24; with None each has its own in 10/8.
    """
    made = []
    for number in range(count):
        address = (
            f"10.0.0.{host}/24" if host is not None else f"10.{1 + number // 250}.{number % 250 + 1}.1/24"
        )
        device = Device("vlan", "eth0", port, vid=first_vid + number, addresses=(address,))
        made.append(Namespace(f"{prefix}{number + 1}", (device,)))
    return made


def tester_mac(number: int) -> str:
    """Locally administered addresses for stations that exist only on the tester's side."""
    return f"02:7e:57:{number >> 16 & 0xFF:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}"

"""Network namespaces in bulk: created from data, changed, destroyed until the kernel has let go of them.

A namespace is known by the name it has under /run/netns (so ``ip netns`` shows it). A specification is what
``suites.topology`` makes of a topology::

    {"name": "n1",
     "devices": [{"kind": "vlan", "name": "eth0", "on": "eth2", "vid": 7, "addresses": ["10.0.0.1/24"]}],
     "routes": [["0.0.0.0/0", "10.0.0.254"]],
     "neighbours": [["eth0", "10.0.0.2", "02:00:00:00:00:02"]]}

Device kinds: ``port`` (the device ``on`` of the initial namespace itself moves in, as ``name``), ``vlan`` and
``macvlan`` on a device of the initial namespace, or of the same namespace (``"on": "./eth0"``). Optional:
``mac``, ``mtu``, ``mode`` (of a macvlan).

What is done in the initial namespace for all of them is one batch of ip(8), what is done inside is one each.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.guest.agent import NETNS_DIR, in_netns
from suites.guest import iproute

SIOCGIFHWADDR = 0x8927
#: Numbers given to our namespaces in the initial one start here; the kernel gives out small ones by itself.
FIRST_NSID = 100_000

Json = dict[str, Any]


@dataclass
class Namespace:
    """A live namespace. ``ports``: devices lent by the initial one, {their name here: name at home}."""

    name: str
    nsid: int
    ports: dict[str, str] = field(default_factory=dict)


namespaces: dict[str, Namespace] = {}
#: An earlier client's may live on: begin where it cannot have been.
_nsids = itertools.count(FIRST_NSID + 1 + int(time.monotonic() * 100))


def _names() -> set[str]:
    return {path.name for path in NETNS_DIR.glob("*")}


# --- lines for ip(8) ----------------------------------------------------------------------------------------


def _options(device: Json) -> str:
    """What is given on the way: MAC address and MTU."""
    given = (("address", device.get("mac")), ("mtu", device.get("mtu")))
    return "".join(f" {option} {value}" for option, value in given if value)


def _add(device: Json, on: str, name: str, netns: str = "") -> str:
    """The line that makes a VLAN or macvlan, down."""
    if device["kind"] == "vlan":
        kind = f"vlan id {device['vid']}"
    elif device["kind"] == "macvlan":
        kind = f"macvlan mode {device.get('mode') or 'bridge'}"
    else:
        raise ValueError(f"no device kind {device['kind']!r}")
    return f"link add link {on} name {name}{netns}{_options(device)} type {kind}"


def _move(device: str, netns: str | Path, name: str) -> list[str]:
    """Move a port. One that is up cannot be renamed on the way by every driver; down and up again is what
    people do."""
    return [f"link set dev {device} down", f"link set dev {device} netns {netns} name {name}"]


def _addresses(device: Json) -> list[str]:
    return [f"addr add {address} dev {device['name']}" for address in device.get("addresses", [])]


def _birth(spec: Json, nsid: int) -> Iterator[str]:
    """What the initial namespace does for one. Devices are born under a name that it does not have itself:
    Linux 6.12 refuses those although they are born elsewhere."""
    name = spec["name"]
    yield f"netns add {name}"
    yield f"netns set {name} {nsid}"
    for number, device in enumerate(spec.get("devices", [])):
        if device["kind"] == "port":
            yield from _move(device["on"], name, device["name"])
        elif not device["on"].startswith("./"):
            yield _add(device, device["on"], f"new.{number}", f" netns {name}")


def _inside(spec: Json) -> Iterator[str]:
    """What is done inside."""
    yield "link set dev lo up"
    devices: list[Json] = spec.get("devices", [])
    for number, device in enumerate(devices):
        name = device["name"]
        if device["kind"] == "port":
            yield f"link set dev {name}{_options(device)} up"
        elif device["on"].startswith("./"):
            yield _add(device, device["on"][2:], name)
            yield f"link set dev {name} up"
        else:
            yield f"link set dev new.{number} name {name} up"
        yield from _addresses(device)
    known = {device["name"] for device in devices}
    for to, via in spec.get("routes", []):
        yield f"route add {to} {'dev' if via in known else 'via'} {via}"
    for name, address, hardware in spec.get("neighbours", []):
        yield f"neigh replace {address} lladdr {hardware} dev {name} nud permanent"


# --- whole namespaces ---------------------------------------------------------------------------------------


def create(specs: list[Json]) -> list[Json]:
    """Create all of them, in order. A failure names the namespace and undoes it; those before it stay.

    Returns for each {"name", "nsid", "seconds"}.
    """
    start = time.monotonic()
    before = _names()
    nsids = [next(_nsids) for _ in specs]
    births = [list(_birth(spec, nsid)) for spec, nsid in zip(specs, nsids, strict=True)]
    whole, refused = len(specs), None
    try:
        iproute.run(None, [line for lines in births for line in lines])
    except iproute.Refused as error:
        refused = error
        ends = itertools.accumulate(len(lines) for lines in births)
        whole = next(number for number, end in enumerate(ends) if error.number < end)
    made = _names() - before
    for spec, nsid in zip(specs, nsids, strict=True):
        if spec["name"] in made and spec["name"] not in namespaces:
            ports = {one["name"]: one["on"] for one in spec.get("devices", []) if one["kind"] == "port"}
            namespaces[spec["name"]] = Namespace(spec["name"], nsid, ports)
    share = (time.monotonic() - start) / max(1, len(specs))
    done: list[Json] = []
    for spec, nsid in zip(specs[:whole], nsids, strict=False):
        start = time.monotonic()
        try:
            with in_netns(spec["name"]):
                quiet()
                iproute.run(None, list(_inside(spec)))
        except iproute.Refused as error:
            refused = error
            break
        done.append({"name": spec["name"], "nsid": nsid, "seconds": share + time.monotonic() - start})
    if refused:
        rest = [spec["name"] for spec in specs[len(done) :]]
        _let_go([name for name in dict.fromkeys(rest) if name in made])
        raise OSError(refused.errno, f"namespace {rest[0]}: {refused.strerror}") from refused
    return done


def give_back(name: str, device: str) -> None:
    """Move a port out of a live namespace, home to the initial one, where it is down under its own name."""
    original = namespaces[name].ports[device]
    if any(link["name"] == device for link in links(name)):
        iproute.run(name, _move(device, Path(f"/proc/{os.getpid()}/ns/net"), original))
    del namespaces[name].ports[device]


def lend(name: str, device: Json) -> None:
    """Move a port into a live namespace and give it its addresses."""
    iproute.run(None, _move(device["on"], name, device["name"]))
    namespaces[name].ports[device["name"]] = device["on"]
    up = f"link set dev {device['name']}{_options(device)} up"
    iproute.run(name, [up, *_addresses(device)])


def _let_go(names: list[str]) -> None:
    """Bring their ports home and drop their names; the kernel frees them when nobody else holds them."""
    for name in names:
        for port in list(namespaces[name].ports):
            give_back(name, port)
    iproute.run(None, [f"netns del {name}" for name in names])
    for name in names:
        del namespaces[name]


def destroy(names: Iterable[str] | None = None, seconds: float = 60.0, missing_ok: bool = False) -> Json:
    """Remove them (None: all) and wait until the kernel has freed them.

    Ports go home first. TimeoutError names what is still alive: something pins it (rule N7). Returns
    {"seconds", "count"}.
    """
    start = time.monotonic()
    wanted = list(namespaces) if names is None else list(names)
    chosen = [namespaces[name] for name in wanted if name in namespaces or not missing_ok]
    _let_go([one.name for one in chosen])
    deadline = time.monotonic() + seconds
    _await_end({one.nsid: one.name for one in chosen}, deadline)
    if chosen:
        # Their numbers went at the start of the kernel's clean-up run; the next run starts when it is over,
        # so the end of one more namespace says that everything is freed.
        sentinel = next(_nsids)
        lines = ["netns add .sentinel", f"netns set .sentinel {sentinel}", "netns del .sentinel"]
        iproute.run(None, lines)
        _await_end({sentinel: "the clean-up before it"}, deadline)
    return {"seconds": time.monotonic() - start, "count": len(chosen)}


def clear() -> list[str]:
    """Let go of every named namespace, those an earlier client left too; returns their names.

    For the start of a session. Ports they held come home by themselves, under their own names.
    """
    namespaces.clear()
    found = sorted(_names())
    iproute.run(None, [f"netns del {name}" for name in found])
    return found


_unnamed: dict[str, int] = {}


def unname(name: str) -> None:
    """What ``ip netns del`` does, and no more: whoever holds the namespace keeps it (see ``await_end``)."""
    iproute.run(None, [f"netns del {name}"])
    _unnamed[name] = namespaces.pop(name).nsid


# --- waiting ------------------------------------------------------------------------------------------------


def _await(met: Callable[[], bool], deadline: float, late: Callable[[], str]) -> None:
    """Look until a state is there: asked for, not listened to, so no news can be missed. TimeoutError at
    ``deadline`` with the words of ``late``."""
    while not met():
        if time.monotonic() >= deadline:
            raise TimeoutError(late())
        time.sleep(0.05)


def _await_end(waiting: dict[int, str], deadline: float) -> None:
    def met() -> bool:
        still = set(alive())
        for nsid in [nsid for nsid in waiting if nsid not in still]:
            del waiting[nsid]
        return not waiting

    def late() -> str:
        names = ", ".join(sorted(waiting.values())[:8])
        return f"{len(waiting)} namespaces are still alive, something pins them: {names}"

    _await(met, deadline, late)


def await_end(names: list[str], seconds: float = 30.0) -> None:
    """Wait until the kernel has freed namespaces that were unnamed. TimeoutError: something pins them."""
    _await_end({_unnamed.pop(name): name for name in names}, time.monotonic() + seconds)


def await_carrier(name: str | None, device: str, carrier: bool, seconds: float = 30.0) -> None:
    """Wait until a device has, or has no, carrier. TimeoutError says which."""
    _await(
        lambda: any(one["name"] == device and one["carrier"] == carrier for one in links(name)),
        time.monotonic() + seconds,
        lambda: f"{device} in {name}: carrier is not {carrier}",
    )


def await_device(device: str, seconds: float = 30.0) -> None:
    """Wait until a device is (again) in the initial namespace. TimeoutError names it."""
    _await(
        lambda: device in device_names(), time.monotonic() + seconds, lambda: f"{device} did not come back"
    )


# --- what is there ------------------------------------------------------------------------------------------


def alive() -> list[int]:
    """The numbers of our namespaces that the kernel still has, destroyed or not.

    At most the lowest 130 of them or so: Linux 6.12 ends this dump after its first message.
    """
    numbers: list[int] = [one["nsid"] for one in iproute.show(None, "netns list-id")]
    return sorted(nsid for nsid in numbers if nsid > FIRST_NSID)


def device_names() -> list[str]:
    """The interfaces of the thread's namespace."""
    return [name for _index, name in socket.if_nameindex()]


def links(name: str | None = None) -> list[Json]:
    """The interfaces of a namespace (None: the initial one): {"name", "address", "mtu", "up", "carrier"}."""
    return [
        {
            "name": link["ifname"],
            "address": link.get("address", ""),
            "mtu": link["mtu"],
            "up": "UP" in link["flags"],
            "carrier": "LOWER_UP" in link["flags"],
        }
        for link in iproute.show(name, "link show")
    ]


def macs(names: list[str]) -> dict[str, dict[str, str]]:
    """The MAC address of every interface of many namespaces: a system call each instead of a process."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        with in_netns(name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            found[name] = {
                device: fcntl.ioctl(any_socket, SIOCGIFHWADDR, device.encode().ljust(40, b"\0"))[18:24].hex(
                    ":"
                )
                for device in device_names()
            }
    return found


# --- single devices -----------------------------------------------------------------------------------------


def change(name: str | None, device: str, up: bool | None = None, mtu: int | None = None) -> None:
    """Set a device up or down, change its MTU."""
    state = {None: "", True: " up", False: " down"}[up]
    iproute.run(name, [f"link set dev {device}{_options({'mtu': mtu})}{state}"])


def add_device(name: str | None, device: Json) -> None:
    """Make a VLAN or macvlan in a live namespace, on a device of the same namespace, with its addresses."""
    made = [_add(device, device["on"], device["name"]), f"link set dev {device['name']} up"]
    iproute.run(name, [*made, *_addresses(device)])


def delete_device(name: str | None, device: str) -> None:
    iproute.run(name, [f"link del dev {device}"])


def address(name: str | None, device: str, interface: str, remove: bool = False) -> None:
    """Give a device an address, or take it away."""
    iproute.run(name, [f"addr {'del' if remove else 'add'} {interface} dev {device}"])


def single_answers() -> None:
    """The initial namespace answers ARP on the interface that has the address, not on every one it owns."""
    Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("1")
    Path("/proc/sys/net/ipv4/conf/all/arp_announce").write_text("2")


def quiet_ports(devices: list[str]) -> None:
    """What ``quiet`` and ``single_answers`` do, for the ports alone, of a machine that is others', too.

    ``lab.real.used`` puts it back.
    """
    for device in devices:
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
        Path(f"/proc/sys/net/ipv4/conf/{device}/arp_ignore").write_text("1")
        Path(f"/proc/sys/net/ipv4/conf/{device}/arp_announce").write_text("2")


def quiet() -> None:
    """The calling thread's namespace speaks IPv4 only: what is on the wire is then what a test put there.

    For each namespace by itself: Linux lets none inherit this setting.
    """
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")

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
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from lab.guest.agent import CLONE_NEWNET, NETNS_DIR, setns
from suites.guest import netlink
from suites.guest.netlink import Link, Monitor, Netlink, NetlinkError, Request

MS_BIND = 0x1000
MNT_DETACH = 2
#: Numbers given to our namespaces in the initial one start here; the kernel gives out small ones by itself.
FIRST_NSID = 100_000

Json = dict[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Namespace:
    """A live namespace. ``ports``: devices lent by the initial one, {their name here: name at home}."""

    name: str
    fd: int
    nsid: int
    netlink: Netlink
    ports: dict[str, str] = field(default_factory=dict)


namespaces: dict[str, Namespace] = {}
#: An earlier client's may live on: begin where it cannot have been.
_last_nsid = FIRST_NSID + int(time.monotonic() * 100)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


@contextlib.contextmanager
def _home() -> Iterator[int]:
    """The descriptor of the agent's own namespace; the thread returns there."""
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        setns(fd)
        os.close(fd)


def _new(name: str, home: int) -> Namespace:
    """Make an empty namespace known as ``name``."""
    global _last_nsid
    NETNS_DIR.mkdir(parents=True, exist_ok=True)
    path = NETNS_DIR / name
    if name in namespaces or path.exists():
        raise FileExistsError(errno.EEXIST, f"a namespace {name} exists")
    _check(_libc.unshare(CLONE_NEWNET), "unshare")
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        quiet()
        path.touch()
        source = f"/proc/self/fd/{fd}".encode()
        _check(_libc.mount(source, str(path).encode(), b"none", MS_BIND, None), f"mount {path}")
        socket = Netlink()
    except OSError:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    finally:
        setns(home)
    _last_nsid += 1
    return Namespace(name, fd, _last_nsid, socket)


def _data(device: Json) -> bytes:
    """What is special about a device of its kind."""
    if device["kind"] == "vlan":
        return netlink.vlan_data(device["vid"])
    if device["kind"] == "macvlan":
        return netlink.macvlan_data(device.get("mode") or "bridge")
    raise ValueError(f"no device kind {device['kind']!r}")


def _enter_port(root: Netlink, namespace: Namespace, device: Json, outside: dict[str, int]) -> int:
    """Move a device of the initial namespace in; its ifindex may change on the way."""
    index = outside[device["on"]]
    name = device["name"]
    # A device that is up cannot be renamed on the way by every driver; down and up again is what people do.
    root.run([netlink.set_link(index, up=False), netlink.set_link(index, netns_fd=namespace.fd, name=name)])
    namespace.ports[name] = device["on"]
    del outside[device["on"]]
    found = _index(namespace.netlink, name)
    changes: Json = {key: device[key] for key in ("mtu",) if device.get(key)}
    if device.get("mac"):
        changes["address"] = device["mac"]
    namespace.netlink.run([netlink.set_link(found, up=True, **changes)])
    return found


def create(specs: list[Json]) -> list[Json]:
    """Create all of them, in order. A failure names the namespace and undoes it; those before it stay.

    Returns for each {"name", "nsid", "seconds"}.
    """
    done: list[Json] = []
    with _home() as home, Netlink() as root:
        outside = {link.name: link.index for link in root.links()}
        for spec in specs:
            start = time.monotonic()
            namespace = _new(spec["name"], home)
            try:
                _fill(root, namespace, spec, outside)
            except NetlinkError as error:
                for port in list(namespace.ports):
                    _leave(namespace, port, home)
                _let_go(namespace)
                raise NetlinkError(error.errno, f"namespace {spec['name']}: {error.strerror}") from None
            namespaces[namespace.name] = namespace
            took = time.monotonic() - start
            done.append({"name": namespace.name, "nsid": namespace.nsid, "seconds": took})
    return done


def _fill(root: Netlink, namespace: Namespace, spec: Json, outside: dict[str, int]) -> None:
    here: list[Request] = [netlink.set_link(netlink.LOOPBACK, up=True)]
    devices: list[Json] = spec.get("devices", [])
    at_home = [netlink.new_nsid(namespace.fd, namespace.nsid)]
    renamed: dict[str, str] = {}
    for device in devices:
        if device["kind"] != "port" and not device["on"].startswith("./"):
            born = device["name"]
            if born in outside:
                born = f"new.{len(renamed)}"
                renamed[born] = device["name"]
            at_home.append(
                _create(device, born, outside[device["on"]], namespace.fd, up=born == device["name"])
            )
    root.run(at_home)
    for device in devices:
        if device["kind"] == "port":
            _enter_port(root, namespace, device, outside)
    inside = {link.name: link.index for link in namespace.netlink.links()}
    for born, name in renamed.items():
        inside[name] = inside.pop(born)
        here.append(netlink.set_link(inside[name], name=name))
        here.append(netlink.set_link(inside[name], up=True))
    for device in devices:
        if device["on"].startswith("./"):
            namespace.netlink.run([*here, _create(device, device["name"], inside[device["on"][2:]], None)])
            here = []
            inside[device["name"]] = _index(namespace.netlink, device["name"])
        index = inside[device["name"]]
        here += [
            netlink.new_address(index, IPv4Interface(address)) for address in device.get("addresses", [])
        ]
    for to, via in spec.get("routes", []):
        if via in inside:
            here.append(netlink.new_route(IPv4Network(to), index=inside[via]))
        else:
            here.append(netlink.new_route(IPv4Network(to), via=IPv4Address(via)))
    for name, address, hardware in spec.get("neighbours", []):
        here.append(netlink.new_neighbour(inside[name], IPv4Address(address), hardware))
    namespace.netlink.run(here)


def _create(device: Json, name: str, link: int, netns_fd: int | None, up: bool = True) -> Request:
    """The request that makes a VLAN or macvlan."""
    return netlink.new_link(
        device["kind"],
        name,
        data=_data(device),
        link=link,
        netns_fd=netns_fd,
        address=device.get("mac"),
        mtu=device.get("mtu"),
        up=up,
    )


def _leave(namespace: Namespace, name: str, home: int) -> None:
    """Bring a lent port back under its own name."""
    original = namespace.ports[name]
    for link in namespace.netlink.links():
        if link.name == name:
            namespace.netlink.run([netlink.set_link(link.index, up=False)])
            namespace.netlink.run([netlink.set_link(link.index, netns_fd=home, name=original)])
    del namespace.ports[name]


def give_back(name: str, device: str) -> None:
    """Move a port out of a live namespace, home to the initial one, where it is down."""
    with _home() as home:
        _leave(namespaces[name], device, home)


def lend(name: str, device: Json) -> None:
    """Move a port into a live namespace and give it its addresses."""
    namespace = namespaces[name]
    with Netlink() as root:
        outside = {link.name: link.index for link in root.links()}
        index = _enter_port(root, namespace, device, outside)
    addresses = [netlink.new_address(index, IPv4Interface(text)) for text in device.get("addresses", [])]
    namespace.netlink.run(addresses)


def _let_go(namespace: Namespace) -> None:
    """Drop what this module holds of it; the kernel frees it when nobody else holds it."""
    namespace.netlink.close()
    path = NETNS_DIR / namespace.name
    _check(_libc.umount2(str(path).encode(), MNT_DETACH), f"umount {path}")
    path.unlink()
    os.close(namespace.fd)


def destroy(names: Iterable[str] | None = None, seconds: float = 60.0, missing_ok: bool = False) -> Json:
    """Remove them (None: all) and wait until the kernel has freed them.

    Ports go home first. TimeoutError names what is still alive: something pins it (rule N7). Returns
    {"seconds", "count"}.
    """
    start = time.monotonic()
    wanted = list(namespaces) if names is None else list(names)
    chosen = [namespaces[name] for name in wanted if name in namespaces or not missing_ok]
    with _home() as home, Monitor(netlink.RTNLGRP_NSID) as monitor:
        for namespace in chosen:
            for port in list(namespace.ports):
                _leave(namespace, port, home)
            _let_go(namespace)
            del namespaces[namespace.name]
        deadline = time.monotonic() + seconds
        _await_end(monitor, {one.nsid: one.name for one in chosen}, deadline)
        if chosen:
            # Their ends were announced at the start of the kernel's clean-up run; the next run starts when it
            # is over, so the announced end of one more namespace says that everything is freed.
            sentinel = _new(".sentinel", home)
            with Netlink() as root:
                root.run([netlink.new_nsid(sentinel.fd, sentinel.nsid)])
            _let_go(sentinel)
            _await_end(monitor, {sentinel.nsid: "the clean-up before it"}, deadline)
    return {"seconds": time.monotonic() - start, "count": len(chosen)}


def _await_end(monitor: Monitor, waiting: dict[int, str], deadline: float) -> None:
    while waiting:
        left = deadline - time.monotonic()
        if left <= 0:
            names = ", ".join(sorted(waiting.values())[:8])
            raise TimeoutError(f"{len(waiting)} namespaces are still alive, something pins them: {names}")
        for kind, body in monitor.read(left):
            if kind == netlink.RTM_DELNSID:
                for nsid in netlink.nsid_of(body):
                    waiting.pop(nsid, None)


def clear() -> list[str]:
    """Let go of every named namespace, those an earlier client left too; returns their names.

    For the start of a session. Ports they held come home by themselves, under their own names.
    """
    for namespace in namespaces.values():
        namespace.netlink.close()
        os.close(namespace.fd)
    namespaces.clear()
    found = sorted(path.name for path in NETNS_DIR.glob("*")) if NETNS_DIR.exists() else []
    for name in found:
        _libc.umount2(str(NETNS_DIR / name).encode(), MNT_DETACH)
        (NETNS_DIR / name).unlink()
    return found


def await_carrier(name: str | None, device: str, carrier: bool, seconds: float = 30.0) -> None:
    """Wait until a device has, or has no, carrier. TimeoutError says which."""
    deadline = time.monotonic() + seconds
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if name is not None:
            setns(namespaces[name].fd)
        with Monitor(netlink.RTNLGRP_LINK) as monitor:
            while not any(one.name == device and one.carrier == carrier for one in monitor.links()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{device} in {name}: carrier is not {carrier}")
                # The dump above shares the socket: look again soon even if it ate the news.
                monitor.read(min(left, 0.2))
    finally:
        setns(home)
        os.close(home)


_unnamed: dict[str, int] = {}


def unname(name: str) -> None:
    """What ``ip netns del`` does, and no more: whoever holds the namespace keeps it (see ``await_end``)."""
    namespace = namespaces.pop(name)
    _unnamed[name] = namespace.nsid
    _let_go(namespace)


def await_end(names: list[str], seconds: float = 30.0) -> None:
    """Wait until the kernel has freed namespaces that were unnamed. TimeoutError: something pins them."""
    with Monitor(netlink.RTNLGRP_NSID) as monitor:
        still = set(alive())
        waiting = {nsid: name for name in names if (nsid := _unnamed.pop(name)) in still}
        _await_end(monitor, waiting, time.monotonic() + seconds)


def await_device(device: str, seconds: float = 30.0) -> None:
    """Wait until a device is (again) in the initial namespace. TimeoutError names it."""
    deadline = time.monotonic() + seconds
    with Monitor(netlink.RTNLGRP_LINK) as monitor, Netlink() as root:
        while all(link.name != device for link in root.links()):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{device} did not come back")
            monitor.read(left)


def alive() -> list[int]:
    """The numbers of our namespaces that the kernel still has, destroyed or not.

    At most some 130 of them: Linux 6.12 ends this dump after its first message.
    """
    with Netlink() as root:
        return sorted(nsid for nsid in root.nsids() if nsid > FIRST_NSID)


@contextlib.contextmanager
def _inside(name: str | None) -> Iterator[Netlink]:
    """A route socket of a namespace (None: the initial one)."""
    if name is not None:
        yield namespaces[name].netlink
    else:
        with Netlink() as root:
            yield root


def _index(here: Netlink, device: str) -> int:
    for link in here.links():
        if link.name == device:
            return link.index
    raise OSError(errno.ENODEV, f"no device {device} there")


def links(name: str | None = None) -> list[Json]:
    """The interfaces of a namespace (None: the initial one)."""
    with _inside(name) as here:
        return [_told(link) for link in here.links()]


def macs(names: list[str]) -> dict[str, dict[str, str]]:
    """The MAC address of every interface of many namespaces."""
    return {name: {link.name: link.address for link in namespaces[name].netlink.links()} for name in names}


def _told(link: Link) -> Json:
    return {**vars(link), "up": link.up, "carrier": link.carrier}


def change(name: str | None, device: str, **changes: Any) -> None:
    """Change a device: ``up``, ``mtu``, ``address``, ``name``, ``promisc``."""
    with _inside(name) as here:
        here.run([netlink.set_link(_index(here, device), **changes)])


def add_device(name: str | None, device: Json) -> None:
    """Make a VLAN or macvlan in a live namespace, on a device of the same namespace, with its addresses."""
    with _inside(name) as here:
        here.run([_create(device, device["name"], _index(here, device["on"]), None)])
        index = _index(here, device["name"])
        here.run([netlink.new_address(index, IPv4Interface(text)) for text in device.get("addresses", [])])


def delete_device(name: str | None, device: str) -> None:
    with _inside(name) as here:
        here.run([netlink.delete_link(_index(here, device))])


def address(name: str | None, device: str, interface: str, remove: bool = False) -> None:
    """Give a device an address, or take it away."""
    make = netlink.delete_address if remove else netlink.new_address
    with _inside(name) as here:
        here.run([make(_index(here, device), IPv4Interface(interface))])


def single_answers() -> None:
    """The initial namespace answers ARP on the interface that has the address, not on every one it owns."""
    Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("1")
    Path("/proc/sys/net/ipv4/conf/all/arp_announce").write_text("2")


def quiet() -> None:
    """The calling thread's namespace speaks IPv4 only: what is on the wire is then what a test put there.

    For each namespace by itself: Linux lets none inherit this setting.
    """
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")

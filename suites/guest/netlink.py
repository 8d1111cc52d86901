"""Route netlink in batches: many requests in one send, in the namespace a socket was made in.

Why not iproute2 or pyroute2: without KVM the one costs a process start for each namespace, the other a second
of import and some milliseconds a message; a batch of our own is two system calls. Formats: rtnetlink(7),
linux/rtnetlink.h, linux/if_link.h, linux/net_namespace.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Self

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_NEWNEIGH = 28
RTM_NEWNSID, RTM_DELNSID, RTM_GETNSID = 88, 89, 90
RTNLGRP_LINK, RTNLGRP_NSID = 1, 28

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED = 0x8000
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_EXT_ACK = 270, 1, 11
SO_RCVBUFFORCE = 33
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200

IFF_UP, IFF_PROMISC, IFF_MULTICAST = 0x1, 0x100, 0x1000
IFF_LOWER_UP = 0x10000
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK = 1, 3, 4, 5
IFLA_LINKINFO, IFLA_NET_NS_FD, IFLA_LINK_NETNSID = 18, 28, 37
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_VLAN_ID = 1
IFLA_MACVLAN_MODE = 1
VETH_INFO_PEER = 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC = 1, 4, 5, 7
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT = 0x80
NETNSA_NSID, NETNSA_FD = 1, 3

LOOPBACK = 1


@dataclass(frozen=True)
class Link:
    """One interface as the kernel tells it. ``link`` is the ifindex below it, 0 for none."""

    index: int
    name: str
    flags: int
    mtu: int
    address: str
    link: int
    kind: str

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)

    @property
    def carrier(self) -> bool:
        return bool(self.flags & IFF_LOWER_UP)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(inner))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def string(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def mac(kind: int, value: str) -> bytes:
    return attribute(kind, bytes.fromhex(value.replace(":", "")))


@dataclass(frozen=True)
class Request:
    """One message without its header; ``what`` is for people."""

    kind: int
    body: bytes
    what: str
    flags: int = 0


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type (without flag bits) and value of each attribute."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


# --- links --------------------------------------------------------------------------------------------------


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def new_link(
    kind: str,
    name: str,
    *,
    data: bytes = b"",
    link: int | None = None,
    netns_fd: int | None = None,
    address: str | None = None,
    mtu: int | None = None,
    up: bool = True,
) -> Request:
    """Create a device, at once in the namespace behind ``netns_fd``; ``link`` is an ifindex of the asker's.

    ``data``: attributes inside IFLA_INFO_DATA. The kernel (6.12) refuses a name that the asker's own
    namespace has too, and an ifindex likewise, although the device is born elsewhere: so no index here.
    """
    parts = [_ifinfo(0, IFF_UP if up else 0, IFF_UP if up else 0), string(IFLA_IFNAME, name)]
    if link is not None:
        parts.append(u32(IFLA_LINK, link))
    if netns_fd is not None:
        parts.append(u32(IFLA_NET_NS_FD, netns_fd))
    if address is not None:
        parts.append(mac(IFLA_ADDRESS, address))
    if mtu is not None:
        parts.append(u32(IFLA_MTU, mtu))
    info = [string(IFLA_INFO_KIND, kind)]
    if data:
        info.append(nested(IFLA_INFO_DATA, data))
    parts.append(nested(IFLA_LINKINFO, *info))
    what = f"create {kind} {name}"
    return Request(RTM_NEWLINK, b"".join(parts), what, NLM_F_CREATE | NLM_F_EXCL)


def vlan_data(vid: int) -> bytes:
    return attribute(IFLA_VLAN_ID, struct.pack("=H", vid))


def macvlan_data(mode: str) -> bytes:
    return u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])


def veth_data(peer: str) -> bytes:
    return nested(VETH_INFO_PEER, _ifinfo(0, IFF_UP, IFF_UP), string(IFLA_IFNAME, peer))


def set_link(
    index: int,
    *,
    up: bool | None = None,
    name: str | None = None,
    netns_fd: int | None = None,
    address: str | None = None,
    mtu: int | None = None,
    promisc: bool | None = None,
) -> Request:
    """Change a device; with ``netns_fd`` it moves (and takes ``name`` on arrival)."""
    flags = change = 0
    for bit, value in ((IFF_UP, up), (IFF_PROMISC, promisc)):
        if value is not None:
            change |= bit
            flags |= bit if value else 0
    parts = [_ifinfo(index, flags, change)]
    if name is not None:
        parts.append(string(IFLA_IFNAME, name))
    if netns_fd is not None:
        parts.append(u32(IFLA_NET_NS_FD, netns_fd))
    if address is not None:
        parts.append(mac(IFLA_ADDRESS, address))
    if mtu is not None:
        parts.append(u32(IFLA_MTU, mtu))
    return Request(RTM_NEWLINK, b"".join(parts), f"change device {index}")


def delete_link(index: int) -> Request:
    return Request(RTM_DELLINK, _ifinfo(index), f"delete device {index}")


# --- addresses, routes, neighbours --------------------------------------------------------------------------


def new_address(index: int, interface: IPv4Interface) -> Request:
    body = struct.pack("=BBBBI", socket.AF_INET, interface.network.prefixlen, 0, 0, index)
    packed = interface.ip.packed
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return Request(RTM_NEWADDR, body, f"address {interface} on {index}", NLM_F_CREATE | NLM_F_EXCL)


def delete_address(index: int, interface: IPv4Interface) -> Request:
    body = struct.pack("=BBBBI", socket.AF_INET, interface.network.prefixlen, 0, 0, index)
    body += attribute(IFA_LOCAL, interface.ip.packed)
    return Request(RTM_DELADDR, body, f"remove address {interface} from {index}")


def new_route(to: IPv4Network, *, index: int | None = None, via: IPv4Address | None = None) -> Request:
    """A unicast route in the main table."""
    scope = 0 if via is not None else 253
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, to.prefixlen, 0, 0, 254, 4, scope, 1, 0)
    if to.prefixlen:
        body += attribute(RTA_DST, to.network_address.packed)
    if index is not None:
        body += u32(RTA_OIF, index)
    if via is not None:
        body += attribute(RTA_GATEWAY, via.packed)
    return Request(RTM_NEWROUTE, body, f"route {to}", NLM_F_CREATE | NLM_F_EXCL)


def new_neighbour(index: int, address: IPv4Address, hardware: str) -> Request:
    """A permanent neighbour: no ARP for it."""
    body = struct.pack("=BxxxiHBB", socket.AF_INET, index, NUD_PERMANENT, 0, 0)
    body += attribute(NDA_DST, address.packed) + mac(NDA_LLADDR, hardware)
    return Request(RTM_NEWNEIGH, body, f"neighbour {address} on {index}", NLM_F_CREATE | NLM_F_REPLACE)


def new_nsid(fd: int, nsid: int) -> Request:
    """Give the namespace behind ``fd`` a number in the asking one (see :class:`Monitor`)."""
    body = struct.pack("=Bxxx", socket.AF_UNSPEC) + u32(NETNSA_FD, fd) + u32(NETNSA_NSID, nsid)
    return Request(RTM_NEWNSID, body, f"namespace id {nsid}")


# --- sockets ------------------------------------------------------------------------------------------------


class NetlinkError(OSError):
    """The kernel refused: its errno, which request, and its own words where it has some."""


class Netlink:
    """A route socket; it belongs to the namespace it was made in, whatever its thread joins later (N1)."""

    def __init__(self) -> None:
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.socket.bind((0, 0))

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, requests: Sequence[Request], *, ignore: Sequence[int] = ()) -> None:
        """Carry out all of them in order, in one send. The first refusal is raised, after all were tried;
        errnos in ``ignore`` are no refusal."""
        failed: NetlinkError | None = None
        for start in range(0, len(requests), 256):
            error = self._batch(requests[start : start + 256], ignore)
            failed = failed or error
        if failed:
            raise failed

    def _batch(self, requests: Sequence[Request], ignore: Sequence[int]) -> NetlinkError | None:
        parts: list[bytes] = []
        for number, request in enumerate(requests):
            size = 16 + len(request.body)
            flags = NLM_F_REQUEST | NLM_F_ACK | request.flags
            parts.append(struct.pack("=IHHII", size, request.kind, flags, number, 0))
            parts.append(request.body)
            parts.append(bytes(-size % 4))
        self.socket.send(b"".join(parts))
        failed: NetlinkError | None = None
        answered = 0
        while answered < len(requests):
            for kind, flags, number, body in self._receive():
                if kind != NLMSG_ERROR:
                    continue
                answered += 1
                code = -struct.unpack_from("=i", body)[0]
                if code and code not in ignore and failed is None:
                    said = self._words(flags, body)
                    what = requests[number].what
                    failed = NetlinkError(
                        code, f"{what}: {os.strerror(code)}" + (f" ({said})" if said else "")
                    )
        return failed

    @staticmethod
    def _words(flags: int, body: bytes) -> str:
        """The kernel's own explanation (NLMSGERR_ATTR_MSG), where it gives one."""
        if not flags & NLM_F_ACK_TLVS:
            return ""
        size = 16 if flags & NLM_F_CAPPED else (struct.unpack_from("=I", body, 4)[0] + 3) & ~3
        for kind, value in attributes(body[4 + size :]):
            if kind == 1:
                return value.rstrip(b"\0").decode(errors="replace")
        return ""

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self.socket.recv(1 << 17)
        at = 0
        while at + 16 <= len(data):
            size, kind, flags, number, _pid = struct.unpack_from("=IHHII", data, at)
            yield kind, flags, number, data[at + 16 : at + size]
            at += (size + 3) & ~3

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All answers to a dump request."""
        header = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
        self.socket.send(header + body)
        found: list[bytes] = []
        while True:
            for answer, _flags, _number, content in self._receive():
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    raise NetlinkError(code, f"dump {kind}: {os.strerror(code)}")
                found.append(content)

    def links(self) -> list[Link]:
        """Every interface of the namespace."""
        return [parse_link(body) for body in self.dump(RTM_GETLINK, _ifinfo())]

    def nsids(self) -> set[int]:
        """The numbers of the namespaces that have one here and are alive (6.12: the first 130 or so)."""
        numbers: set[int] = set()
        for body in self.dump(RTM_GETNSID, struct.pack("=Bxxx", socket.AF_UNSPEC)):
            numbers.update(nsid_of(body))
        return numbers


def parse_link(body: bytes) -> Link:
    _family, _type, index, flags, _change = struct.unpack_from("=BxHiII", body)
    name = address = kind = ""
    mtu = link = 0
    for key, value in attributes(body[16:]):
        if key == IFLA_IFNAME:
            name = value.rstrip(b"\0").decode()
        elif key == IFLA_ADDRESS:
            address = value.hex(":")
        elif key == IFLA_MTU:
            mtu = struct.unpack("=I", value)[0]
        elif key == IFLA_LINK:
            link = struct.unpack("=I", value)[0]
        elif key == IFLA_LINKINFO:
            for inner, content in attributes(value):
                if inner == IFLA_INFO_KIND:
                    kind = content.rstrip(b"\0").decode()
    return Link(index, name, flags, mtu, address, link, kind)


def nsid_of(body: bytes) -> Iterator[int]:
    for key, value in attributes(body[4:]):
        if key == NETNSA_NSID:
            yield struct.unpack("=i", value)[0]


class Monitor(Netlink):
    """Listens to groups of notifications, in the namespace it was made in."""

    def __init__(self, *groups: int) -> None:
        super().__init__()
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        for group in groups:
            self.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def read(self, seconds: float) -> list[tuple[int, bytes]]:
        """Type and body of what came within ``seconds``; nothing when nothing came. OSError ENOBUFS: some
        were lost."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            return [(kind, body) for kind, _flags, _number, body in self._receive()]
        except TimeoutError:
            return []
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return []
            raise

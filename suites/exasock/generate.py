"""Random programs of socket calls, by seed, whose every result is determined by the program alone.

The generator keeps a model of what the kernel does with datagrams of unicast addresses: which socket gets
one, how many wait in each. So it knows when a receive would wait for ever, and asks the socket then without
waiting. What it does not model (who of several equal sockets) it does not do.

    a1, b1   VLAN 5        10.1.0.1, 10.1.0.2       a on card0:0, b on card0:1
    a2, b2   VLAN 6        the same addresses
    a3, b3   macvlans      the same addresses
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from suites.topology import Device, Namespace, Topology

Step = dict[str, Any]
GROUPS = (1, 2, 3)
ADDRESSES = {"a": "10.1.0.1", "b": "10.1.0.2"}
PORTS = (7001, 7002, 7003)
#: Bytes: nothing, less and more than a frame's least, chunks of the card's, a full frame, fragments.
SIZES = (0, 1, 17, 18, 19, 64, 100, 200, 500, 1000, 1471, 1472, 1473, 3000)
#: Seconds: longer than anything takes, and for what is not to come.
LONG, SHORT = 20.0, 0.05


def topology() -> Topology:
    """Six namespaces in three groups that have the same addresses."""
    made = []
    for side, port in (("a", "card0:0"), ("b", "card0:1")):
        for group in GROUPS:
            address = (f"{ADDRESSES[side]}/24",)
            if group == 3:
                device = Device(
                    "macvlan", "lan0", port, mac=f"02:00:00:00:0{'ab'.index(side)}:03", addresses=address
                )
            else:
                device = Device("vlan", "lan0", port, vid=4 + group, addresses=address)
            made.append(Namespace(f"{side}{group}", (device,)))
    return Topology("three groups with the same addresses", tuple(made))


@dataclass
class Sock:
    """A socket as the model knows it."""

    label: str
    side: str
    group: int
    address: str | None = None
    port: int = 0
    peer: tuple[str, int] | None = None
    waiting: deque[tuple[int, int]] = field(default_factory=deque)
    labels: list[str] = field(default_factory=list)
    shut: bool = False
    lonely: bool = False

    @property
    def netns(self) -> str:
        return f"{self.side}{self.group}"

    @property
    def source(self) -> str:
        return self.address if self.address not in (None, "0.0.0.0") else ADDRESSES[self.side]


class Generator:
    """One program. ``steps`` grows; labels are s1, s2, ..."""

    def __init__(self, seed: int, length: int = 300) -> None:
        self.draw = random.Random(seed)
        self.length = length
        self.steps: list[Step] = []
        self.sockets: list[Sock] = []
        self.data = 0
        self.names = 0
        self.silences = 0
        self.unheard: set[tuple[str, int, int]] = set()

    def generate(self) -> list[Step]:
        for group in self.draw.sample(GROUPS, 2):
            for side in "ab":
                self.open(side, group)
                self.bind()
        actions = {
            self.open: 2, self.bind: 8, self.connect: 4, self.disconnect: 1, self.send: 40, self.receive: 32,
            self.nothing: 3, self.option: 5, self.dup: 2, self.close: 2, self.ask: 3, self.wrong: 3,
            self.wait: 5, self.refused: 2, self.shutdown: 1, self.corked: 3, self.quick: 5,
        }  # fmt: skip
        while len(self.steps) < self.length:
            self.draw.choices(list(actions), list(actions.values()))[0]()
        for sock in self.sockets:
            while sock.waiting and not sock.shut:
                self.take(sock)
        return self.steps

    # the model

    def do(self, op: str, **given: Any) -> None:
        self.steps.append({"op": op, **given})

    def name(self, sock: Sock) -> str:
        return self.draw.choice(sock.labels)

    def any(self) -> Sock | None:
        usable = [sock for sock in self.sockets if not sock.shut]
        return self.draw.choice(usable) if usable else None

    def payload(self) -> dict[str, int]:
        self.data += 1
        return {"seed": self.data, "size": self.draw.choice(SIZES)}

    def heirs(self, side: str, group: int, to: str, port: int, source: tuple[str, int]) -> list[Sock]:
        """The sockets that the kernel may give such a datagram to: the best ones (udp4_lib_lookup)."""
        scores: list[tuple[int, Sock]] = []
        for sock in self.sockets:
            if (sock.side, sock.group, sock.port) != (side, group, port) or sock.address is None:
                continue
            if sock.address not in ("0.0.0.0", to) or (sock.peer and sock.peer != source):
                continue
            scores.append(((sock.address == to) * 2 + (sock.peer is not None), sock))
        best = max((score for score, _ in scores), default=0)
        return [sock for score, sock in scores if score == best]

    def delivered(self, sock: Sock, to: tuple[str, int], data: dict[str, int]) -> bool:
        """Note where a datagram of ``sock`` to this address goes; False: do not send it, who gets it is
        not modelled. A socket without a port gets one by sending."""
        side = next((side for side, address in ADDRESSES.items() if address == to[0]), None)
        if side is None:
            return False
        found = self.heirs(side, sock.group, to[0], to[1], (sock.source, sock.port or -1))
        if len(found) > 1 or (found and found[0].shut):
            return False
        if side == sock.side and found and found[0].waiting:
            return False  # what comes round by the loopback device may overtake what is on the wire
        if found:
            if len(found[0].waiting) >= 12:
                return False
            found[0].waiting.append((data["seed"], data["size"]))
        elif sock.peer or sock.port > 0:
            return False  # an error would come some time: see refused
        else:
            sock.lonely = True  # nor must it come when the socket is connected
            self.unheard.add((side, sock.group, to[1]))  # nor the datagram when somebody has just bound there
        self.autobind(sock)
        return True

    def autobind(self, sock: Sock) -> None:
        if sock.address is None:
            sock.address = "0.0.0.0" if sock.peer is None else ADDRESSES[sock.side]
            sock.port = -1

    # life

    def open(self, side: str | None = None, group: int | None = None) -> None:
        if len(self.sockets) >= 8:
            return
        self.names += 1
        sock = Sock(f"s{self.names}", side or self.draw.choice("ab"), group or self.draw.choice(GROUPS))
        sock.labels.append(sock.label)
        self.sockets.append(sock)
        self.do("open", s=sock.label, netns=sock.netns, seconds=LONG)

    def close(self) -> None:
        sock = self.draw.choice(self.sockets) if self.sockets else None
        if sock is None or len(self.sockets) < 3:
            return
        while len(sock.labels) == 1 and sock.waiting and not sock.shut:
            self.take(sock)  # what is under way to a socket that goes may meet it or not
        label = self.name(sock)
        sock.labels.remove(label)
        self.do("close", s=label)
        if not sock.labels:
            self.sockets.remove(sock)

    def dup(self) -> None:
        sock = self.any()
        if sock is not None and len(sock.labels) < 3:
            self.names += 1
            self.do("dup", s=self.name(sock), to=f"s{self.names}")
            sock.labels.append(f"s{self.names}")

    def bind(self) -> None:
        free = [sock for sock in self.sockets if sock.address is None and not sock.shut]
        if not free:
            return
        sock = self.draw.choice(free)
        address = self.draw.choice(["0.0.0.0", ADDRESSES[sock.side], ADDRESSES[sock.side]])
        ports = [port for port in PORTS if (sock.side, sock.group, port) not in self.unheard]
        if not ports:
            return
        port = self.draw.choice(ports)
        self.do("bind", s=self.name(sock), to=[address, port])
        if not self.conflict(sock, address, port):
            sock.address, sock.port = address, port

    def conflict(self, new: Sock, address: str, port: int) -> bool:
        for sock in self.sockets:
            same = "0.0.0.0" in (address, sock.address) or sock.address == address
            if sock.netns == new.netns and sock.port == port and same:
                return True
        return False

    def connect(self) -> None:
        sock = self.any()
        if sock is None or sock.waiting or sock.lonely:
            return
        to = (ADDRESSES[self.draw.choice("ab")], self.draw.choice(PORTS))
        if self.draw.random() < 0.9:  # to somebody who is there
            there = [
                one for one in self.sockets if one.group == sock.group and one.port > 0 and one is not sock
            ]
            if there:
                one = self.draw.choice(there)
                to = (ADDRESSES[one.side], one.port)
        self.do("connect", s=self.name(sock), to=list(to))
        if sock.address is None:
            sock.port = -1
        sock.address = sock.source
        sock.peer = to

    def disconnect(self) -> None:
        connected = [sock for sock in self.sockets if sock.peer and not sock.waiting and not sock.shut]
        if connected:
            sock = self.draw.choice(connected)
            self.do("disconnect", s=self.name(sock))
            # What bind(2) did not fix goes: the model lets the socket rest instead of knowing which.
            self.do("name", s=sock.labels[0])
            for label in list(sock.labels):
                self.do("close", s=label)
            self.sockets.remove(sock)

    def shutdown(self) -> None:
        sock = self.any()
        if sock is None or sock.peer is None or sock.waiting or len(self.sockets) < 4:
            return
        how = self.draw.choice([0, 1, 2])
        label = sock.labels[0]
        self.do("shutdown", s=label, how=how)
        sock.shut = True
        if how != 0:
            self.do("send", s=label, data=self.payload())
        if how != 1:
            self.do("recv", s=label)

    # sending

    def destination(self, sock: Sock) -> tuple[str, int] | None:
        """Most often somebody who is there."""
        there = [one for one in self.sockets if one.group == sock.group and one.port > 0 and not one.shut]
        if there and self.draw.random() < 0.9:
            one = self.draw.choice(there)
            return ADDRESSES[one.side], one.port
        return ADDRESSES[self.draw.choice("ab")], self.draw.choice(PORTS)

    def send(self) -> None:
        sock = self.any()
        if sock is None:
            return
        data = self.payload()
        connected = sock.peer is not None and self.draw.random() < 0.8
        to = sock.peer if connected else self.destination(sock)
        assert to is not None
        if not connected and sock.peer and sock.peer != to and self.draw.random() < 0.8:
            return
        label = self.name(sock)
        if not self.delivered(sock, to, data):
            return
        away = to[0] != ADDRESSES[sock.side]
        flags = self.draw.choice([[], [], [], ["dontwait"], ["confirm"], ["dontroute"] if away else []])
        addressed = {} if connected else {"to": list(to)}
        kind = self.draw.choice(
            ["send", "send", "write", "writev", "sendmsg"] if connected else ["sendto", "sendto", "sendmsg"]
        )
        if kind == "writev" and not data["size"]:
            kind = "write"  # nothing in pieces is nothing sent, unlike nothing in one
        if kind in ("write", "writev"):
            self.do(kind, s=label, data=data)
        elif kind == "sendmsg":
            control = self.draw.choice(
                [[], [], [["tos", 0x28]], [["ttl", 7]], [["pktinfo", 0, ADDRESSES[sock.side]]]]
            )
            self.do(
                kind,
                s=label,
                data=data,
                flags=flags,
                control=control,
                pieces=self.draw.randint(1, 4),
                **addressed,
            )
        else:
            self.do(kind, s=label, data=data, flags=flags, **addressed)
        if self.draw.random() < 0.4:
            self.receive()

    def quick(self) -> None:
        """Several by one call."""
        sock = self.any()
        if sock is None:
            return
        to = sock.peer or self.destination(sock)
        assert to is not None
        many = []
        for _ in range(self.draw.randint(1, 4)):
            data = self.payload()
            if not self.delivered(sock, to, data):
                break
            many.append(data)
        if many:
            self.do("sendmmsg", s=self.name(sock), many=many, **({} if sock.peer else {"to": list(to)}))

    def corked(self) -> None:
        """MSG_MORE: the parts are one datagram."""
        sock = self.any()
        if sock is None or sock.peer is None:
            return
        first, second = self.payload(), self.payload()
        first["size"], second["size"] = 50, 60
        whole = {"seed": first["seed"], "size": 110}
        if self.delivered(sock, sock.peer, whole):
            label = self.name(sock)
            self.do("send", s=label, data=first, flags=["more"])
            self.do("send", s=label, data=second)

    def refused(self) -> None:
        """A connected socket sends to a port that nobody has: the error comes, and is told once."""
        free = [one for one in self.sockets if one.peer and not one.waiting and not one.shut]
        if not free:
            return
        sock = self.draw.choice(free)
        assert sock.peer is not None
        side = next(side for side, address in ADDRESSES.items() if address == sock.peer[0])
        if self.heirs(side, sock.group, *sock.peer, (sock.source, sock.port)):
            return
        label = self.name(sock)
        self.do("send", s=label, data={"seed": 1, "size": 30})
        self.do("poll", s=label, seconds=LONG)
        self.do(self.draw.choice(["recv", "send", "error", "recvmsg"]), s=label, data={"seed": 2, "size": 9})
        # The second send is refused, too, but only the first error is told to it.
        if self.steps[-1]["op"] == "send":
            self.do("error", s=label)

    # receiving

    def receive(self) -> None:
        full = [sock for sock in self.sockets if sock.waiting and not sock.shut]
        if full:
            self.take(self.draw.choice(full))

    def take(self, sock: Sock) -> None:
        """One way to receive what waits."""
        label = self.name(sock)
        kind = self.draw.choice(
            ["recv", "recvfrom", "recvfrom", "recvmsg", "recvmsg", "read", "readv", "recv_into", "recvmmsg",
             "polled", "selected", "epolled", "peek"]
        )  # fmt: skip
        size = self.draw.choice([2048, 4096, 65536, 10, 1])
        _seed, length = sock.waiting[0]
        if kind == "peek":
            self.do("recvmsg", s=label, size=size, flags=["peek", *self.draw.choice([[], ["trunc"]])])
            return
        sock.waiting.popleft()
        if kind == "read" or kind == "readv":
            self.do(kind, s=label)
        elif kind == "recvmmsg":
            more = self.draw.randint(0, min(2, len(sock.waiting)))
            for _ in range(more):
                sock.waiting.popleft()
            self.do(kind, s=label, size=size, many=1 + more)
        elif kind == "recv_into":
            flags = ["trunc"] if size >= length else []
            self.do(kind, s=label, size=size, flags=flags)
        elif kind == "polled":
            self.do("poll", s=label, seconds=LONG)
            self.do("recvfrom", s=label, size=size, flags=["dontwait"])
        elif kind == "selected":
            self.do("select", s=label, seconds=LONG)
            self.do("recvmsg", s=label, size=size, flags=["dontwait"])
        elif kind == "epolled":
            self.names += 1
            self.do("epoll", s=label, set=f"e{self.names}", edge=self.draw.random() < 0.5)
            self.do("epoll_wait", set=f"e{self.names}", seconds=LONG)
            self.do("recv", s=label, size=size, flags=["dontwait"])
        else:
            self.do(kind, s=label, size=size, flags=self.draw.choice([[], [], ["waitall"]]))

    def nothing(self) -> None:
        """Ask a socket that has nothing: at once, or for a moment."""
        empty = [sock for sock in self.sockets if not sock.waiting and not sock.shut]
        if not empty:
            return
        label = self.name(self.draw.choice(empty))
        kind = self.draw.choice(["recv", "recvfrom", "recvmsg"])
        if self.silences < 4 and self.draw.random() < 0.3:
            self.silences += 1
            self.do("timeout", s=label, seconds=SHORT)
            self.do(kind, s=label)
            self.do("timeout", s=label, seconds=LONG)
        else:
            self.do(kind, s=label, flags=["dontwait"])

    def wait(self) -> None:
        """poll(2) over several sockets, one of which has something."""
        full = [sock for sock in self.sockets if sock.waiting and not sock.shut]
        if len(full) == 1:
            sock = full[0]
            others = [one.labels[0] for one in self.sockets if one is not sock and not one.shut]
            self.do("poll", s=[sock.labels[0], *others], seconds=LONG)

    # the rest

    def option(self) -> None:
        sock = self.any()
        if sock is None:
            return
        name, values = self.draw.choice(
            [("pktinfo", (0, 1)), ("recvttl", (0, 1)), ("recvtos", (0, 1)), ("timestamp", (0, 1)),
             ("timestampns", (0, 1)), ("tos", (0, 0x10, 0xB8)), ("ttl", (1, 5, 64, 300)),
             ("broadcast", (0, 1)), ("mtu_discover", (0, 1)), ("priority", (0, 6)), ("rcvbuf", (200000,))]
        )  # fmt: skip
        label = self.name(sock)
        self.do("set", s=label, name=name, value=self.draw.choice(values))
        self.do("get", s=label, name=name)

    def ask(self) -> None:
        sock = self.any()
        if sock is not None:
            self.do(self.draw.choice(["name", "peer", "error"]), s=self.name(sock))

    def wrong(self) -> None:
        """What the kernel refuses, and how. Whatever it refuses to send it binds the socket first."""
        sock = self.any()
        if sock is None:
            return
        label = self.name(sock)
        data = {"seed": 3, "size": 20}
        away = [ADDRESSES["b" if sock.side == "a" else "a"], 7009]
        kind = self.draw.choice(
            ["route", "broadcast", "port", "big", "fragment", "bind", "source", "oob", "device", "group"]
        )
        if kind == "bind":
            if sock.address is not None:
                self.do("bind", s=label, to=["10.1.0.77", 7005])
        elif kind == "device":
            self.do("device", s=label, name="eth99")
        elif kind == "group":
            self.do("member", s=label, group="10.1.0.9", interface=ADDRESSES[sock.side])
        else:
            if kind == "route":
                self.do("sendto", s=label, data=data, to=["192.0.2.1", 9])
            elif kind == "broadcast":
                self.do("set", s=label, name="broadcast", value=0)
                self.do("sendto", s=label, data=data, to=["10.1.0.255", 9])
            elif kind == "port":
                self.do("sendto", s=label, data=data, to=[away[0], 0])
            elif kind == "big":
                self.do("sendto", s=label, data={"seed": 3, "size": 65508}, to=away)
            elif kind == "fragment":
                self.do("set", s=label, name="mtu_discover", value=2)
                self.do("sendto", s=label, data={"seed": 3, "size": 1473}, to=away)
                self.do("set", s=label, name="mtu_discover", value=1)
            elif kind == "source":
                self.do("sendmsg", s=label, data=data, to=away, control=[["pktinfo", 0, "10.9.9.9"]])
            else:
                self.do("send", s=label, data=data, flags=["oob"])
            self.autobind(sock)


def program(seed: int, length: int = 300) -> list[Step]:
    """The program of a seed: the same one always."""
    return Generator(seed, length).generate()

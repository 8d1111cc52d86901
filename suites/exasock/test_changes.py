"""What changes under live sockets (N8): links, names, addresses, routes, neighbours, places; what looks on.

    card0:0 --- a      lan0 (port)   10.1.0.1/24
    card0:1 --- peer   lan0 (port)   10.1.0.2/24

The same body through kernel sockets and through accelerated ones: after each change what is sent and received
is what the kernel would do, and the fast path is left, with its reason counted, and found again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, UDP

from lab.deadline import scaled
from suites.exasock import guest_calls
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint, peer, subject
from suites.exasock.live import KINDS, ONE, OTHER, Live, lively, steer
from suites.exasock.steps import Steps, data, do, look, opened, ready
from suites.guest import exasock, namespaces, probes, records
from suites.place import Placed
from suites.session import SocketKind
from suites.topology import Device, Namespace, Topology

Place = Callable[[Topology], Placed]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def live(request: pytest.FixtureRequest, place: Place, compared: Compared) -> Iterator[Live]:
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    yield from lively(request.param, compared, standing)


def test_link_down_and_up(live: Live) -> None:
    """N8: with the device down a send fails as the kernel's does; up again, it is fast again."""
    live.change("a", "link set dev lan0 down")
    refused = live.do(do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER]))
    assert refused == [{"errno": "ENETUNREACH"}]
    live.change("a", "link set dev lan0 up")
    live.agent.call(namespaces.await_carrier, name="a", device="lan0", carrier=True)
    live.again()
    live.fast("a", ONE, lambda: live.exchange(first=10), sent=4)


def test_renamed(live: Live) -> None:
    """N4, N8: a device's name is no key: under a new one everything goes on."""
    live.change("a", "link set dev lan0 down", "link set dev lan0 name lan9", "link set dev lan9 up")
    live.agent.call(namespaces.await_carrier, name="a", device="lan9", carrier=True)
    mac = live.standing.links(live.standing["a"])["lan9"]["address"]
    live.change("peer", f"neigh replace 10.1.0.1 lladdr {mac} dev lan0 nud reachable")
    there = live.standing.mac(live.standing["peer"])
    live.change("a", f"neigh replace 10.1.0.2 lladdr {there} dev lan9 nud reachable")
    live.do(*ready("a"), *ready("b"))
    live.fast("a", ONE, lambda: live.exchange(first=10), sent=4)
    live.change("a", "link set dev lan9 down", "link set dev lan9 name lan0", "link set dev lan0 up")


def test_own_address_changes(live: Live, defer: Callable[..., None]) -> None:
    """N2, N8: a device that gets another MAC address, while it is up, sends with it at once; no route has
    changed, and the fast path is found again."""
    mac = "02:00:00:00:aa:01"
    wire = live.compared.wire
    before = live.standing.mac(live.standing["a"])
    defer(live.change, "a", f"link set dev lan0 address {before}")
    live.change("a", f"link set dev lan0 address {mac}")
    live.again()
    mark = len(wire.sent("card0:0"))
    live.recovers()
    assert {frame.src for frame in wire.sent("card0:0")[mark:] if frame.dport == OTHER} == {mac}


def test_neighbour_changes(live: Live) -> None:
    """N2, N8: from the moment the kernel knows another MAC address, no frame goes to the old one."""
    wire = live.compared.wire
    station = wire.station(7, "10.1.0.2")
    mark = len(wire.sent("card0:0"))
    live.change("a", f"neigh replace 10.1.0.2 lladdr {station.mac} dev lan0 nud reachable")

    def send() -> None:
        for number in range(4):
            live.works(do("sendto", "a", data=data(number), to=["10.1.0.2", OTHER]))

    live.fast("a", ONE, send, sent=4)
    wire.expect("the last one", lambda frame: frame.dport == OTHER and frame.dst == station.mac)
    sent = [frame for frame in wire.sent("card0:0")[mark:] if frame.dport == OTHER]
    assert [frame.dst for frame in sent] == [station.mac] * 4
    live.again()
    live.fast("a", ONE, lambda: live.exchange(first=10), sent=4)


def test_neighbour_is_forgotten(live: Live) -> None:
    """N9: the first datagram to an unknown neighbour waits for ARP in the kernel; those after it stay behind
    it, and what overtakes the kernel again comes after all of them."""
    before = live.counters("a", ONE)
    live.change("a", "neigh del 10.1.0.2 dev lan0")
    count = 6
    live.works(*[do("sendto", "a", data=data(n), to=["10.1.0.2", OTHER]) for n in range(count)])
    # Three wait for an address at most (unres_qlen_bytes): what else is lost the kernel loses too.
    told = live.do(*[do("recvfrom", "b")] * 3, *[do("recvfrom", "b", flags=["dontwait"])] * count)
    seen = [one["ok"][0]["seed"] for one in told if "ok" in one]
    assert len(seen) >= 3 and len(set(seen)) == len(seen), seen
    # The kernel's may change places: one that finds the address may overtake those that wait for it.
    fast = live.counters("a", ONE).get("tx_fast", 0) - before.get("tx_fast", 0)
    assert fast <= count - 1
    late = [seed for seed in seen if seed >= count - fast]
    assert seen[len(seen) - len(late) :] == sorted(late), seen


def test_address_is_removed(live: Live) -> None:
    """N2, N8: with the source address gone, sending fails or takes the other address, as in the kernel."""
    live.change("a", "addr del 10.1.0.1/24 dev lan0", "addr add 10.1.0.3/24 dev lan0")
    told = live.do(do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER]))
    kernel = [{"errno": "EINVAL"}, {"errno": "ENETUNREACH"}, {"ok": 64}]
    assert told[0] in kernel
    live.change("a", "addr del 10.1.0.3/24 dev lan0", "addr add 10.1.0.1/24 dev lan0")
    live.again()
    live.do(*[do("recvfrom", "b", flags=["dontwait"])] * 2)
    live.exchange(first=10)


def test_route_changes(live: Live) -> None:
    """N2, N8: a route that forbids is obeyed by the next datagram; without it the fast path is back."""
    live.change("a", "route add unreachable 10.1.0.2/32")
    refused = live.do(do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER]))
    assert refused == [{"errno": "EHOSTUNREACH"}]
    live.change("a", "route del unreachable 10.1.0.2/32", "route add 10.1.0.2/32 via 10.1.0.77")
    wire = live.compared.wire
    station = wire.station(8, "10.1.0.77")
    live.change("a", f"neigh replace 10.1.0.77 lladdr {station.mac} dev lan0 nud reachable")
    live.works(do("sendto", "a", data=data(2), to=["10.1.0.2", OTHER]))
    wire.expect("it goes to the gateway", lambda one: one.dport == OTHER and one.dst == station.mac)
    live.change("a", "route del 10.1.0.2/32")
    live.fast("a", ONE, lambda: live.exchange(first=10), sent=4)


def test_policy_routing_and_marks(live: Live) -> None:
    """N2: a rule for a mark decides for the sockets that bear it, and for no others."""
    live.change("a", "rule add fwmark 7 table 100 priority 100", "route add blackhole default table 100")
    live.fast("a", ONE, lambda: live.exchange(first=10), sent=4)
    live.works(do("set", "a", name="mark", value=7))
    assert live.do(do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER])) == [{"errno": "EINVAL"}]
    live.works(do("set", "a", name="mark", value=0))
    live.do(*ready("a"))
    live.fast("a", ONE, lambda: live.exchange(first=20), sent=4)


def test_policy_routing_by_port(live: Live) -> None:
    """N2: a rule for a port decides for what bears that port, and for nothing else between these addresses,
    though the other has just been let in."""
    wire = live.compared.wire
    stranger = wire.station(9, "10.1.0.77")
    mac = live.standing.mac(live.standing["a"])
    good, bad = 4008, 4009

    def heard(*sent: tuple[int, int]) -> int:
        """What a, which looks meanwhile, hears first of these, each a source port and a number."""
        hear = do("recvfrom", "a")
        live.worker.call(guest_calls.start, thread="heard", program="p", steps=[hear])
        for port, number in sent:
            packet = IP(src=stranger.ip, dst="10.1.0.1") / UDP(sport=port, dport=ONE)
            wire.control.inject("card0:0", bytes(stranger.ether(mac) / packet / records.encode(0, number)))
        (told,) = live.worker.call(guest_calls.finish, thread="heard", seconds=scaled(3), timeout=scaled(6))
        number_heard: int = told["ok"][0]["seed"]
        return number_heard

    rules = ("pref 100 lookup local", f"blackhole pref 50 ipproto udp sport {bad}")
    live.change("a", *(f"rule add {one}" for one in rules), "rule del pref 0")
    for number in (10, 20, 30):
        assert heard((good, number)) == number
        assert heard((bad, number + 1), (good, number + 2)) == number + 2
    live.change("a", "rule add pref 0 lookup local", "rule del pref 50", "rule del pref 100")
    live.again()
    live.fast("a", ONE, lambda: live.exchange(first=50), sent=4)


def test_source_validation_changes(live: Live) -> None:
    """N2, N8: rp_filter, switched on and off under live sockets, says of the next datagram already
    whether its source may come this way."""
    standing, wire = live.standing, live.compared.wire
    stranger = wire.station(9, "10.9.9.9")
    mac = standing.mac(standing["a"])

    def validate(mode: int) -> None:
        settings = [f"net.ipv4.conf.{one}.rp_filter={mode}" for one in ("all", "lan0")]
        live.agent.exec(["sysctl", "-qw", *settings], netns="a")

    def next_heard(number: int) -> int:
        """What a, which looks meanwhile, hears first: the stranger's, or the peer's that comes after it."""
        hear = do("recvfrom", "a")
        live.worker.call(guest_calls.start, thread="heard", program="p", steps=[hear])
        packet = IP(src=stranger.ip, dst="10.1.0.1") / UDP(sport=9, dport=ONE)
        wire.control.inject("card0:0", bytes(stranger.ether(mac) / packet / records.encode(0, number)))
        live.works(do("sendto", "b", data=data(number + 1), to=["10.1.0.1", ONE]))
        (told,) = live.worker.call(guest_calls.finish, thread="heard", seconds=scaled(3), timeout=scaled(6))
        heard: int = told["ok"][0]["seed"]
        if heard == number:  # and the peer's
            live.works(hear)
        return heard

    for first in (10, 30):
        validate(0)
        assert [next_heard(number) for number in (first, first + 2)] == [first, first + 2]
        validate(1)
        assert [next_heard(number) for number in (first + 4, first + 6)] == [first + 5, first + 7]
    validate(0)
    live.fast("a", ONE, lambda: live.exchange(first=50), sent=4)


def test_port_moves_away_and_back(live: Live) -> None:
    """N3, N8: the port goes to another namespace and the sockets stay: they send and hear nothing through it;
    those of its new namespace do. When it is back, they are fast again."""
    session = live.compared.session
    live.agent.call(namespaces.create, specs=[{"name": "third"}])
    try:
        live.agent.call(namespaces.give_back, name="a", device="lan0")
        told = live.do(do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER]))
        assert told == [{"errno": "ENETUNREACH"}]
        moved = Device("port", "lan0", "card0:0", addresses=("10.1.0.1/24",))
        spec = {
            "kind": "port",
            "name": "lan0",
            "on": session.devices["card0:0"],
            "addresses": ["10.1.0.1/24"],
        }
        live.agent.call(namespaces.lend, name="third", device=spec)
        there = Namespace("third", (moved,))
        live.works(*[one for one in opened("c", there, ONE) if one["op"] != "recv"])
        live.works(do("sendto", "b", data=data(2), to=["10.1.0.1", ONE]))
        (got,) = live.works(do("recvfrom", "c"))
        assert got[0]["seed"] == 2
        assert live.do(do("recv", "a", flags=["dontwait"])) == [{"errno": "EAGAIN"}]
        live.works(do("close", "c"))
        live.agent.call(namespaces.give_back, name="third", device="lan0")
        live.agent.call(namespaces.lend, name="a", device=spec)
    finally:
        live.agent.call(namespaces.destroy, names=["third"])
    live.agent.call(namespaces.await_carrier, name="a", device="lan0", carrier=True)
    live.again()
    live.fast("a", ONE, lambda: live.exchange(first=10), sent=4)


@pytest.mark.parametrize("live_vlan", KINDS, ids=lambda kind: kind.name)
def test_vlan_is_deleted_and_made_again(
    request: pytest.FixtureRequest, place: Place, compared: Compared, live_vlan: SocketKind
) -> None:
    """N8: the VLAN below a socket vanishes: its socket gets the kernel's error. A new one of the same name
    and tag is used at once."""
    standing = place(Topology("two VLANs", (subject("a", "vlan"), peer("vlan"))))
    a, b = standing["a"], standing["peer"]
    acquaint(compared, standing, a, b)
    live = Live(compared, live_vlan, standing)
    live.worker.load(guest_calls)
    compared.soiled = True
    live.do(*opened("a", a, ONE, "0.0.0.0"), *opened("b", b, OTHER))
    live.exchange()
    device = compared.session.devices["card0:0"]
    live.agent.call(namespaces.delete_device, name="a", device="lan0")
    assert live.do(do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER])) == [{"errno": "ENETUNREACH"}]
    live.change(None, f"link add link {device} name new.5 netns a type vlan id 5")
    live.change("a", "link set dev new.5 name lan0 up", "addr add 10.1.0.1/24 dev lan0")
    acquaint(compared, standing, a, b)
    live.do(*ready("a"), *ready("b"))
    live.fast("a", ONE, lambda: live.exchange(first=10), sent=4)
    live.worker.call(guest_calls.close, program="p")
    compared.soiled = False


# --- what looks on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["input", "output", "prerouting", "postrouting"])
def test_netfilter_is_honoured(live: Live, hook: str) -> None:
    """N9: rules of the namespace see every datagram: it goes through the kernel, which is counted as such."""
    run = live.agent.exec
    run(["nft", "add", "table", "ip", "t"], netns="a")
    run(["nft", "add", "chain", "ip", "t", "c", f"{{ type filter hook {hook} priority 0; }}"], netns="a")
    run(["nft", "add", "rule", "ip", "t", "c", "udp", "dport", "9", "drop"], netns="a")
    way = "rx" if hook in ("input", "prerouting") else "tx"
    live.slow("a", ONE, lambda: live.exchange(first=10), "filter", way=way)
    run(["nft", "delete", "table", "ip", "t"], netns="a")
    live.recovers()


@pytest.mark.parametrize("live", [SPINNING], ids=lambda kind: kind.name, indirect=True)
def test_names_of_hooks_are_looked_up_once(live: Live) -> None:
    """B3: two namespaces with different hooks take turns: once these are known, no datagram costs a look for
    a name among the kernel's symbols."""
    for netns, family in (("a", "ip"), ("peer", "inet")):
        chain = "{ type filter hook input priority 0; }"
        live.agent.exec(["nft", "add", "table", family, "t"], netns=netns)
        live.agent.exec(["nft", "add", "chain", family, "t", "c", chain], netns=netns)
    for name, port in (("a", ONE), ("peer", OTHER)):
        live.slow(name, port, lambda: live.exchange(first=10), "filter", way="rx")
    live.agent.load(probes)
    if not live.agent.call(probes.able):
        pytest.skip("needs a kernel with kprobes: Debian's")
    live.agent.call(probes.start, function="sprint_symbol_no_offset")
    live.exchange(first=60)
    assert live.agent.call(probes.stop, function="sprint_symbol_no_offset") == 0


def test_a_rule_that_drops_drops(live: Live) -> None:
    """N9, N10: what a netfilter rule forbids does not leave."""
    run = live.agent.exec
    run(["nft", "add", "table", "ip", "t"], netns="a")
    run(["nft", "add", "chain", "ip", "t", "c", "{ type filter hook output priority 0; }"], netns="a")
    run(["nft", "add", "rule", "ip", "t", "c", "udp", "dport", str(OTHER), "drop"], netns="a")
    told = live.do(do("sendto", "a", data=data(1), to=["10.1.0.2", OTHER]))
    assert told == [{"errno": "EPERM"}]
    run(["nft", "delete", "table", "ip", "t"], netns="a")
    live.exchange(first=10)


@pytest.mark.parametrize("live", [SPINNING], ids=lambda kind: kind.name, indirect=True)
def test_the_administrator_may_say_otherwise(live: Live) -> None:
    """N9: a namespace whose setting says so overtakes although hooks are installed; only that namespace."""
    run = live.agent.exec
    run(["nft", "add", "table", "ip", "t"], netns="a")
    run(["nft", "add", "chain", "ip", "t", "c", "{ type filter hook output priority 0; }"], netns="a")
    live.slow("a", ONE, lambda: live.exchange(first=10), "filter")
    assert live.agent.call(exasock.bypass_filters, netns="a") == 0
    live.agent.call(exasock.bypass_filters, netns="a", value=1)
    assert live.agent.call(exasock.bypass_filters, netns="peer") == 0
    live.recovers()
    live.agent.call(exasock.bypass_filters, netns="a", value=0)
    live.slow("a", ONE, lambda: live.exchange(first=30), "filter")
    run(["nft", "delete", "table", "ip", "t"], netns="a")


def test_traffic_control_is_honoured(live: Live) -> None:
    """N9: a tc filter on the way out, or in, sees every datagram."""
    tc = ["tc", "qdisc", "add", "dev", "lan0", "clsact"]
    live.agent.exec(tc, netns="a")
    match = ["protocol", "ip", "u32", "match", "u32", "0", "0", "action", "ok"]
    for way, direction in (("egress", "tx"), ("ingress", "rx")):
        live.agent.exec(["tc", "filter", "add", "dev", "lan0", way, *match], netns="a")
        live.slow("a", ONE, lambda: live.exchange(first=10), "filter", way=direction)
        live.agent.exec(["tc", "filter", "del", "dev", "lan0", way], netns="a")
    live.agent.exec(["tc", "qdisc", "del", "dev", "lan0", "clsact"], netns="a")
    live.recovers()


def test_a_packet_capture_sees_everything(live: Live) -> None:
    """N9: while tcpdump runs in the namespace it sees all datagrams, both ways; afterwards they are fast."""
    dump = live.agent.spawn(["tcpdump", "-l", "-n", "-i", "lan0", "udp"], netns="a")
    dump.expect("listening on")
    live.slow("a", ONE, lambda: live.exchange(first=10), "tap")
    dump.expect(r"(?s)(7001 > 10.1.0.2.7002.*){4}")
    dump.stop()
    live.recovers()


def test_steering_to_other_processors(live: Live) -> None:
    """N9: while the stack passes what comes on to other processors (RPS), which have it some time later, all
    of it is the stack's."""
    steer(live.agent, "a", "3")
    live.slow("a", ONE, lambda: live.exchange(first=10), "stacked", way="rx")
    count = 30
    steps = [do("sendto", "b", data=data(number), to=["10.1.0.1", ONE]) for number in range(count)]
    live.works(*steps)
    assert [one[0]["seed"] for one in live.works(*[do("recvfrom", "a")] * count)] == list(range(count))
    steer(live.agent, "a", "0")
    live.recovers()


def test_ss_sees_the_sockets(live: Live) -> None:
    """N10: native tools show the sockets as they are: ordinary ones."""
    shown = live.agent.exec(["ss", "-H", "-u", "-a", "-n"], netns="a").stdout
    assert f"10.1.0.1:{ONE}" in shown


def test_arriving_while_nobody_looks(live: Live) -> None:
    """N9: what comes while a process does other things waits for it in the kernel, all of it, in order."""
    count = 30
    live.works(*[do("sendto", "a", data=data(n), to=["10.1.0.2", OTHER]) for n in range(count)])
    steps: Steps = [do("recvfrom", "b") for _ in range(count)]
    assert [one[0]["seed"] for one in live.works(*steps)] == list(range(count))


@pytest.mark.card("emulated")
def test_damage_that_the_card_cannot_see(live: Live, defer: Callable[..., None]) -> None:
    """N9, N10: datagrams that were damaged before their FCS was made are judged by their checksums, whoever
    takes them: no socket hears of them, and what comes next is right."""
    control = live.compared.session.control
    damaged = 24
    before = live.counters("peer", OTHER)
    defer(control.rules, "card0:1", [])
    rule = {"kind": "corrupt", "fix_fcs": True, "direction": "rx", "match": {"protocol": 17}}
    control.rules("card0:1", [rule])
    sends = [do("sendto", "a", data=data(number), to=["10.1.0.2", OTHER]) for number in range(damaged)]
    told = live.do(
        look("a"), look("b"), *[one for send in sends for one in (send, look("b"))], do("settle", "b")
    )
    assert [one.get("errno") for one in told[3:-1:2]] == ["EAGAIN"] * damaged
    assert control.counters()["card0:1"]["rules_rx"]["corrupt"] == damaged
    control.rules("card0:1", [])
    after = live.counters("peer", OTHER)
    if after:
        judged = after["rx_kernel"].get("header", 0) - before["rx_kernel"].get("header", 0)
        assert judged > damaged / 4 and after["claimed"] == before["claimed"], after
    live.recovers()

"""The figures of the lab: bringing it up, many namespaces, small frames, a stream; and all others by name.

Each function returns {name: number}; remarks (what limits a figure) go to ``remarks`` under the same name.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from lab import api, placement
from lab import config as configs
from lab.console import step
from lab.deadline import scaled
from lab.errors import LabError
from suites.bench import attachments, changes, counted, hot_path, programs, tcp, tenants, udp
from suites.bench.machine import Meter
from suites.exasock.compare import SPINNING
from suites.guest import latency, pump
from suites.outside import Outside
from suites.place import Placed
from suites.session import EXASOCK, KERNEL, Session
from suites.test_many_namespaces import FIRST_VID, network, side
from suites.test_overlapping_ranges import alike
from suites.topology import Device, Namespace, Topology
from suites.traffic import Traffic

Figures = dict[str, float]
Measure = Callable[[Session], tuple[Figures, dict[str, str]] | None]
ROUNDS = 5
#: How small datagrams may be sent and received: segmented by the kernel (UDP_SEGMENT), merged (UDP_GRO). The
#: first is the figure with a goal; in the others the stack carries many frames as one.
WAYS = {
    "lab_fps_64": (False, False, "sendmmsg to recvmmsg"),
    "lab_fps_64_gro": (False, True, "sendmmsg to a socket with UDP_GRO"),
    "lab_fps_64_gso_gro": (True, True, "UDP_SEGMENT to UDP_GRO"),
}
SECONDS = 4.0
#: What accelerated sockets cost, by the name it is asked for with.
ACCELERATED: dict[str, Callable[[Session], tuple[Figures, dict[str, str]]]] = {
    "send": udp.send_costs,
    "receive": udp.receive_costs,
    "flood": udp.flood_costs,
    "among": udp.namespace_costs,
    "changes": changes.reactions,
    "memory": attachments.memory,
    "ends": attachments.ends,
    "tcp": tcp.message_costs,
    "tcp-volume": tcp.volume_costs,
    "tcp-changes": tcp.change_costs,
    "tcp-connect": tcp.connect_costs,
    "tcp-memory": tcp.memory,
    "tenants": tenants.victims,
}
#: The same in instructions of the guest, which only a lab that counts them tells.
COUNTED: dict[str, Callable[[Session], tuple[Figures, dict[str, str]]]] = {
    "send-count": counted.sends,
    "tcp-count": counted.messages,
    "among-count": counted.sends_among,
    "tcp-among": counted.messages_among,
    "hostile-count": counted.hostile_frames,
}
#: What needs no lab: modules with a function ``figures``.
OTHERS = {"card": "lab.card.bench", "images": "images.bench"}
LIBRARY = "library"


def two_ports(mtu: int | None = None) -> Topology:
    """A namespace on each port of the card."""
    return Topology(
        "two ports",
        (
            Namespace("a", (Device("port", "eth0", "card0:0", mtu=mtu, addresses=("10.1.0.1/24",)),)),
            Namespace("b", (Device("port", "eth0", "card0:1", mtu=mtu, addresses=("10.1.0.2/24",)),)),
        ),
    )


@dataclass
class Bench:
    """One run: the lab it measures, and what it found."""

    name: str
    figures: Figures = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    #: What could not be measured, by name, and why.
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, only: Collection[str] = ()) -> None:
        """The measures of the lab, in order: all, in a freshly booted one, or those named, in any.

        One that fails costs its own figures only: it is noted in ``failed``, and the next has a fresh guest.
        """
        measures: dict[str, Measure] = {**self.measures(), **ACCELERATED}
        timed, counted = ([name for name in of if not only or name in only] for of in (measures, COUNTED))
        if timed:
            session = Session(api.up(self.name)) if only else self.warm_up()
            self._all(session, {name: measures[name] for name in timed})
        if counted:
            config = replace(configs.load(), count_instructions=True, accelerator="tcg")
            session = Session(api.up(self.name, config=config, renew=True))
            self._all(session, {name: COUNTED[name] for name in counted})

    def _all(self, session: Session, measures: dict[str, Measure]) -> None:
        """Them all, in order, in one lab."""
        with session.lab:
            if not measures.keys() <= self.measures().keys():
                programs.install(session)
            for name, measure in measures.items():
                session = self._measured(session, name, measure)
            session.close()

    def _measured(self, session: Session, name: str, measure: Measure) -> Session:
        """One of them; the session for the next."""
        try:
            with step((measure.__doc__ or name).splitlines()[0]):
                figures, remarks = measure(session) or ({}, {})
        except LabError as error:
            self.failed[name] = error.message
            session.close()
            session.lab.restart()
            session = Session(session.lab)
            programs.install(session)
        else:
            self.figures |= figures
            self.remarks |= remarks
        return session

    def measures(self) -> dict[str, Callable[[Session], None]]:
        """Those of the lab itself, by name."""
        return {
            "namespaces": self.namespaces,
            "frames": self.small_frames,
            "stream": self.stream,
            "spread": self.apart,
            "ping": self.round_trip,
            "trip": self.accelerated,
        }

    def _outside(self, session: Session) -> Outside:
        paths = session.lab.paths
        return Outside(paths.testers / "t0.sock", paths.capture, session.control)

    def warm_up(self) -> Session:
        """Down, then `lab up` with everything built, to the first answered ping of a new namespace."""
        api.down(self.name)
        began = time.monotonic()
        lab = api.up(self.name)
        booted = time.monotonic()
        session = Session(lab)
        outside = self._outside(session)
        outside.station(1, "10.1.0.9")
        standing = Placed(session, Topology("first", two_ports().namespaces[:1]))
        Traffic(session.programs(KERNEL)).ping([(standing["a"], "10.1.0.9")])
        self.figures["lab_up_warm_s"] = time.monotonic() - began
        self.figures["lab_up_s"] = booted - began
        times = ", ".join(f"{name} {took:.1f}" for name, took in dict(lab.facts.get("times", {})).items())
        self.remarks["lab_up_warm_s"] = f"the guest's boot ({times or 'see lab status'})"
        standing.destroy()
        outside.close()
        return session

    def namespaces(self, session: Session) -> None:
        """512 namespaces, from none to all pinged"""
        count = 512
        outside = self._outside(session)
        for number in range(count):
            outside.station(number, f"{network(number)}.9", FIRST_VID + number)
        topology = Topology("512", side("n", "card0:0", count, 1))
        traffic = Traffic(session.programs(KERNEL))
        meter = Meter(session.lab)
        began = time.monotonic()
        standing = Placed(session, topology)
        made = time.monotonic()
        neighbours = [(one, f"{network(number)}.9") for number, one in enumerate(topology.namespaces)]
        traffic.ping(neighbours, seconds=6)
        self.figures["ns512_up_ping_s"] = time.monotonic() - began
        self.figures["ns512_create_s"] = made - began
        self.remarks["ns512_up_ping_s"] = f"the guest's kernel making namespaces; {meter.share()}"
        began = time.monotonic()
        standing.destroy()
        self.figures["ns512_destroy_s"] = time.monotonic() - began
        outside.close()

    def small_frames(self, session: Session) -> None:
        """64-byte UDP frames from a namespace on port 0 to one on port 1"""
        standing = Placed(session, two_ports())
        Traffic(session.programs(KERNEL)).ping([(standing["a"], "10.1.0.2")])
        for name, (segmented, merged, how) in WAYS.items():
            self._small_frames(session, name, segmented, merged, how)
        standing.destroy()

    def _small_frames(self, session: Session, name: str, segmented: bool, merged: bool, how: str) -> None:
        """One way of sending, the median of ROUNDS."""
        runs = sorted(self._blast(session, segmented, merged) for _ in range(ROUNDS))
        rate, lost, share = runs[ROUNDS // 2]
        self.figures |= {name: rate, f"{name}_lost_percent": lost}
        self.remarks[name] = f"{how}; median of {ROUNDS}, {lost:.1f} % lost; {share}"

    def apart(self, session: Session) -> None:
        """The same with the lab's threads on all processors; the guest's own stay one thread"""
        if "processor" not in session.lab.facts:
            return  # they are there already
        pids = session.lab.state.pids()
        placement.spread(pids)
        standing = Placed(session, two_ports())
        Traffic(session.programs(KERNEL)).ping([(standing["a"], "10.1.0.2")])
        segmented, merged, how = WAYS["lab_fps_64"]
        self._small_frames(session, "lab_fps_64_spread", segmented, merged, how)
        meter = Meter(session.lab)
        self.figures["lab_tcp_mbit_s_spread"] = self._iperf3(session, standing)
        self.remarks["lab_tcp_mbit_s_spread"] = f"median of {ROUNDS}; {meter.share()}"
        standing.destroy()
        placement.gather(session.lab.name, pids)

    def _blast(self, session: Session, segmented: bool, merged: bool) -> tuple[float, float, str]:
        """Frames a second that the receiver counted, percent lost, and who was how busy."""
        programs = session.programs(KERNEL)
        programs.servers.call(pump.listen, netns="b", address="10.1.0.2", port=9, merged=merged)
        counting = programs.servers.submit(
            "call", module=pump.__name__, function="count", kwargs={"first": scaled(3), "silence": 1.0}
        )
        meter = Meter(session.lab)
        sent = programs.clients.call(
            pump.blast,
            netns="a",
            to="10.1.0.2",
            port=9,
            seconds=SECONDS,
            segmented=segmented,
            timeout=SECONDS + scaled(3),
        )
        share = str(meter.share())
        got = counting.result(scaled(6))
        lost = 100 * (1 - got["received"] / max(sent["sent"], 1))
        return got["received"] / max(got["seconds"], 0.001), lost, share

    def stream(self, session: Session) -> None:
        """TCP with iperf3 between the two, MTU 1500, then 9000"""
        for mtu, name in ((1500, "lab_tcp_mbit_s"), (9000, "lab_tcp_mbit_s_mtu9000")):
            standing = Placed(session, two_ports(mtu))
            meter = Meter(session.lab)
            self.figures[name] = self._iperf3(session, standing)
            self.remarks[name] = f"median of {ROUNDS}; {meter.share()}"
            standing.destroy()

    def _iperf3(self, session: Session, standing: Placed) -> float:
        """Median of the Mbit/s the receiver counted."""
        programs = session.programs(KERNEL)
        rates = []
        for _ in range(ROUNDS):
            server = programs.start(["iperf3", "-s", "-1", "-B", "10.1.0.2", "--forceflush"], "b")
            server.expect("listening", timeout=scaled(3))
            argv = ["iperf3", "-c", "10.1.0.2", "-B", "10.1.0.1", "-t", f"{SECONDS:.0f}", "-J"]
            done = session.agent.exec(argv, netns="a", timeout=SECONDS + scaled(4))
            server.stop()
            rates.append(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e6)
        return float(statistics.median(rates))

    def round_trip(self, session: Session) -> None:
        """Ping between the two namespaces"""
        standing = Placed(session, two_ports())
        traffic = Traffic(session.programs(KERNEL))
        times = []
        for _ in range(30):
            (result,) = traffic.ping([(standing["a"], "10.1.0.2")]).values()
            times.append(result["rtt_ms"])
        standing.destroy()
        self.figures["lab_ping_rtt_ms"] = statistics.median(times)
        self.remarks["lab_ping_rtt_ms"] = f"median of 30, worst {max(times):.1f}; Python included"

    def accelerated(self, session: Session) -> None:
        """UDP round trip, kernel and exasock, with 2 and with 258 namespaces that hold such sockets"""
        ask = {"to": "10.0.0.2", "port": 9, "count": 400}
        for many in (0, 256):
            asking, answering = alike("n", "card0:0", 1 + many, 1), alike("p", "card0:1", 1, 2)
            standing = Placed(session, Topology(f"latency {many}", asking + answering))
            for name, kind in ((KERNEL.name, KERNEL), (EXASOCK.name, SPINNING)):
                programs = session.programs(kind)
                for worker in (programs.servers, programs.clients):
                    worker.load(latency)
                occupied = [one.name for one in asking[1:]]
                programs.servers.call(
                    latency.occupy, netns=occupied, address="10.0.0.1", port=9, timeout=scaled(6)
                )
                trips: list[float] = []
                sends: list[float] = []
                for _ in range(ROUNDS):
                    programs.servers.call(latency.listen, netns="p1", address="10.0.0.2", port=9)
                    serving = programs.servers.submit(
                        "call", module=latency.__name__, function="serve", kwargs={"count": ask["count"]}
                    )
                    told = programs.clients.call(latency.ask, netns="n1", timeout=scaled(20), **ask)
                    serving.result(scaled(6))
                    trips += told["round_trip"]
                    sends += told["send"]
                figure = f"udp_{name}_ns{many + 2}"
                for what, times in (("rtt", trips), ("send", sends)):
                    parts = statistics.quantiles(times, n=100)
                    for percent in (10, 50, 90, 99):
                        self.figures[f"{figure}_{what}_p{percent}_us"] = parts[percent - 1]
                    self.remarks[f"{figure}_{what}_p50_us"] = f"the median of {len(times)}"
                programs.servers.call(latency.leave)
                session.end_programs(kind)
            standing.destroy()


def others(only: Collection[str] = ()) -> tuple[Figures, dict[str, str]]:
    """The figures of what needs no lab: card model, images, preload library; what is not there is said."""
    import importlib

    figures: Figures = {}
    remarks: dict[str, str] = {}
    for name, module in OTHERS.items():
        if only and name not in only:
            continue
        try:
            part: Callable[[], Figures] = importlib.import_module(module).figures
        except (ImportError, AttributeError) as error:
            remarks[module] = f"no figures: {error}"
            continue
        with step(f"figures of {module}"):
            figures |= part()
    if not only or LIBRARY in only:
        with step("the library's own instructions and cache lines, counted natively"):
            counts, told = hot_path.figures()
        figures |= counts
        remarks |= told
    return figures, remarks

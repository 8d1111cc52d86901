"""Traffic between namespaces, counted to the record: who was asked, who answered, how often, and where else.

    traffic.serve("udp", b)
    traffic.exactly_once("udp", [(a, b)], count=20)

Every flow has a number of its own; every namespace's servers put its tag in their answers. So a datagram that
reached two namespaces, or the wrong one, or none, shows in both counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.deadline import scaled
from suites import timeline
from suites.guest import echo, exchange, past, records, sockets
from suites.session import KERNEL, Programs
from suites.share import PROTOCOLS
from suites.topology import Namespace

PORT = 7000
#: Records on each accelerated stream, at least: the library attaches a connection after 16 calls, and the
#: module takes it when it is quiet.
STREAM_RECORDS = 80
#: A wrong tag, or a count that differs, is told for this many flows; the others are summed up.
_TOLD = 12


@dataclass(frozen=True)
class Flow:
    """Records of one kind from one namespace to one address, and the namespaces that must answer."""

    number: int
    kind: str
    source: Namespace
    targets: tuple[Namespace, ...]
    to: str


@dataclass
class Report:
    """What became of an exchange. ``results`` by flow number as ``suites.guest.exchange.run`` tells them."""

    flows: list[Flow]
    count: int
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    objections: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return sum(result["unique"] for result in self.results.values())

    def check(self) -> None:
        """AssertionError that lists what is wrong."""
        if self.objections:
            more = len(self.objections) - _TOLD
            lines = self.objections[:_TOLD] + ([f"and {more} more"] if more > 0 else [])
            raise AssertionError("traffic:\n  " + "\n  ".join(lines))


class Traffic:
    """Servers and clients of one kind of sockets, for one test."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.flows: list[Flow] = []
        self._tags: dict[str, int] = {}
        self._servers: dict[str, Namespace] = {}
        self.accelerated = programs.kind is not KERNEL
        #: What went past the kernel so far, as ``past.told`` names it, and "tcp sent", "tcp received": the
        #: bytes of all records. Complete once the traffic was stopped.
        self.past: Counter[str] = Counter()
        #: "udp", "tcp": of what was exchanged, and of what was served.
        self._exchanges: set[str] = set()
        self._serves: set[str] = set()
        self._exchanged = False

    def tag(self, namespace: Namespace) -> int:
        """The number that a namespace's servers answer with."""
        return self._tags.setdefault(namespace.name, len(self._tags) + 1)

    def serve(
        self,
        kind: str,
        *namespaces: Namespace,
        port: int = PORT,
        address: str | None = None,
        group: str | None = None,
        device: str | None = None,
    ) -> None:
        """Echo servers, one in each namespace, bound to its first address (or to ``address``, or to a
        multicast ``group`` joined on that address's interface). RemoteError carries a refusal's errno."""
        items: list[dict[str, Any]] = []
        for namespace in namespaces:
            name = f"{namespace.name}/{kind}/{port}/{group or address or ''}"
            item = {"name": name, "netns": namespace.netns, "kind": kind, "tag": self.tag(namespace)}
            item |= {"port": port, "device": device, "address": address or group or namespace.ip}
            if group is not None:
                item |= {"group": group, "interface": namespace.ip}
            items.append(item)
        self._serves.add(PROTOCOLS[kind])
        with timeline.step(f"starting {len(items)} {kind} servers"):
            self.programs.servers.call(echo.start, items=items, timeout=scaled(6))
        self._servers |= {item["name"]: one for item, one in zip(items, namespaces, strict=True)}

    def stop(self) -> None:
        """Close every server and connection."""
        self._note_past()
        if self._servers:
            self.programs.servers.call(echo.stop)
            self._servers.clear()

    @property
    def protocols(self) -> set[str]:
        """Of what went through these sockets: "udp", "tcp". Who only serves is asked from outside."""
        return self._exchanges or self._serves

    def _note_past(self) -> None:
        """Ask what went past the kernel, before the servers' sockets, which count it, are closed."""
        if not self.accelerated or not (self._exchanged or self._servers):
            return
        worker = self.programs.clients if self._exchanged else self.programs.servers
        self.past.update(worker.call(past.told, timeout=scaled(6)))
        self._exchanged = False

    def flow(self, kind: str, source: Namespace, *targets: Namespace, to: str | None = None) -> Flow:
        flow = Flow(len(self.flows) + 1, kind, source, targets, to or targets[0].ip)
        self.flows.append(flow)
        return flow

    def exchange(
        self,
        flows: Sequence[Flow],
        count: int = 10,
        *,
        size: int = 64,
        port: int = PORT,
        seconds: float = 3.0,
        window: int = 4,
        bind: bool = True,
        source_port: int = 0,
    ) -> Report:
        """Send ``count`` records on each flow at once and count the answers (on accelerated streams at least
        STREAM_RECORDS). ``seconds`` are scaled.

        ``bind``: the client binds its namespace's first address (and ``source_port``); else the kernel's
        route chooses.
        """
        items = []
        if self.accelerated and any(flow.kind == "tcp" for flow in flows):
            count = max(count, STREAM_RECORDS)
        for flow in flows:
            self._exchanges.add(PROTOCOLS[flow.kind])
            item = {"name": str(flow.number), "flow": flow.number, "netns": flow.source.netns}
            item |= {"kind": flow.kind, "to": flow.to, "port": port}
            if bind:
                item["source"] = flow.source.ip
                item["source_port"] = source_port
            items.append(item)
        with timeline.step(f"exchanging {count} records on each of {len(items)} flows"):
            told = self.programs.clients.call(
                exchange.run,
                items=items,
                count=count,
                size=max(size, records.SHORTEST),
                window=window,
                seconds=scaled(seconds),
                accelerated=self.accelerated,
                timeout=scaled(seconds) + scaled(2),
            )
        self._exchanged = True
        report = Report(list(flows), count, {int(name): result for name, result in told.items()})
        for flow in flows:
            if flow.kind == "tcp":
                result = report.results[flow.number]
                moved = (result["sent"] + result["answers"]) * max(size, records.SHORTEST)
                self.past.update({"tcp sent": moved, "tcp received": moved})
        for flow in flows:
            report.objections += self._client_objections(flow, report)
        return report

    def _client_objections(self, flow: Flow, report: Report) -> list[str]:
        result = report.results[flow.number]
        told = f"flow {flow.number} ({flow.kind}, {flow.source.name} to {flow.to})"
        found = []
        wanted = {str(self.tag(target)): report.count for target in flow.targets}
        if result["tags"] != wanted:
            names = {str(tag): name for name, tag in self._tags.items()}
            got = {names.get(tag, tag): times for tag, times in result["tags"].items()}
            expected = {target.name: report.count for target in flow.targets}
            found.append(f"{told}: answered by {got}, expected {expected}, missing {result['missing']}")
        if result["errors"] or result["foreign"]:
            found.append(f"{told}: errors {result['errors']}, foreign records {result['foreign']}")
        return found

    def seen(self, forget: bool = True) -> dict[str, dict[str, Any]]:
        """What every server saw since the last time, by its name."""
        if not self._servers:
            return {}
        told: dict[str, dict[str, Any]] = self.programs.servers.call(echo.report, forget=forget)
        return told

    def exactly_once(
        self, kind: str, pairs: Sequence[tuple[Namespace, Namespace]], count: int = 10, **options: Any
    ) -> Report:
        """Exchange records between pairs (who asks, who must answer); both ends must have counted each record
        exactly once, and no other server any."""
        self.seen()
        report = self.exchange([self.flow(kind, *pair) for pair in pairs], count, **options)
        self._count_servers(report, kind, options.get("port", PORT))
        report.check()
        return report

    def _count_servers(self, report: Report, kind: str, port: int) -> None:
        expected: dict[str, dict[str, list[int]]] = {name: {} for name in self._servers}
        for flow in report.flows:
            for target in flow.targets:
                for name, namespace in self._servers.items():
                    if namespace is target and f"/{kind}/{port}/" in name:
                        expected[name][str(flow.number)] = [report.count, report.count]
        for name, saw in self.seen().items():
            if saw["flows"] != expected[name]:
                wrong = {
                    flow: saw["flows"].get(flow, [0, 0])
                    for flow in expected[name].keys() | saw["flows"].keys()
                    if saw["flows"].get(flow) != expected[name].get(flow)
                }
                report.objections.append(
                    f"server {name}: [records, different ones] by flow {wrong}, expected {expected[name]}"
                )
            if saw["foreign"] or saw["broken"]:
                report.objections.append(f"server {name}: foreign {saw['foreign']}, broken {saw['broken']}")

    def ping(
        self, pairs: Sequence[tuple[Namespace, str]], count: int = 1, seconds: float = 3.0
    ) -> dict[str, dict[str, Any]]:
        """ICMP echo from namespaces to addresses, all at once; AssertionError names who got no answer."""
        items = [{"name": f"{source.name} to {to}", "netns": source.netns, "to": to} for source, to in pairs]
        with timeline.step(f"pinging {len(items)} addresses"):
            results: dict[str, dict[str, Any]] = self.programs.clients.call(
                exchange.ping, items=items, count=count, seconds=scaled(seconds), timeout=scaled(seconds + 2)
            )
        silent = [name for name, result in results.items() if result["received"] < count]
        assert not silent, f"{len(silent)} pings without an answer: {', '.join(silent[:_TOLD])}"
        return results

    def attempt(self, namespace: Namespace, kind: str, **steps: Any) -> tuple[str | None, str | None]:
        """Do what a program would (device, bind, join, connect, sendto) and return (step, errno) where it
        was refused; (None, None) when all was allowed."""
        steps.setdefault("seconds", scaled(1))
        with timeline.step(f"trying {kind} in {namespace.name}: {' '.join(steps)}"):
            told = self.programs.clients.call(sockets.try_steps, netns=namespace.netns, kind=kind, **steps)
        return told["step"], told["errno"]

"""Goals of these fixtures:

- A test is about twenty lines: what stands (a topology), what is sent, what must be seen inside and outside.
- Dimensions are independent: the lab and its card kind, the topology, and how programs get their sockets
  (``sockets``: the kernel's, or through exasock) do not know of each other.
- Nothing is left behind: everything a fixture makes it takes away; after every test the bench checks its own
  health, and a guest that a test has soiled fails that test by name and is replaced before the next one.
- A failure explains itself: one bundle with topology, captures, kernel log, counters, registers, versions.
- What the fixtures know goes into the record of the run (``suites.report``): topology, counters, kernel log.
- No sleeps, no asserted times: readiness is an event with a named deadline, scaled to the accelerator.

Options: ``--lab NAME`` (or LAB in the environment), ``--topology-only`` draws what each test stands on,
``--shell-on-error`` stops in the lab where a test fails; ``--seeds N``, ``--fuzz-seconds N``,
``--megabytes N`` and ``--connections N`` for longer runs of what is random or many; ``--roles`` has Ansible
prepare the guest that plays a machine over SSH, too; ``--stand-in``: the real card is a stand-in;
``--record``, ``--again`` and ``--night`` are of the report.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from images import build, variant
from lab import api, console, state
from lab import config as configs
from lab.errors import LabError
from lab.paths import Paths
from suites import bundle, cabling, drawing, health, share, stop, tiers, timeline
from suites import patience as patience_kinds
from suites import topology as topologies
from suites.guest import health as guest_health
from suites.outside import Outside
from suites.place import Placed
from suites.report import origin, recorder
from suites.report.record import Capture, Origin, messages
from suites.session import (
    KERNEL,
    LEAKS_SECONDS,
    SOCKET_KINDS,
    Programs,
    Session,
    SocketKind,
    facts,
)
from suites.topology import Topology
from suites.traffic import Traffic

#: What other kinds of sockets than the kernel's are not run with, by what a test's parameters are, and why.
KERNEL_ALONE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "of many connections few at a time are taken": lambda given: (
        given.get("kind") == "tcp" and given.get("count", 0) > 16
    ),
    "with 512 namespaces it takes minutes more": lambda given: given.get("count", 0) == 512,
}
#: Options that choose what a test does: a replay needs the same.
REPLAYED = ("--seeds", "--first-seed", "--fuzz-seconds", "--attack-seconds", "--connections", "--megabytes")
_TOPOLOGY = pytest.StashKey[Topology]()
_CHECKUP = pytest.StashKey[health.Checkup]()
_FIGURES = pytest.StashKey[list[Any]]()
_PASSED = pytest.StashKey[bool]()
_SESSION = pytest.StashKey[Session]()
_ORIGIN = "exalab_origin"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("exalab")
    group.addoption("--lab", default=os.environ.get("LAB", "lab"), help="name of the lab to use")
    group.addoption("--seeds", type=int, default=6, help="random programs to compare (exasock)")
    group.addoption("--first-seed", type=int, default=1, help="seed of the first of them")
    group.addoption("--fuzz-seconds", type=float, default=3, help="duration of fuzzing /dev/exasock")
    group.addoption("--attack-seconds", type=float, default=2, help="duration of each hostile attack")
    group.addoption("--attacks", default="", help="run only these attacks, separated by commas")
    group.addoption("--connections", type=int, default=150, help="how many TCP connections to open and close")
    group.addoption("--megabytes", type=float, default=2, help="megabytes in each TCP stream over a bad wire")
    group.addoption(
        "--shell-on-error",
        action="store_true",
        help="stop where a test fails, and open a shell in the guest (without a terminal: say how to get in)",
    )
    group.addoption(
        "--roles", action="store_true", help="also have Ansible prepare the guest that plays a host"
    )
    group.addoption("--stand-in", action="store_true", help="the real card is a stand-in; the report says so")
    group.addoption(
        "--topology-only", action="store_true", help="draw the topology of each test and run nothing"
    )
    group.addoption(
        "--patience",
        choices=patience_kinds.PATIENCES,
        default="",
        help="how long the datapath waits for a process, in tests that do not choose (suites/patience.py)",
    )


def card_told(config: pytest.Config, lab: api.Lab) -> str:
    """The kind of card that the report is told of: nobody shall take a stand-in for a card."""
    if config.getoption("--stand-in", default=False):
        return "stand-in"
    return str(lab.facts.get("card_kind", "emulated"))


def worker_of(config: pytest.Config) -> str:
    """Which of pytest-xdist's workers this is (``gw0``); empty when there are none."""
    return str(getattr(config, "workerinput", {}).get("workerid", ""))


def named_lab(config: pytest.Config) -> str:
    """The lab to use, of each worker its own; the option is unknown when pytest was started without naming
    this folder.
    """
    name = str(config.getoption("--lab", default=os.environ.get("LAB", "lab")))
    worker = worker_of(config)
    return f"{name}-{worker}" if worker else name


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", default=None) and configs.load().real:
        raise pytest.UsageError(
            "several labs cannot share the real card of lab/lab.toml: leave LABS out, or have more machines"
        )
    for line in (
        "expects(pattern, ...): kernel or cardd messages, or card counters, that this test causes on purpose",
        "soils(why): leaves the guest unusable on purpose; it is replaced without complaint",
        "card(kind): needs this kind of card (emulated, real); skipped on another",
        "needs(capability, ...): of the card: clock, steering, hash; skipped on one without",
        "may_not_act(why): rules of the wire that this test sets need not do anything",
        "past(udp_received=share, ..., why=): of its traffic at least so much must go past the kernel",
        "by_kernel(why): nothing of its traffic can go past the kernel",
        "patience(name, ...): run with each of these (suites/patience.py) where sockets are accelerated",
        "accelerated: about something that only accelerated sockets have",
        "accelerated_differs(why): a deliberate difference between kernel and accelerated sockets (N10)",
    ):
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sockets" in metafunc.fixturenames:
        accelerated = metafunc.definition.get_closest_marker("accelerated") is not None
        kinds = [kind for kind in SOCKET_KINDS if not accelerated or kind is not KERNEL]
        metafunc.parametrize("sockets", kinds, ids=lambda kind: kind.name, indirect=True, scope="session")
    patiences = metafunc.definition.get_closest_marker("patience")
    if patiences is not None:
        metafunc.parametrize("patience", patiences.args, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what ``KERNEL_ALONE`` says."""
    why: dict[pytest.Item, str] = {}
    for item in items:
        given: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        kind = given.get("sockets", KERNEL)
        patiences = item.get_closest_marker("patience")
        if kind is KERNEL:
            if "sockets" in given and patiences and given["patience"] != patiences.args[0]:
                why[item] = "through exasock only: the kernel's sockets do not wait for a process"
        else:
            reasons = [told for told, is_so in KERNEL_ALONE.items() if is_so(given)]
            if reasons:
                why[item] = f"through the kernel only: {'; '.join(reasons)}"
    tiers.leave_out(config, items, why)


# --- the lab ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def lab_name(request: pytest.FixtureRequest) -> str:
    return named_lab(request.config)


@pytest.fixture(scope="session")
def session(
    request: pytest.FixtureRequest, lab_name: str, record_testsuite_property: Callable[[str, object], None]
) -> Iterator[Session]:
    """The lab, brought up when it is down, with the suites' modules in its guest."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            lab = api.Lab.attach(lab_name)
        except LabError:
            if state.is_alive(Paths(lab_name)):
                api.down(lab_name)
            lab = api.up(lab_name)
        if worker_of(request.config):
            # Only now: the lab of a worker is nobody else's, and nobody takes it down but the worker.
            request.addfinalizer(lambda: api.down(lab_name))
    with lab:
        with capture.global_and_fixture_disabled():
            warn_of_other_sources(lab)
        if lab.facts.get("card_kind") == "real":
            prove_cabling(lab)
        session = Session(lab)
        request.config.stash[_SESSION] = session
        for name, value in facts(lab).items():
            record_testsuite_property(name, value)
        about = recorder.origin(request.config)
        if worker_of(request.config):
            told = origin.with_lab(Origin(), lab, card_told(request.config, lab))
            told.seed = str(session.control.status().get("seed", ""))
            request.config.workeroutput[_ORIGIN] = asdict(told)  # type: ignore[attr-defined]
        if about is not None:
            origin.with_lab(about, lab, card_told(request.config, lab))
            about.seed = str(session.control.status().get("seed", ""))
        yield session
        record_testsuite_property("guests.replaced", len(session.replaced))
        session.close()


def warn_of_other_sources(lab: api.Lab) -> None:
    """A lab that was up already may run what the checkout was before."""
    if lab.facts.get("host"):
        return  # its packages are brought up to date when it comes up
    reporting = lab.facts.get("reporting")
    image = variant.current(reporting) if reporting else build.current("dut")
    if image is None or lab.facts["images"].get("dut") != image.digest:
        console.warn(
            f"lab {lab.name} runs an image of other sources, and that image is tested",
            hint="make lab-down; the next run builds and boots the image of this checkout",
        )


def prove_cabling(lab: api.Lab) -> None:
    """No test runs on a real card whose ports are not cabled as lab.toml says."""
    found = cabling.prove(lab)
    if not found.good:
        told = f"the cabling is not as lab/lab.toml has it:\n{found.drawing().plain}"
        pytest.exit(told, pytest.ExitCode.USAGE_ERROR)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """What the first worker of pytest-xdist said of its lab goes into the record of the run."""
    told = getattr(node, "workeroutput", {}).get(_ORIGIN)
    about = recorder.origin(node.config)
    if told is None or about is None or about.lab:
        return
    for name, value in vars(TypeAdapter(Origin).validate_python(told)).items():
        if isinstance(value, dict):
            getattr(about, name).update(value)
        elif value and name != "source":
            setattr(about, name, value)


def is_native(request: pytest.FixtureRequest) -> bool:
    """Whether a test needs no lab: it is about the suites' own code (``tests``), or the report's page."""
    return request.node.path.parent.name in ("tests", "browser")


@pytest.fixture(autouse=True)
def _suits(request: pytest.FixtureRequest) -> None:
    """Skip a test that needs another kind of card, or what this card cannot do, with that reason."""
    kinds, abilities = (request.node.get_closest_marker(name) for name in ("card", "needs"))
    if kinds is None and abilities is None:
        return
    session: Session = request.getfixturevalue("session")
    if kinds is not None:
        kind = str(session.lab.facts.get("card_kind", "emulated"))
        told = card_told(request.config, session.lab)
        recorder.notes(request.node).card = told
        if kind not in kinds.args:
            pytest.skip(f"needs a card that is {' or '.join(kinds.args)}; this lab's is {told}")
    missing = [name for name in abilities.args if not session.can().get(name)] if abilities else []
    if missing:
        pytest.skip(f"needs a card with {', '.join(missing)}; this lab's has none")


@pytest.fixture(autouse=True)
def healthy(request: pytest.FixtureRequest, record_property: Any) -> Iterator[None]:
    """The health check after every test; a soiled guest fails the test by name and is replaced."""
    if request.node.function.__doc__:
        record_property("property", " ".join(request.node.function.__doc__.split()))
    if is_native(request):
        yield
        return
    session: Session = request.getfixturevalue("session")
    with timeline.step("snapshot of the guest"):
        checkup = health.Checkup(session)
    request.node.stash[_CHECKUP] = checkup
    session.control.replaced.clear()
    session.control.faults.clear()
    recorder.notes(request.node).card = card_told(request.config, session.lab)
    yield
    marker = request.node.get_closest_marker("expects")
    soils = request.node.get_closest_marker("soils")
    with timeline.step("health check of the guest"):
        findings = checkup.findings(marker.args if marker else (), soiled=soils is not None)
    note(request.node, session, checkup)
    idle = never_acted(request.node, session, checkup)
    if soils and not findings:
        recorder.notes(request.node).guest_replaced = str(soils.args[0])
        session.replace(f"{request.node.nodeid}: {soils.args[0]}")
    if findings:
        record_property("health", "; ".join(findings))
        text = "\n  ".join(findings)
        topology = request.node.stash.get(_TOPOLOGY, None)
        report = f"health check:\n  {text}\n"
        recorder.notes(request.node).health = findings
        where = collected(request.node, session, report, topology)
        if request.config.getoption("--shell-on-error"):
            stop.in_the_lab(request.node, session.lab, topology, findings[0], where)
        recorder.notes(request.node).guest_replaced = findings[0]
        session.replace(f"{request.node.nodeid}: {findings[0]}")
        pytest.fail(
            f"health check after the test (the guest was replaced):\n  {text}\nbundle: {where}", False
        )
    if idle:
        pytest.fail(f"rules and faults that never acted: {'; '.join(idle)}", False)


def never_acted(item: pytest.Item, session: Session, checkup: health.Checkup) -> list[str]:
    """The rules of the wire, and faults of interrupts, that did nothing while they were set: their test
    proves less than it says. What other faults do, the tests see themselves."""
    told = session.control.replaced
    lines = [f"{one['end']} {one['direction']} {one['kind']}: {one['acted']}" for one in told]
    cards = {card for card, kind, args in session.control.faults if kind == "interrupts" and args}
    changed = {card: checkup.grown().get(card, {}).get("faulted_interrupts", 0) for card in sorted(cards)}
    lines += [f"{card} interrupts: {count:.0f}" for card, count in changed.items()]
    recorder.notes(item).rules_acted = lines
    if item.get_closest_marker("may_not_act") or not item.stash.get(_PASSED, False):
        return []
    idle = [f"{one['kind']} at {one['end']}, {one['direction']}" for one in told if not one["acted"]]
    return idle + [f"interrupts of {card}" for card, count in changed.items() if not count]


@pytest.fixture(autouse=True, scope="module")
def unleaked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the kernel looks for it: no file of tests leaves memory that nobody points to any more."""
    yield
    session = request.config.stash.get(_SESSION, None)
    if session is None or not session.lab.facts.get("reporting"):
        return
    with timeline.step("looking for leaked memory"):
        told = session.agent.call(guest_health.leaked, timeout=LEAKS_SECONDS)
    found = [*told["leaks"], *(f"kernel: {one['text']}" for one in told["messages"] if one["bad"])]
    if found:
        session.replace(f"{request.node.nodeid}: {found[0]}")
        pytest.fail("after the last test of the file:\n  " + "\n  ".join(found), False)


# --- dimensions ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sockets(request: pytest.FixtureRequest) -> SocketKind:
    """How programs under test get their sockets."""
    kind: SocketKind = request.param
    return kind


@pytest.fixture
def programs(session: Session, sockets: SocketKind, healthy: None) -> Programs:
    """Starts programs under test, through the wrapper of their kind of sockets."""
    return session.programs(sockets)


@pytest.fixture
def defer(healthy: None) -> Iterator[Callable[..., None]]:
    """``defer(function, *arguments)``: called at the end of the test, the last one first."""
    with ExitStack() as stack:

        def later(function: Callable[..., object], *arguments: object, **named: object) -> None:
            stack.callback(function, *arguments, **named)

        yield later


@pytest.fixture
def place(
    request: pytest.FixtureRequest, session: Session, healthy: None
) -> Iterator[Callable[[Topology], Placed]]:
    """``place(topology)`` builds it and returns it standing; it is taken away at the end of the test."""
    with ExitStack() as stack:

        def build(topology: Topology) -> Placed:
            request.node.stash[_TOPOLOGY] = topology
            note_topology(request.node, topology)
            if request.config.getoption("--topology-only", default=False):
                pytest.skip(f"\n{topology}\n")
            if missing := session.missing(topology):
                pytest.skip(f"needs the port {', '.join(missing)} on the lab's wire; it has {session.has()}")
            placed = Placed(session, topology)
            stack.callback(placed.destroy)
            return placed

        yield build


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> str:
    """A key of ``PATIENCES``; empty: the test has not chosen."""
    return str(getattr(request, "param", "") or request.config.getoption("--patience", default=""))


@pytest.fixture
def traffic(
    request: pytest.FixtureRequest, session: Session, programs: Programs, patience: str, place: object
) -> Iterator[Traffic]:
    """Echo servers and counting clients of this test; ended before the namespaces are."""
    traffic = Traffic(programs)
    with patience_kinds.waiting(session, request.node, patience if traffic.accelerated else ""):
        yield traffic
        traffic.stop()
    if traffic.accelerated:
        note_share(request.node, traffic, patience)


def note_share(item: pytest.Item, traffic: Traffic, patience: str) -> None:
    """How much went past the kernel, for the record; too little fails a test that passed."""
    told = recorder.notes(item)
    told.past = share.ways(traffic.past)
    by_kernel, asked = item.get_closest_marker("by_kernel"), item.get_closest_marker("past")
    told.by_kernel = str(by_kernel.args[0]) if by_kernel else ""
    least = dict(asked.kwargs) if asked else {}
    told.past_why = str(least.pop("why", ""))
    if not patience_kinds.is_exact(patience):
        return
    objections = share.objections(told.past, traffic.protocols, least, told.by_kernel)
    if item.stash.get(_PASSED, False) and objections:
        pytest.fail("too little went past the kernel:\n  " + "\n  ".join(objections), False)


@pytest.fixture
def wire(session: Session, healthy: None) -> Iterator[Outside]:
    """The tester's end of the wire (``tester:t0``), its stations, and the captures of this test."""
    paths = session.lab.paths
    if not (paths.testers / "t0.sock").exists():
        pytest.skip("needs the tester t0 on the lab's wire; lab/lab.toml names none")
    outside = Outside(paths.testers / "t0.sock", paths.capture, session.control)
    yield outside
    outside.close()


@pytest.fixture(scope="session")
def figures_table(request: pytest.FixtureRequest) -> list[Any]:
    """Figures that are shown as a table at the end of the run; see ``test_many_namespaces``."""
    return request.config.stash.setdefault(_FIGURES, [])


# --- reports ------------------------------------------------------------------------------------------------


#: Kernel messages of one test kept in its record, half from its start and half from its end.
KEPT_MESSAGES = 200


def note(item: pytest.Item, session: Session, checkup: health.Checkup) -> None:
    """What the guest and the card have to say of a test, for the record."""
    told = recorder.notes(item)
    told.seed = told.seed or str(session.control.status().get("seed", ""))
    told.counters = checkup.grown()
    if any(name in counters for counters in told.counters.values() for name in ("sent", "received")):
        told.capture = Capture(str(session.lab.paths.capture), checkup.began, time.time_ns())
    half = KEPT_MESSAGES // 2
    lines = messages(checkup.told)
    told.dmesg = lines if len(lines) <= KEPT_MESSAGES else lines[:half] + lines[-half:]
    told.dmesg_left_out = len(lines) - len(told.dmesg)


def note_topology(item: pytest.Item, topology: Topology) -> None:
    """What a test stands on, for the record."""
    told = recorder.notes(item)
    told.topology, told.namespaces = topology.name, len(topology.namespaces)
    told.layout = topologies.layout(topology)
    recorder.note_drawing(item, drawing.svg(topology, style=""))


def collected(item: pytest.Item, session: Session, report: str, topology: Topology | None) -> Path:
    """The bundle of a failed test, noted in its record."""
    checkup = item.stash.get(_CHECKUP, None)
    counters, began = (checkup.counters, checkup.began) if checkup is not None else ({}, 0)
    options = {name: item.config.getoption(name) for name in REPLAYED}
    with timeline.step("collecting the bundle"):
        where = bundle.collect(session, item.nodeid, report, topology, counters, began, options)
    recorder.notes(item).bundle = str(where)
    return where


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test gets its bundle while everything still stands."""
    report = yield
    session = item.config.stash.get(_SESSION, None)
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    if report.failed and report.when != "teardown" and session is not None:
        topology = item.stash.get(_TOPOLOGY, None)
        if topology is not None:
            report.sections.append(("topology", str(topology)))
        where = collected(item, session, str(report.longrepr), topology)
        report.sections.append(("bundle", str(where)))
        if item.config.getoption("--shell-on-error"):
            why = call.excinfo.exconly() if call.excinfo is not None else str(report.longrepr)
            stop.in_the_lab(item, session.lab, topology, why, where)
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Times and memory of the many-namespaces case, one line for each count."""
    figures = config.stash.get(_FIGURES, [])
    if not figures:
        return
    names = list(dict.fromkeys(name for one in figures for name in one.values))
    terminalreporter.section("namespaces: seconds, memory")
    terminalreporter.write_line("count  " + "  ".join(f"{name:>15}" for name in names))
    for one in figures:
        cells = [f"{one.values[name]:>15.2f}" if name in one.values else " " * 15 for name in names]
        terminalreporter.write_line(f"{one.count:>5}  " + "  ".join(cells))


def pytest_report_header(config: pytest.Config) -> str:
    return f"exalab: lab {named_lab(config)}"

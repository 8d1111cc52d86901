"""Goals: what is compared stands still, and what is counted is exact.

``compared`` runs programs both ways. ``patient``, for all tests here: a datagram waits a tenth of a second
for its process, and a process counts as looking for ten: on a machine that emulates another, and is shared,
a process that spins may not run for many milliseconds, and the counters are to be exact nevertheless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from suites import capture, tiers
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import LINKS, acquaint, peer, subject
from suites.exasock.tcp_pair import KINDS, SIDES, Tcp, made
from suites.guest import exasock
from suites.outside import Outside
from suites.patience import PATIENT, waiting
from suites.place import Placed
from suites.session import Session
from suites.tcp_oracle import TcpOracle
from suites.topology import INITIAL, Namespace, Topology


@pytest.fixture
def compared(session: Session, wire: Outside, patient: None, healthy: None) -> Iterator[Compared]:
    compared = Compared(session, wire)
    yield compared
    # A process that was told to look for long holds a processor: none is left looking.
    if compared.soiled:
        session.end_programs(SPINNING)


@pytest.fixture
def patient(
    request: pytest.FixtureRequest,
    session: Session,
    patience: str,
    healthy: None,
    defer: Callable[..., None],
) -> Iterator[None]:
    """Set for the test, and as it was afterwards; another patience where the test's marker asks for it."""
    session.agent.call(exasock.stamping, on=True)
    defer(session.agent.call, exasock.stamping, on=False)
    chosen = patience if request.node.get_closest_marker("patience") else PATIENT
    with waiting(session, request.node, chosen):
        yield


@pytest.fixture(
    params=tiers.beyond(
        [(INITIAL, "port"), ("a", "vlan"), ("a", "macvlan")],
        [(where, link) for where in (INITIAL, "a") for link in LINKS],
        "each kind of device is in core once, the initial namespace once",
    ),
    ids="-".join,
)
def pair(
    request: pytest.FixtureRequest, place: Callable[[Topology], Placed], compared: Compared
) -> tuple[Placed, Namespace, Namespace]:
    """A subject (the initial namespace or another, over one kind of device) and its peer, acquainted."""
    where, link = request.param
    standing = place(Topology(f"{where} over {link}", (subject(where, link), peer(link))))
    one, other = standing[where], standing["peer"]
    acquaint(compared, standing, one, other)
    return standing, one, other


@pytest.fixture
def two(place: Callable[[Topology], Placed], compared: Compared) -> tuple[Placed, Namespace, Namespace]:
    """Two namespaces with a port of the card each; neighbours known."""
    standing = place(Topology("two ports", (subject("a", "port"), peer("port"))))
    one, other = standing["a"], standing["peer"]
    acquaint(compared, standing, one, other)
    return standing, one, other


@dataclass
class Examined:
    """What the oracle of TCP has to know of a test. ``restored``: connections without a handshake, as
    ``guest_tcp.restore`` makes them; ``gaps``: what is sent may be lost before the port, as its link is down.
    """

    restored: bool = False
    gaps: bool = False

    def objections(self, wire: Outside, end: str) -> list[str]:
        cut = not capture.reaches(wire.captures, end, wire.began)
        oracle = TcpOracle(
            end, joined=self.restored or cut, scale=7 if self.restored else None, gaps=self.gaps, cut=cut
        )
        return oracle.examine(wire.captured(end))


@pytest.fixture
def examined(wire: Outside, session: Session) -> Iterator[Examined]:
    """Afterwards the oracle of TCP reads what passed both ports (``suites.tcp_oracle``)."""
    about = Examined()
    yield about
    found = [one for end in session.devices for one in about.objections(wire, end)]
    assert not found, f"{len(found)} objections of the oracle of TCP:\n" + "\n".join(found[:20])


#: Where both ends are accelerated, each of them is.
ONE_SIDE = "both ends accelerated at once are in core"


@pytest.fixture(params=tiers.beyond(["both"], SIDES, ONE_SIDE))
def tcp(
    request: pytest.FixtureRequest,
    session: Session,
    place: Callable[[Topology], Placed],
    compared: Compared,
) -> Iterator[Tcp]:
    """Accelerated on one side, the other, both."""
    yield from made(session, place, compared, SIDES[request.param])


@pytest.fixture(params=tiers.beyond(["kernel", "both"], KINDS, ONE_SIDE))
def any_tcp(
    request: pytest.FixtureRequest,
    session: Session,
    place: Callable[[Topology], Placed],
    compared: Compared,
) -> Iterator[Tcp]:
    """The same, and the kernel's own: the oracle."""
    yield from made(session, place, compared, KINDS[request.param])

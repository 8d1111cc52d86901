"""Goals: a tenant with a user namespace of its own does what it can; whoever else is there has nothing of it.

``world`` is a victim that exchanges, a control that does so through kernel sockets, and the tenant; all are
gone when the test ends, the tenant's namespace too, or the test fails. ``attack_seconds``: of each attack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from suites.exasock.compare import SPINNING
from suites.guest import exasock
from suites.hostile import world as worlds
from suites.hostile.world import PATIENCE, World
from suites.outside import Outside
from suites.place import Placed
from suites.session import Session
from suites.topology import Topology


@pytest.fixture
def attack_seconds(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--attack-seconds"))


@pytest.fixture
def chosen(request: pytest.FixtureRequest) -> frozenset[str]:
    """The names of the attacks to make; nothing: all of them."""
    return frozenset(one for one in request.config.getoption("--attacks").split(",") if one)


@pytest.fixture
def patient(session: Session, healthy: None) -> Iterator[None]:
    before = {
        name: session.agent.call(exasock.parameter, name=name, value=value)
        for name, value in PATIENCE.items()
    }
    yield
    for name, value in before.items():
        session.agent.call(exasock.parameter, name=name, value=value)


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    session: Session,
    wire: Outside,
    place: Callable[[Topology], Placed],
    patient: None,
) -> Iterator[World]:
    where, capabilities = request.param
    made = {"shared": worlds.shared_port, "own": worlds.own_port}[where](capabilities)
    try:
        with worlds.standing(made(session, place, wire)) as standing:
            yield standing
    finally:
        session.end_programs(SPINNING)

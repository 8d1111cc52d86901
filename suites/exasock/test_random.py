"""Random programs through kernel sockets and through accelerated ones: every result the same (N10).

    card0:0 -+- a1  vlan 5      10.1.0.1        one process holds sockets in all six namespaces (N5), whose
             +- a2  vlan 6      10.1.0.1        addresses, ports and device names are the same (N4)
             +- a3  macvlan     10.1.0.1
    card0:1 -+- b1  vlan 5      10.1.0.2
             +- b2  vlan 6      10.1.0.2
             +- b3  macvlan     10.1.0.2

A program is its seed: ``--seeds 500 --first-seed 1000`` for a longer run. What fails is repeated by its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from suites import tiers
from suites.exasock import generate
from suites.exasock.compare import Compared
from suites.exasock.ends import acquaint
from suites.place import Placed
from suites.session import Session
from suites.topology import Topology


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--first-seed", default=1)
        count = metafunc.config.getoption("--seeds", default=6)
        seeds = range(first, first + count)
        params = tiers.beyond(seeds[:2], seeds, "two seeds are in core")
        metafunc.parametrize("seed", params, ids=lambda seed: f"seed{seed}")


@pytest.fixture
def groups(place: Callable[[Topology], Placed], compared: Compared) -> Iterator[Placed]:
    standing = place(generate.topology())
    for number in generate.GROUPS:
        acquaint(compared, standing, standing[f"a{number}"], standing[f"b{number}"])
    yield standing


@pytest.mark.patience("patient", "shipped", "impatient")
def test_a_random_program_sees_no_difference(
    groups: Placed, compared: Compared, session: Session, seed: int
) -> None:
    """N4, N5, N10: sockets of six namespaces with the same addresses in one process, all their calls by a
    seed: the same results, errors and addresses as the kernel's sockets give."""
    compared.both(generate.program(seed))

"""How long the datapath waits for a process: a dimension of the suites.

``shipped``: what the modules are loaded with where nobody sets anything; ``patient``: what a slow machine
needs for counters to be exact; ``impatient``: nothing waits, so that what waits is given back amidst
everything. Without a choice a test runs with what the lab has booted with (``lab.machine.command``), and what
is compared call by call (``suites.exasock``) runs patiently.

    @pytest.mark.patience("patient", "shipped", "impatient")

``pytest --patience shipped`` chooses for the tests with the fixture ``traffic`` that have no such marker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from suites.guest import exasock
from suites.report import recorder
from suites.session import Session

PATIENT = "patient"
#: Parameters of exasock.
PATIENCES: dict[str, dict[str, int]] = {
    "shipped": {"hold_us": 100, "fresh_us": 100, "tcp_hold_us": 1000},
    PATIENT: {"hold_us": 100_000, "fresh_us": 10_000_000},
    "impatient": {"hold_us": 1, "fresh_us": 1, "tcp_hold_us": 1},
}


def is_exact(name: str) -> bool:
    """Whether counters say how much must have gone past the kernel; results must be right in any case."""
    return name in ("", PATIENT)


@contextmanager
def waiting(session: Session, item: pytest.Item, name: str) -> Iterator[None]:
    """The parameters of this patience, noted in the test's record, and as they were afterwards; none for
    an empty name."""
    wanted = PATIENCES[name] if name else {}
    before = {
        parameter: session.agent.call(exasock.parameter, name=parameter, value=value)
        for parameter, value in wanted.items()
    }
    told = recorder.notes(item).parameters
    told |= {f"exasock.{parameter}": str(value) for parameter, value in wanted.items()}
    try:
        yield
    finally:
        for parameter, value in before.items():
            session.agent.call(exasock.parameter, name=parameter, value=value)

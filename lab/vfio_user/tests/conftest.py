"""Every test of the protocol runs twice: served in Python alone, and with the C pump in front."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from lab.core.library import load
from lab.vfio_user.tests.double import PUMP


@pytest.fixture(params=["python", "pump"], autouse=True)
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which of the two serves; the pump needs a C compiler on this machine."""
    if request.param == "pump":
        if shutil.which(os.environ.get("CC", "cc")) is None:
            pytest.skip("the C pump needs a C compiler")
        load()
    token = PUMP.set(request.param == "pump")
    yield str(request.param)
    PUMP.reset(token)

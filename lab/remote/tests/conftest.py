"""The machine of all tests here, put up once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from images import build
from lab.remote import ssh
from lab.remote.tests.ssh_host import SshHost, standing


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    """The tree; every test leaves it as it found it."""
    if os.geteuid() != 0:
        pytest.skip("a root tree needs root")
    if build.current("builder") is None:
        pytest.skip("no up-to-date builder image (make images)")
    with standing(tmp_path_factory.mktemp("machine")) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ssh.ENVIRONMENT, str(host.config))
        yield host

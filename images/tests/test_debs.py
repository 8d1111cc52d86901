"""The datapath's packages: same sources, same bytes; everything that is needed is inside."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from images import build, debs
from images.debs import PACKAGES, Package
from images.definition import Workspace
from images.sandbox import Bind

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the builder image needs root"),
    pytest.mark.skipif(build.current("builder") is None, reason="no up-to-date builder image (make images)"),
]
#: What each package must hold, relative to its root; for a kernel module relative to its source tree.
CONTENTS = {
    "exanic-dkms": {
        "dkms.conf",
        "exanic/Makefile",
        "exanic/Kbuild",
        "exanic/main.c",
        "include/exanic_regs.h",
    },
    "exasock-dkms": {
        "dkms.conf",
        "exasock/Makefile",
        "exasock/Kbuild",
        "exanic/Kbuild",
        "include/exasock_abi.h",
        "include/exanic_kernel.h",
    },
    "exasock": {
        "usr/bin/exasock",
        "usr/bin/exasock-stat",
        "usr/lib/exasock/libexasock_preload.so",
        "usr/share/doc/exasock/copyright",
        "usr/share/man/man1/exasock.1.gz",
        "usr/share/man/man8/exasock-stat.8.gz",
    },
}
#: $1: the package. Unpacks it and does what its dkms.conf says, for the kernel whose headers are there.
BUILD = """
set -e
dpkg-deb -x "/work/$1" /tmp/root
cd /tmp/root/usr/src/*
kernel_source_dir=$(echo /lib/modules/*/build)
. ./dkms.conf
eval "${MAKE[0]}" >&2
modinfo -F vermagic "${BUILT_MODULE_LOCATION[0]}/${BUILT_MODULE_NAME[0]}.ko"
"""


MODULES = [package for package in PACKAGES if package.name.endswith("-dkms")]


@pytest.fixture(params=PACKAGES, ids=lambda package: package.name)
def wanted(request: pytest.FixtureRequest) -> Package:
    package: Package = request.param
    return package


def contents(package: Path) -> set[str]:
    listed = subprocess.run(
        ["dpkg-deb", "--contents", str(package)], capture_output=True, text=True, check=True
    )
    names = {line.split()[5].removeprefix("./") for line in listed.stdout.splitlines()}
    return names | {re.sub(r"^usr/src/[^/]+/", "", name) for name in names}


def field(package: Path, name: str) -> str:
    return subprocess.run(
        ["dpkg-deb", "--field", str(package), name], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_reproducible_and_complete(wanted: Package) -> None:
    """Packaged twice it is the same bytes, and what its users need is there."""
    first = debs.package(wanted)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    again = debs.package(wanted)
    assert hashlib.sha256(again.read_bytes()).hexdigest() == digest
    assert CONTENTS[wanted.name] <= contents(again)


@pytest.mark.parametrize("wanted", MODULES, ids=lambda package: package.name, indirect=True)
def test_module_builds_from_what_is_in_the_package(wanted: Package) -> None:
    """What dkms.conf says gives a module, from the package's files alone."""
    made = debs.package(wanted)
    binds = [Bind(made.parent, "work")]
    argv = ["bash", "-c", BUILD, "build", made.name]
    told = debs.in_builder(argv, f"building {made.name}", binds, Workspace(), f"{wanted.name}-build.log")
    assert "SMP" in told


def test_packages_fit_together(wanted: Package) -> None:
    """One version for all; the module of accelerated sockets wants the driver it was written for."""
    made = debs.package(wanted)
    version = field(made, "Version")
    depends = field(made, "Depends")
    if wanted.name == "exasock-dkms":
        assert f"exanic-dkms (= {version})" in depends
    if wanted.name == "exasock":
        assert re.search(r"\blibc6 \(>= 2\.\d+\)", depends)
        assert field(made, "Architecture") == "amd64"

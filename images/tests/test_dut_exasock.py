"""Accelerated sockets in the image: module, device, library and tools, ready when the machine is up."""

from __future__ import annotations

import pytest

from .dut import Dut

pytestmark = pytest.mark.lab

LIBRARY = "/usr/lib/exasock/libexasock_preload.so"


def test_module_is_the_installed_one(dut: Dut) -> None:
    """Loaded at boot from updates/, beside the driver that it stands on, for this kernel."""
    path = dut.host.check_output("modinfo -F filename exasock")
    assert path.endswith(f"/{dut.manifest.kernel}/updates/exasock.ko")
    assert dut.host.check_output("modinfo -F license exasock").startswith("GPL")
    assert dut.host.check_output("modinfo -F depends exasock") == "exanic"
    assert dut.host.check_output("modinfo -F vermagic exasock").startswith(f"{dut.manifest.kernel} ")
    assert "exasock" in dut.host.check_output("lsmod").split()


def test_device_node(dut: Dut) -> None:
    """Open to everybody: what a process may do there its sockets decide (N6)."""
    assert dut.host.run("test -c /dev/exasock").rc == 0
    file = dut.host.file("/dev/exasock")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o666)


@pytest.mark.parametrize("name", [LIBRARY, "/usr/lib/exasock/libexasock_preload_debug.so"])
def test_library(dut: Dut, name: str) -> None:
    """There, for everybody, and with no path of a build in it."""
    file = dut.host.file(name)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o644)
    assert b"/build/" not in file.content


@pytest.mark.parametrize("name", ["exasock", "exasock-stat"])
def test_tools(dut: Dut, name: str) -> None:
    file = dut.host.file(f"/usr/bin/{name}")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o755)


@pytest.mark.parametrize("name", ["man1/exasock.1", "man8/exasock-stat.8"])
def test_pages(dut: Dut, name: str) -> None:
    """The manual comes with the programs."""
    file = dut.host.file(f"/usr/share/man/{name}")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o644)
    assert file.content_string.count(".Sh NAME") == 1


def test_wrapper_runs_a_program(dut: Dut) -> None:
    """An unmodified program has the library in front of it, its arguments and its exit code."""
    told = dut.host.run("exasock sh -c 'grep -c libexasock_preload.so /proc/$$/maps; exit 7' me")
    assert told.rc == 7
    assert int(told.stdout) > 0


def test_a_socket_is_accelerated(dut: Dut) -> None:
    """A socket of a namespace that has a port is listed with its process by exasock-stat."""
    assert dut.ports_up()
    program = (
        "import socket, subprocess; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('0.0.0.0', 7007));"
        "s.setblocking(False)\n"
        "try: s.recv(1)\n"
        "except BlockingIOError: pass\n"
        "print(subprocess.run(['exasock-stat'], capture_output=True, text=True).stdout)"
    )
    assert "7007" in dut.host.check_output(f'exasock python3 -c "{program}"')

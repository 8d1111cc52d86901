"""An interface of the machine taken for the wire, and given back: on veth devices, with this kernel."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.real import tester
from lab.real.borrowed import Borrowed, recover
from lab.real.host import Host
from lab.real.journal import Owner

ME = Owner("lab", "/here")
HOST = Host()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def veth() -> Iterator[str]:
    """The name of one end; the other has an x behind."""
    name = f"exa{secrets.token_hex(3)}"
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}x")
    yield name
    ip("link", "del", name)


def state(name: str) -> dict[str, object]:
    """All that is changed on an interface."""
    files = {file: HOST.read(HOST.interface(name) / file) for file in ("flags", "mtu")}
    quiet = {str(path): HOST.read(path) for path in tester._quiet(HOST, name)}
    return {**files, **quiet, "gro": HOST.offload(name, "gro")}


@pytest.mark.parametrize("up", [True, False])
def test_taken_silent_and_given_back(veth: str, up: bool, tmp_path: Path) -> None:
    """Meanwhile it is up, keeps silent, and does not merge frames; then it is as it was."""
    if up:
        ip("link", "set", veth, "up")
    before = state(veth)
    borrowed = Borrowed(ME, HOST, tmp_path)
    borrowed.take([], [veth])
    during = state(veth)
    assert int(str(during["flags"]), 16) & 1
    assert (during["mtu"], during["gro"]) == (str(tester.MTU), False)
    assert HOST.read(Path(f"/proc/sys/net/ipv4/conf/{veth}/arp_ignore")) == "8"
    borrowed.give_back()
    assert state(veth) == before


def test_what_a_crash_left_is_given_back(veth: str, tmp_path: Path) -> None:
    """From its journal alone; an interface that is gone needs nothing."""
    before = state(veth)
    lost = Borrowed(ME, HOST, tmp_path)
    lost.take([], [veth])
    for one in lost._held:
        one.close()
    assert recover(ME, HOST, tmp_path) == [veth]
    assert state(veth) == before


@pytest.mark.parametrize(
    ("words", "error", "remedy"),
    [
        (
            ("address", "add", "192.0.2.7/24", "dev", "{}"),
            r"in use: it has the address 192\.0\.2\.7/24",
            "flush",
        ),
        (
            ("link", "add", "link", "{}", "name", "{}v", "type", "macvlan"),
            "carries {}v",
            "ip link del",
        ),
    ],
)
def test_an_interface_in_use_is_left_alone(
    veth: str, words: tuple[str, ...], error: str, remedy: str, tmp_path: Path
) -> None:
    """It may be the machine's way to the world."""
    ip(*(word.format(veth) for word in words))
    before = state(veth)
    with pytest.raises(LabError, match=error.format(veth)) as caught:
        Borrowed(ME, HOST, tmp_path).take([], [veth])
    assert remedy in str(caught.value.hint)
    assert state(veth) == before


@pytest.mark.parametrize("name", ["lo", "nosuch0"])
def test_no_cable_there(name: str) -> None:
    """A name that cannot be right says which could be."""
    with pytest.raises(LabError) as caught:
        tester.check(HOST, name)
    assert caught.value.hint

"""The vendor's interface: what a program that is built for it finds, with and without the library."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

DATAPATH = Path(__file__).resolve().parent.parent.parent
#: A program as it is compiled by somebody who knows nothing of us: strictly, and in either language.
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make install` puts somewhere, and a program that was built with it."""
    scratch = tmp_path_factory.mktemp("vendor")
    for part in ("include", "libexasock"):
        shutil.copytree(DATAPATH / part, scratch / part, ignore=shutil.ignore_patterns("build", "*.so"))
    root = scratch / "root"
    library = scratch / "libexasock"
    subprocess.run(
        ["make", "-s", "-j2", "-C", str(library), "install", f"DESTDIR={root}", "PREFIX="], check=True
    )
    argv = ["gcc", "-std=gnu11", *STRICT, f"-I{root}/include", "-o", str(root / "program")]
    argv += [
        str(library / "tests/vendor_program.c"),
        f"-L{root}/lib",
        "-lexasock_ext",
        f"-Wl,-rpath,{root}/lib",
    ]
    subprocess.run(argv, check=True)
    return root


def told(installed: Path, *argv: str, preload: bool = False) -> tuple[str, str]:
    """What the program prints, and says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EXASOCK_")}
    if preload:
        clean["LD_PRELOAD"] = str(installed / "lib/exasock/libexasock_preload.so")
    done = subprocess.run(
        [str(installed / "program"), *argv], capture_output=True, text=True, check=True, timeout=60, env=clean
    )
    return done.stdout, done.stderr


def answers(text: str) -> dict[str, str]:
    names = ("loaded", "recent", "text", "device", "header", "advance", "too long", "no engine", "engine",
             "bad engine", "off")  # fmt: skip
    lines = text.splitlines()
    assert len(lines) == len(names), text
    return {name: line.removeprefix(name).strip() for name, line in zip(names, lines, strict=True)}


def test_without_the_accelerator(installed: Path) -> None:
    """A program that is linked with libexasock_ext starts natively and is told that it is not accelerated."""
    found = answers(told(installed)[0])
    assert (found["loaded"], found["recent"], found["text"]) == ("0", "0", "1")
    assert {found["device"], found["header"], found["advance"]} == {"Operation not supported"}
    assert found["too long"] == "Invalid argument"
    # The kernel has no such level.
    assert found["off"] not in ("0", "")


def test_with_the_accelerator(installed: Path) -> None:
    """The same program, preloaded: our own functions answer; what is not supported is said once."""
    found, said = told(installed, preload=True)
    answer = answers(found)
    assert (answer["loaded"], answer["recent"], answer["text"]) == ("1", "1", "1")
    assert {answer["device"], answer["header"], answer["advance"]} == {"Operation not supported"}
    assert said.count("is not supported: send by the socket") == 1
    # No engine is an ordinary connect, to a port nobody listens on; one that no card has is refused.
    assert answer["no engine"] == "Connection refused"
    assert (answer["engine"], answer["bad engine"]) == ("Operation not supported", "Invalid argument")
    assert "no TCP engine" in said and "no latencies are measured" in said
    assert answer["off"] == "0"


@pytest.mark.parametrize("language", ["c99", "c++11"])
def test_headers_alone(installed: Path, language: str, tmp_path: Path) -> None:
    """Each header compiles by itself, strictly, in C and in C++."""
    for name in ("socket", "extensions"):
        source = tmp_path / ("one.cc" if language.startswith("c++") else "one.c")
        source.write_text(f"#include <exasock/{name}.h>\n", encoding="utf-8")
        compiler = "g++" if language.startswith("c++") else "gcc"
        if shutil.which(compiler) is None:
            pytest.skip(f"needs {compiler}")
        argv = [
            compiler,
            f"-std={language}",
            *STRICT,
            f"-I{installed}/include",
            "-c",
            "-o",
            os.devnull,
            str(source),
        ]
        subprocess.run(argv, check=True)


LOWER: dict[str, Packet] = {"plain": Ether(), "vlan": Ether() / Dot1Q(vlan=7)}
OPTIONS = {"none": [], "stamps": [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]}


@pytest.mark.parametrize("preload", [False, True], ids=["native", "preloaded"])
@pytest.mark.parametrize("lower", LOWER)
@pytest.mark.parametrize("options", OPTIONS)
def test_lengths_and_checksums(installed: Path, lower: str, options: str, preload: bool) -> None:
    """A prepared segment gets the length and the checksums that scapy gives it."""
    for length in (0, 1, 2, 63, 1001):
        payload = bytes(number * 7 % 256 for number in range(length))
        tcp = TCP(sport=1, dport=2, seq=99, ack=7, flags="PA", options=OPTIONS[options])
        whole = bytes(LOWER[lower] / IP(src="10.0.0.1", dst="10.0.0.2", id=5) / tcp / payload)
        head = bytearray(whole[: len(whole) - length])
        start = 14 if lower == "plain" else 18
        # As of a segment without payload that was prepared before: stale length and checksums.
        head[start + 2 : start + 4] = (len(head) - start).to_bytes(2, "big")
        head[start + 10 : start + 12] = b"\x12\x34"
        head[start + 36 : start + 38] = b"\x56\x78"
        found = told(installed, head.hex(), payload.hex(), preload=preload)[0].strip()
        assert bytes.fromhex(found) == whole[: len(head)]


UDP_INSTEAD = bytes(Ether() / IP(proto=socket.IPPROTO_UDP)) + bytes(20)
WRONG = {
    "empty": b"",
    "short": bytes(Ether() / IP() / TCP())[:-1],
    "longer": bytes(Ether() / IP() / TCP()) + b"\0",
    "udp": UDP_INSTEAD,
    "not IPv4": bytes(Ether(type=0x86DD)) + bytes(60),
    "half a tag": bytes(Ether(type=0x8100)) + bytes(40),
    "header length": bytes(Ether() / IP(ihl=15) / TCP()),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_segment_is_refused(installed: Path, what: str) -> None:
    """Headers that are no Ethernet, IPv4 and TCP headers of that length are EINVAL."""
    assert told(installed, WRONG[what].hex(), "00")[0] == "error Invalid argument\n"

"""The preload library without its kernel module: a stand-in for the module, and no module at all.

The C programs beside this file print a line per property, ``ok - property`` or ``not ok - property``; what
they compare with is the kernel's own behaviour on the loopback device. Everything is built in a scratch copy.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(path.stem for path in (LIBRARY / "tests").glob("test_*.c"))

#: A program of sockets, files and children, which says what it has seen.
SCRIPT = """
import os, select, signal, socket, subprocess, threading
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(server.getsockname())
print(server.fileno(), client.fileno(), os.open("/dev/null", os.O_RDONLY))
client.send(b"one"); print(server.recv(10, socket.MSG_PEEK), server.recvfrom(2)[0])
client.sendmsg([b"t", b"wo"]); print(server.recvmsg(10, 100)[0])
server.settimeout(0.05)
try:
    server.recv(1)
except TimeoutError as error:
    print("timeout", error)
server.setblocking(False)
try:
    server.recv(1)
except BlockingIOError as error:
    print(error)
client.send(b"three")
poller = select.epoll(); poller.register(server, select.EPOLLIN)
print(len(poller.poll(1)), select.select([server], [client], [], 1)[0] == [server])
copy = os.dup(server.fileno()); server.close(); print(os.read(copy, 10))
print(subprocess.run(["cat"], input=b"child", capture_output=True).stdout)
pid = os.fork()
if not pid:
    os.closerange(3, 1000); os._exit(7)
print(os.waitpid(pid, 0)[1])
signal.signal(signal.SIGALRM, lambda *_: print("alarm")); signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.sigtimedwait([signal.SIGUSR1], 0.05)
tcp = socket.create_server(("127.0.0.1", 0)); other = socket.create_connection(tcp.getsockname())
accepted = tcp.accept()[0]; other.sendall(b"x" * 100000); other.close()
total = 0
while part := accepted.recv(65536):
    total += len(part)
print(total)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library's folder in a scratch copy of the datapath, with everything built."""
    scratch = tmp_path_factory.mktemp("datapath")
    for part in ("include", "libexasock", "tools"):
        shutil.copytree(LIBRARY.parent / part, scratch / part, ignore=shutil.ignore_patterns("build", "*.so"))
    folder = scratch / "libexasock"
    targets = ["all", *(f"build/{name}" for name in PROGRAMS)]
    subprocess.run(["make", "-s", "-j4", "-C", str(folder), *targets], check=True, capture_output=True)
    return folder


def run(
    argv: list[str], env: dict[str, str] | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run to the end; the exit status must be `status`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EXASOCK_")}
    done = subprocess.run(
        argv, env=clean | (env or {}), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


#: Every program with and without spinning, but the one that is about what ends it.
RUNS = [
    (program, spin) for program in PROGRAMS for spin in ("", "0") if (program, spin) != ("test_signal", "0")
]


@pytest.mark.parametrize(("program", "spin"), RUNS)
def test_as_the_kernel(built: Path, program: str, spin: str) -> None:
    """N10: with datagrams in the ring every call gives what it gives without, spinning or not."""
    done = run([str(built / "build" / program)], {"EXASOCK_SPIN": spin} if spin else None)
    assert "not ok" not in done.stdout
    assert done.stdout.count("ok - ") > 0


@pytest.mark.parametrize("library", ["libexasock_preload.so", "libexasock_preload_debug.so"])
def test_without_the_module(built: Path, library: str) -> None:
    """N9: where there is no module a program works as without the library, silently."""
    argv = [sys.executable, "-c", SCRIPT]
    native = run(argv)
    preloaded = run(argv, {"LD_PRELOAD": str(built / library)})
    assert preloaded.stdout == native.stdout
    assert preloaded.stderr == native.stderr == ""


def test_a_shell(built: Path) -> None:
    """N9: a program in C that talks UDP by itself works as without the library."""
    script = "exec 3<>/dev/udp/127.0.0.1/{}; echo hello >&3; head -n 1 <&3"
    for extra in ({}, {"LD_PRELOAD": str(built / "libexasock_preload.so")}):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.settimeout(20)
            argv = ["bash", "-c", script.format(server.getsockname()[1])]
            with subprocess.Popen(argv, env=dict(os.environ) | extra, stdout=subprocess.PIPE) as shell:
                asked, peer = server.recvfrom(100)
                server.sendto(asked.upper(), peer)
                assert shell.communicate(timeout=20)[0] == b"HELLO\n"


def test_debug_says_why_not(built: Path) -> None:
    """N9: with EXASOCK_DEBUG the reason why nothing is accelerated is on standard error, once."""
    env = {"LD_PRELOAD": str(built / "libexasock_preload.so"), "EXASOCK_DEBUG": "1"}
    if Path("/dev/exasock").exists():
        pytest.skip("there is a module")
    script = "import socket\nfor i in 1, 2: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).send"
    script += "to(b'x', ('127.0.0.1', 9))"
    done = run([sys.executable, "-c", script], env)
    assert done.stderr.count("stay native: /dev/exasock") == 1


def test_trace(built: Path) -> None:
    """The debug library traces calls; the other one never does."""
    script = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"
    for library, traced in (("libexasock_preload.so", False), ("libexasock_preload_debug.so", True)):
        done = run([sys.executable, "-c", script], {"LD_PRELOAD": str(built / library), "EXASOCK_TRACE": "1"})
        assert ("exasock trace: sendto(3, 1 bytes, 0) = 1" in done.stderr) is traced


def test_exports(built: Path) -> None:
    """The library exports functions of the C library and nothing of its own."""
    done = run(["nm", "-D", "--defined-only", str(built / "libexasock_preload.so")])
    names = {line.split()[2] for line in done.stdout.splitlines()}
    assert not {name for name in names if name.startswith(("exa_", "__start", "__stop"))}
    assert {"recv", "__recv_chk", "recvmmsg", "sendmmsg", "epoll_pwait2", "closefrom", "fcntl64"} <= names


def test_c_libraries(built: Path) -> None:
    """The library loads with the C library that exasock(1) names, and all that came after it."""
    page = (built.parent / "tools/exasock.1").read_text()
    stated = re.search(r"C library\s+(\d+)\.(\d+)\s+or newer", page)
    assert stated, "exasock(1) does not say which C libraries the library works with"
    for library in ("libexasock_preload.so", "libexasock_preload_debug.so"):
        told = run(["objdump", "-T", str(built / library)]).stdout
        needed = {tuple(map(int, one.split("."))) for one in re.findall(r"GLIBC_([0-9.]+)\)", told)}
        assert max(needed) <= tuple(map(int, stated.groups())), sorted(needed)


def test_spin_in_words(built: Path) -> None:
    """EXASOCK_SPIN that says nothing is named once, and what it is taken for; --no-warn keeps it quiet."""
    env = {"LD_PRELOAD": str(built / "libexasock_preload.so")}
    for spin, said in (("abc", 1), ("", 1), ("5us", 1), ("-1", 1), ("7", 0), ("forever", 0), ("9" * 40, 0)):
        warned = run(["true"], env | {"EXASOCK_SPIN": spin}).stderr
        assert warned.count(f"EXASOCK_SPIN is '{spin}'") == said, warned
        assert bool(warned) == bool(said)
    assert not run(["true"], env | {"EXASOCK_SPIN": "abc", "EXASOCK_NOWARN": "1"}).stderr


def test_installed(built: Path, tmp_path: Path) -> None:
    """The wrapper finds the installed library beside itself, keeps what was preloaded, gives the status."""
    for part in ("libexasock", "tools"):
        run(["make", "-s", "-C", str(built.parent / part), "install", f"DESTDIR={tmp_path}", "PREFIX=/usr"])
    wrapper = str(tmp_path / "usr/bin/exasock")
    done = run(
        [wrapper, "--spin=7", "sh", "-c", 'echo "$LD_PRELOAD $EXASOCK_SPIN"; exit 3'],
        {"LD_PRELOAD": "libc.so.6"},
        status=3,
    )
    assert done.stdout.strip() == f"{tmp_path}/usr/lib/exasock/libexasock_preload.so:libc.so.6 7"


def test_wrapper_errors(built: Path, tmp_path: Path) -> None:
    """The wrapper says what is wrong, and does not start the program."""
    wrapper = str(built.parent / "tools" / "exasock")
    for argv, said in (
        (["--spin=fast", "true"], "--spin"),
        (["--spin=", "true"], "--spin"),
        (["--frob", "true"], "--frob"),
        ([], "command"),
        (["true"], "EXASOCK_PATH"),
    ):
        done = run([wrapper, *argv], {"EXASOCK_PATH": str(tmp_path)} if argv == ["true"] else None, status=1)
        assert said in done.stderr

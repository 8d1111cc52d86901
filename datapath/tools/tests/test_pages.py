"""The manual pages say what the programs do: every option, every reason, and nothing that is not there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent
PAGES = {"exasock": "exasock.1", "exasock-stat": "exasock-stat.8"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs, as they are installed."""
    folder = tmp_path_factory.mktemp("tools")
    for part in ("include", "tools"):
        subprocess.run(["cp", "-r", TOOLS.parent / part, folder], check=True)
    subprocess.run(
        ["make", "-s", "-C", folder / "tools", "install", f"DESTDIR={folder}", "PREFIX=/usr"],
        check=True,
    )
    return folder / "usr"


def page(name: str) -> str:
    return (TOOLS / PAGES[name]).read_text(encoding="utf-8")


def helped(programs: Path, name: str) -> str:
    return subprocess.run(
        [programs / "bin" / name, "--help"], capture_output=True, text=True, check=True
    ).stdout


def long_options(text: str) -> set[str]:
    return set(re.findall(r"--([a-z][a-z-]+)", text))


def described(text: str) -> set[str]:
    """What a page's lists have an item for: the first word of each flag, without its dashes."""
    items = re.findall(r"^\.It (Fl .+)$", text, re.MULTILINE)
    return {flag for item in items for flag in re.findall(r"(?:Fl |, )-?([a-zA-Z][a-z-]*)", item)}


@pytest.mark.parametrize("name", PAGES)
def test_every_option(programs: Path, name: str) -> None:
    """What --help tells of has an item in the page, and every item is an option of --help."""
    told = helped(programs, name)
    short = set(re.findall(r"^ +-([a-z]),", told, re.MULTILINE))
    assert described(page(name)) - short == long_options(told)
    assert short <= described(page(name))


def test_every_reason() -> None:
    """Each reason that exasock-stat can name has its item, and there are no others."""
    text = page("exasock-stat")
    section = text[text.index(".Sh REASONS") : text.index(".Sh FILES")]
    of_datagrams, of_sockets = section.split("Why a socket was not accelerated")
    source = (TOOLS / "reasons.h").read_text(encoding="utf-8")
    known = re.findall(r'\[EXASOCK_R_\w+\] = "(\w+)"', source)
    assert known[0] == "none" and "Cm none" in of_datagrams
    assert sorted(re.findall(r"^\.It Cm (\w+)$", of_datagrams, re.MULTILINE)) == sorted(known[1:])
    refusals = re.findall(r'\[EXASOCK_N_\w+\] = "(\w+)"', source)
    assert re.findall(r"^\.It Cm (\w+)$", of_sockets, re.MULTILINE) == refusals


def test_every_variable() -> None:
    """Each variable of the environment that the wrapper or the library reads is in the page."""
    sources = [TOOLS / "exasock", *sorted((TOOLS.parent / "libexasock").glob("*.c"))]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    read = set(re.findall(r'(?:getenv|is_set)\("(\w+)"\)', text)) | set(
        re.findall(r"\$\{(EXASOCK_\w+)", text)
    )
    assert read == set(re.findall(r"^\.It Ev (EXASOCK_\w+)$", page("exasock"), re.MULTILINE))


def test_installed(programs: Path) -> None:
    """`make install` puts each page where man(1) looks for it."""
    for name in PAGES.values():
        installed = programs / "share/man" / f"man{name[-1]}" / name
        assert installed.read_bytes() == (TOOLS / name).read_bytes()


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["--spin=10", "--no-auto", "--no-warn", "--", "true"], 0),
        (["--debug", "true"], 0),
        (["--trace", "true"], 0),
        ([], 1),
        (["--spin=much", "true"], 1),
        (["--spin", "10", "true"], 1),
        (["--other", "true"], 1),
        (["/nowhere"], 127),
        (["/"], 126),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_exit_status_of_the_wrapper(programs: Path, tmp_path: Path, argv: list[str], code: int) -> None:
    """As the page says. In place of the library is one that does nothing."""
    for name in ("libexasock_preload.so", "libexasock_preload_debug.so"):
        subprocess.run(["gcc", "-shared", "-o", tmp_path / name, "-x", "c", os.devnull], check=True)
    done = subprocess.run(
        [programs / "bin/exasock", *argv],
        env={**os.environ, "EXASOCK_PATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == code, done.stderr


def test_the_wrapper_sets_what_the_page_says(programs: Path, tmp_path: Path) -> None:
    """Each option's variable, and LD_PRELOAD before what was in it."""
    subprocess.run(
        ["gcc", "-shared", "-o", tmp_path / "libexasock_preload_debug.so", "-x", "c", os.devnull], check=True
    )
    options = ["--spin=7", "--no-auto", "--no-warn", "--debug", "--trace"]
    told = subprocess.run(
        [programs / "bin/exasock", *options, "env"],
        env={**os.environ, "EXASOCK_PATH": str(tmp_path), "LD_PRELOAD": "libc.so.6"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = dict(line.partition("=")[::2] for line in told.splitlines())
    described = re.findall(r"^\.It Ev (EXASOCK_\w+)\n\.Fl -([a-z-]+)", page("exasock"), re.MULTILINE)
    assert {option for _name, option in described} == {one[2:].partition("=")[0] for one in options}
    assert all(name in found for name, _option in described)
    assert found["EXASOCK_SPIN"] == "7"
    assert found["LD_PRELOAD"] == f"{tmp_path}/libexasock_preload_debug.so:libc.so.6"


@pytest.mark.parametrize(("argv", "code"), [(["--help"], 0), (["--other"], 2), (["what"], 1)])
def test_exit_status_of_exasock_stat(programs: Path, argv: list[str], code: int) -> None:
    """As the page says."""
    done = subprocess.run([programs / "bin/exasock-stat", *argv], capture_output=True, check=False)
    assert done.returncode == code

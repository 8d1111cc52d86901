"""`make lint`: every linter of the project, run as one table and as tests.

Each check is a row of CHECKS: what it is called, and its command. `python -m lab.lint` runs all of them (also
after one failed) and exits 1 when any did; `lab/tests/test_lint.py` runs the same rows as tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from suites.report import junit
from suites.report.origin import source

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(sys.executable).parent


@dataclass(frozen=True)
class Check:
    """One linter over its files. `argv` is called late: the file list is read when it runs."""

    name: str
    argv: Callable[[], list[str]]


def tracked(*patterns: str) -> list[str]:
    """Files under version control that match the patterns, relative to the checkout."""
    out = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [name for name in out.split("\0") if name and (ROOT / name).exists()]


def shell_scripts() -> list[str]:
    """Tracked files that a shell reads: by suffix, or by their first line."""
    found = set(tracked("*.sh"))
    for name in tracked():
        path = ROOT / name
        if path.suffix in ("", ".sh") and path.is_file():
            with path.open("rb") as file:
                first = file.readline(80)
            if first.startswith(b"#!") and (b"/sh" in first or b"bash" in first):
                found.add(name)
    return sorted(found)


def in_builder(*argv: str) -> list[str]:
    """The command that runs `argv` inside the builder image, with the checkout read-only at /src."""
    root = ROOT / "out/images/builder/root"
    return [
        "bwrap", "--die-with-parent", "--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc",
        "--tmpfs", "/tmp", "--ro-bind", str(ROOT), "/src", "--tmpfs", "/work", "--chdir", "/work", *argv,
    ]  # fmt: skip


#: Kernel modules; and, of the datapath, what runs in user space.
MODULES = ("datapath/exanic", "datapath/exasock", "suites/kernels/provoke")
PROGRAMS = ("libexasock", "tools")


def all_of(commands: list[str]) -> list[str]:
    """One command in the builder out of many; what fails does not keep the others from running."""
    return in_builder("sh", "-c", "\n".join(["bad=0", *(f"{one} || bad=1" for one in commands), "exit $bad"]))


def style() -> list[str]:
    """checkpatch, out of the kernel source that the images' lock names, over all C sources.

    Each module's Makefile says how; what runs in user space is held to the rules of the kernel side by side.
    """
    from images import checkpatch

    script = Path("/src") / checkpatch.ensure().relative_to(ROOT)
    commands = [f"make -C /src/{part} style CHECKPATCH={script}" for part in MODULES]
    for part in PROGRAMS:
        sources = " ".join(f"/src/{name}" for name in tracked(f"datapath/{part}/*.c", f"datapath/{part}/*.h"))
        commands.append(
            f"perl {script} --no-tree --strict --terse --no-summary --show-types --max-line-length=100"
            f" --ignore FILE_PATH_CHANGES,SPDX_LICENSE_TAG,EMBEDDED_FILENAME,CAMELCASE -f {sources}"
        )
    return all_of(commands)


def sparse() -> list[str]:
    """sparse and -Werror over the kernel modules, in a scratch copy: kbuild writes beside its sources."""
    return all_of(
        ["cp -a /src/datapath /src/suites /work/", *(f"make -C /work/{part} check" for part in MODULES)]
    )


def warnings() -> list[str]:
    """The library and the tools compile without any warning; a scratch copy, from nothing."""
    commands = ["cp -a /src/datapath /work/"]
    for part in PROGRAMS:
        folder = f"/work/datapath/{part}"
        commands.append(f"make -C {folder} clean && make -C {folder} CC='gcc -Wall -Wextra -Werror'")
    commands.append("make -C /work/datapath/libexasock bench CC='gcc -Wall -Wextra -Werror'")
    return all_of(commands)


def pages() -> list[str]:
    """mandoc over the manual pages. (Of style it also asks that what they refer to is installed.)"""
    files = [f"/src/{name}" for name in tracked("datapath/*.[1-8]")]
    return in_builder("mandoc", "-T", "lint", "-W", "warning,stop", *files)


def site() -> list[str]:
    """The documentation site, strictly: links, anchors, menu, and a description for all that is generated.

    Never with --quiet: mkdocs then sees no warning, and strict means nothing.
    """
    return ["env", "NO_MKDOCS_2_WARNING=1", sys.executable, "-m", "mkdocs", "build", "--strict"]


def loose_files(folder: str) -> list[str]:
    """mypy over files that are in no package, with a cache that no other check writes."""
    cache = f".mypy_cache/{folder}"
    return [str(VENV / "mypy"), "--strict", "--cache-dir", cache, *tracked(f"{folder}/*.py")]


CHECKS = (
    Check("ruff check", lambda: [str(VENV / "ruff"), "check", "."]),
    Check("ruff format", lambda: [str(VENV / "ruff"), "format", "--check", "."]),
    Check(
        "mypy --strict", lambda: [str(VENV / "mypy"), "--strict", "-p", "lab", "-p", "images", "-p", "suites"]
    ),
    Check("mypy datapath", lambda: loose_files("datapath")),
    Check("mypy docs", lambda: loose_files("docs")),
    Check("mkdocs", site),
    Check("shellcheck", lambda: [str(VENV / "shellcheck"), *shell_scripts()]),
    Check("ansible-lint", lambda: [str(VENV / "ansible-lint"), "--offline", "-q", "images/ansible"]),
    Check("mandoc", pages),
    Check("checkpatch", style),
    Check("sparse", sparse),
    Check("gcc -Werror", warnings),
)


def run(check: Check) -> tuple[bool, str, float]:
    """Run one check; returns (passed, its output, seconds)."""
    started = time.monotonic()
    argv = check.argv()
    if shutil.which(argv[0]) is None:
        return False, f"{argv[0]} is not there: run `make lab-up` or `make images` first", 0.0
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip(), time.monotonic() - started


def main() -> int:
    """Run every check and a line each, with the output of those that failed; also out/junit/lint.xml."""
    failed = 0
    began = datetime.now(UTC)
    cases = []
    # Side by side, told in their own order: no check writes what another one reads.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for check, (passed, output, seconds) in zip(CHECKS, pool.map(run, CHECKS), strict=True):
            failure = "" if passed else output or "it failed, and said nothing"
            cases.append(junit.Case(check.name, seconds, failure))
            print(f"{'ok  ' if passed else 'FAIL'} {check.name:15} {seconds:6.1f} s", flush=True)
            if not passed:
                failed += 1
                print(output, flush=True)
    junit.write(ROOT / "out/junit/lint.xml", "lint", cases, began, source())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

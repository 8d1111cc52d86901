"""The modules on other kernels than the image's: Debian's oldest that we serve, and its newest.

Each suite's headers and compiler lie in a tree of their own, out/kernels/SUITE, fetched once a day: what is
newest is not pinned, on purpose, so this is no part of ``make test``.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from lab.console import step
from lab.errors import LabError

from . import archive, sandbox
from .definition import ROOT, Workspace
from .sandbox import Bind

#: Suites of the Debian archive: 6.1, and whatever is newest.
SUITES = ("bookworm", "sid")
PACKAGES = ("linux-headers-amd64", "gcc", "make", "libc6-dev", "kmod")
DAY = 86400
#: Built in this order: the second needs the first one's symbols.
MODULES = ("exanic", "exasock")


@dataclass(frozen=True)
class Compiled:
    """A kernel release, and what compiling on its headers said: empty when it went well."""

    suite: str
    release: str
    errors: str


def tree(suite: str, workspace: Workspace) -> Path:
    """The suite's headers, not older than a day."""
    root = workspace.out / "kernels" / suite
    stamp = root / ".exalab-complete"
    if stamp.exists() and time.time() - stamp.stat().st_mtime < DAY:
        return root
    if root.exists():
        shutil.rmtree(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    sources = archive.discover()
    argv = ["mmdebstrap", "--mode=root", "--format=directory", "--variant=essential"]
    argv += [f"--include={','.join(PACKAGES)}", "--aptopt=APT::Install-Recommends false"]
    # sid's index may have rested longer than it says it is valid; it is signed all the same
    argv += ["--aptopt=APT::Sandbox::User root", "--aptopt=Acquire::Check-Valid-Until false"]
    argv += [f"--aptopt={option}" for option in archive.acquire_options()]
    argv += [f"--dpkgopt=path-exclude={path}/*" for path in ("/usr/share/doc", "/usr/share/man")]
    argv += [suite, str(root), f"deb {sources.debian} {suite} main"]
    with step(f"headers of {suite}"):
        log = workspace.out / "kernels" / f"{suite}.log"
        sandbox.run(sandbox.isolated(argv), f"fetching the headers of {suite}", log=log)
    for name in ("src", "work"):
        (root / name).mkdir()
    stamp.touch()
    return root


def compile_on(suite: str, workspace: Workspace | None = None) -> Compiled:
    """Compile the modules on a suite's headers, warnings being errors. LabError when these cannot be had."""
    workspace = workspace or Workspace()
    root = tree(suite, workspace)
    releases = sorted(path.name for path in (root / "lib/modules").iterdir() if (path / "build").is_symlink())
    if not releases:
        raise LabError(f"{suite} has no kernel headers", hint=f"remove {root} and try again")
    release = releases[-1]
    scratch = workspace.out / "kernels" / f"{suite}-build"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(ROOT / "datapath", scratch)
    build = f"KDIR=/lib/modules/{release}/build"
    script = " && ".join(f"make -s -C /work/{name} {build} module" for name in MODULES)
    errors = ""
    with step(f"modules on {release}"):
        try:
            inside = sandbox.in_root(root, ["sh", "-c", script], [Bind(scratch, "work", writable=True)])
            sandbox.run(inside, f"compiling on {release}", log=workspace.out / "kernels" / f"{release}.log")
        except LabError as error:
            errors = str(error)
    shutil.rmtree(scratch, ignore_errors=True)
    return Compiled(suite, release, errors)

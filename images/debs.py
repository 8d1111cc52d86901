"""The datapath as packages, for other machines; made in the builder image: the same bytes always."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

from . import build, sandbox
from .definition import ROOT, Workspace
from .sandbox import Bind


@dataclass(frozen=True)
class Package:
    """A package, and the script below datapath/packaging that makes it, with its arguments."""

    name: str
    script: tuple[str, ...]


#: What compiling leaves beside the sources.
_MADE = (".o", ".ko", ".mod", ".cmd", ".so", ".d", ".order", ".symvers")
PACKAGES = (
    Package("exanic-dkms", ("dkms", "exanic")),
    Package("exasock-dkms", ("dkms", "exasock")),
    Package("exasock", ("programs",)),
)


def in_builder(
    argv: Sequence[str], what: str, binds: Sequence[Bind], workspace: Workspace, log: str = "debs.log"
) -> str:
    """Run a command in the builder image; returns what it printed."""
    built = build.ensure(("builder",), workspace)["builder"]
    inside = sandbox.in_root(workspace.images / "builder" / "root", argv, binds)
    epoch = {"SOURCE_DATE_EPOCH": str(built.epoch)}
    return sandbox.run(inside, what, env=epoch, log=workspace.images / "logs" / log)


def package(wanted: Package, workspace: Workspace | None = None) -> Path:
    """Build NAME_VERSION_ARCHITECTURE.deb into out/packages and return its path.

    What is in it is the datapath's business: datapath/packaging, and packaging/ of each part.
    """
    workspace = workspace or Workspace()
    folder = workspace.out / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{wanted.name}_*.deb"):
        old.unlink()
    script, *arguments = wanted.script
    argv = ["sh", f"/src/packaging/{script}", *arguments, "/work"]
    binds = [Bind(ROOT / "datapath", "src"), Bind(folder, "work", writable=True)]
    in_builder(argv, f"packaging {wanted.name}", binds, workspace, f"{wanted.name}.log")
    made = list(folder.glob(f"{wanted.name}_*.deb"))
    if len(made) != 1:
        raise LabError(f"packaging {wanted.name} gave {len(made)} packages", hint="see datapath/packaging")
    return made[0]


def ensure(workspace: Workspace | None = None) -> tuple[Path, ...]:
    """All packages, in the order of PACKAGES; built when one is missing or the datapath has changed since."""
    workspace = workspace or Workspace()
    stamp = workspace.out / "packages" / "sources"
    digest = _sources()
    made = tuple(workspace.out.glob(f"packages/{one.name}_*.deb") for one in PACKAGES)
    found = tuple(path for paths in made for path in paths)
    if len(found) == len(PACKAGES) and stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return found
    stamp.unlink(missing_ok=True)
    found = tuple(package(one, workspace) for one in PACKAGES)
    stamp.write_text(digest, encoding="utf-8")
    return found


def _sources() -> str:
    """sha256 over the datapath's sources: names, modes and content."""
    total = hashlib.sha256()
    for path in sorted((ROOT / "datapath").rglob("*")):
        if not path.is_file() or path.name.startswith(".") or path.suffix in _MADE:
            continue
        if path.name.endswith(".mod.c") or "__pycache__" in path.parts:
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(ROOT)}:{content}:{path.stat().st_mode & 0o111:o}\n".encode())
    return total.hexdigest()

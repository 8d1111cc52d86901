"""The datapath as packages, for other machines; made in the builder image: the same bytes always."""

from __future__ import annotations

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

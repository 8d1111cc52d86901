"""The driver as a DKMS package, for other machines; made in the builder image: the same bytes always."""

from __future__ import annotations

from pathlib import Path

from lab.errors import LabError

from . import build, sandbox
from .definition import ROOT, Workspace
from .sandbox import Bind


def package(workspace: Workspace | None = None) -> Path:
    """Build exanic-dkms_VERSION_all.deb into out/packages and return its path.

    What is in it is the driver's business: datapath/exanic/packaging.
    """
    workspace = workspace or Workspace()
    built = build.ensure(("builder",), workspace)["builder"]
    folder = workspace.out / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("exanic-dkms_*.deb"):
        old.unlink()
    binds = [Bind(ROOT / "datapath", "src"), Bind(folder, "work", writable=True)]
    argv = sandbox.in_root(
        workspace.images / "builder" / "root", ["sh", "/src/exanic/packaging/build", "/work"], binds
    )
    epoch = {"SOURCE_DATE_EPOCH": str(built.epoch)}
    sandbox.run(argv, "packaging the driver for DKMS", env=epoch, log=workspace.images / "logs" / "dkms.log")
    made = list(folder.glob("exanic-dkms_*.deb"))
    if len(made) != 1:
        raise LabError(
            f"packaging the driver gave {len(made)} packages", hint="see datapath/exanic/packaging"
        )
    return made[0]

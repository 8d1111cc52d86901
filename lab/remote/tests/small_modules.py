"""Packages that are made as ours, built by DKMS and depend on each other as they do, of modules that hold
next to nothing: they compile in seconds. ``--real-modules`` has the real ones built.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from images import debs, sandbox
from lab.paths import ROOT

_EXANIC = """
#include <linux/module.h>
int exanic_small(void);
int exanic_small(void) { return @NUMBER@; }
EXPORT_SYMBOL_GPL(exanic_small);
MODULE_DESCRIPTION("plays the driver");
MODULE_LICENSE("GPL");
"""
_EXASOCK = """
#include <linux/module.h>
int exanic_small(void);
static int __init start(void) { return exanic_small(); }
static void __exit end(void) { }
module_init(start);
module_exit(end);
MODULE_DESCRIPTION("plays the accelerated sockets");
MODULE_LICENSE("GPL");
"""
_SOURCES = {"exanic": _EXANIC, "exasock": _EXASOCK}


def packages(folder: Path, number: str = "0") -> list[Path]:
    """The packages, in ``folder``. ``number`` is in the source of the first module: another one makes other
    packages of the same version, and one that is no number makes modules that do not compile.
    """
    datapath = folder / "datapath"
    shutil.copytree(ROOT / "datapath/packaging", datapath / "packaging", dirs_exist_ok=True)
    (datapath / "include").mkdir(exist_ok=True)
    (datapath / "include/none.h").touch()
    for name, source in _SOURCES.items():
        module = datapath / name
        shutil.copytree(ROOT / f"datapath/{name}/packaging", module / "packaging", dirs_exist_ok=True)
        for file in ("dkms.conf", "Makefile"):
            shutil.copyfile(ROOT / f"datapath/{name}/{file}", module / file)
        (module / "only.c").write_text(source.replace("@NUMBER@", number))
        (module / "only.h").touch()
        (module / "Kbuild").write_text(f"obj-m := {name}.o\n{name}-y := only.o\n")
        script = ["sh", str(datapath / "packaging/dkms"), name, str(folder)]
        subprocess.run(
            script, env={**sandbox.CLEAN_ENV, "SOURCE_DATE_EPOCH": "1"}, check=True, capture_output=True
        )
    programs = next(path for path in debs.ensure() if path.name.startswith("exasock_"))
    return [*sorted(folder.glob("*-dkms_*.deb")), programs]

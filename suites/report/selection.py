"""What a run of pytest was asked for, beside what the part is that it is recorded as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Whole:
    """A part as the Makefile runs it: folders, the marker expression, what is left out of them."""

    folders: tuple[str, ...]
    marker: str = ""
    ignored: tuple[str, ...] = ()


WHOLE = {
    "unit": Whole(("lab", "images", "datapath", "suites/report", "suites/tests"), "not lab and not lint"),
    "image": Whole(("images",), "lab"),
    "suites": Whole(("suites",), ignored=("suites/report", "suites/tests")),
}


def selection(config: pytest.Config, part: str) -> str:
    """What makes this run less than the part, in pytest's words; empty: nothing, or it has no bounds."""
    whole = WHOLE.get(part)
    if whole is None:
        return ""
    root, here = config.rootpath, config.invocation_params.dir
    told = []
    asked = [_path(here, one.split("::")[0]) for one in config.args if "::" not in one]
    if not all(any(_within(root / one, path) for path in asked) for one in whole.folders):
        told += [_short(root, here, one) for one in config.args]
    options = config.option
    if options.keyword:
        told.append(f"-k {options.keyword!r}")
    if options.markexpr != whole.marker:
        told.append(f"-m {options.markexpr!r}")
    known = [root / one for one in whole.ignored]
    for name in ("ignore", "ignore_glob", "deselect"):
        for one in getattr(options, name, None) or ():
            if name != "ignore" or _path(here, str(one)) not in known:
                told.append(f"--{name.replace('_', '-')} {one}")
    told += ["--last-failed"] if getattr(options, "lf", False) else []
    return " ".join(told)


def _path(here: Path, name: str) -> Path:
    return (here / name).resolve()


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _short(root: Path, here: Path, argument: str) -> str:
    name, *rest = argument.split("::")
    path = _path(here, name)
    return "::".join([str(path.relative_to(root)) if _within(path, root) else name, *rest])

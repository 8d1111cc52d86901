"""What a finished image says about itself, and what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from .definition import ROOT

#: Parts of the datapath that are compiled for the dut.
DATAPATH = ("exanic", "exasock", "libexasock", "tools")
_COMMON = (
    "images/base.py",
    "images/make.py",
    "images/playbook.py",
    "images/roles.py",
    "images/sandbox.py",
    "images/tree.py",
)
_ROLES = {
    "tools": ("base", "tidy"),
    "builder": ("base", "tidy"),
    "dut": ("base", "kernel", "datapath", "agent", "ssh", "network_tools", "boot", "tidy"),
}
_SOURCES = {
    "tools": (),
    "builder": (),
    "dut": (
        "images/initramfs",
        "images/initramfs.py",
        "images/cpio.py",
        *(f"datapath/{part}" for part in (*DATAPATH, "include")),
        "lab/guest/agent.py",
    ),
}
# Of the datapath only what its Makefiles read; compiling leaves much else beside it.
_DATAPATH_SUFFIXES = (".c", ".h", ".S", ".map", ".1", ".8")
_DATAPATH_NAMES = ("Makefile", "Kbuild", "exasock")


class Manifest(BaseModel):
    """out/images/NAME/manifest.json. `files` maps file names to sha256; a tree is the one entry `root`."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    kernel: str | None
    lock: str
    locked: bool
    inputs: str
    epoch: int
    files: dict[str, str]

    def dump(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(), indent=2) + "\n"


def digest_of(files: Mapping[str, str]) -> str:
    """The image's digest: over the names and digests of its files."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def read(folder: Path) -> Manifest | None:
    """The manifest of a finished image; None when there is none (or one of another format)."""
    try:
        return Manifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def sources(image: str) -> list[Path]:
    """The files of the checkout that an image is made from, sorted."""
    found: set[Path] = set()
    names = [*_COMMON, *_SOURCES[image], f"images/ansible/{image}.yml", "images/ansible/plugins"]
    names += [f"images/ansible/roles/{role}" for role in _ROLES[image]]
    for name in names:
        path = ROOT / name
        found.update(_files(path) if path.is_dir() else [path] if path.exists() else [])
    return sorted(found)


def _files(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        relative = path.relative_to(ROOT)
        if not path.is_file() or "__pycache__" in relative.parts or relative.name.startswith("."):
            continue
        if relative.parts[0] == "datapath" and (
            path.name.endswith(".mod.c")
            or not (path.suffix in _DATAPATH_SUFFIXES or path.name in _DATAPATH_NAMES)
        ):
            continue
        yield path


def inputs(image: str, locks: Mapping[str, str]) -> str:
    """Digest of everything an image is made from. `locks`: image name to digest of its lock.

    The dut's driver is compiled by the builder and its root packed by the tools, so all locks count for it.
    """
    wanted = sorted(locks) if image == "dut" else [image]
    total = hashlib.sha256("".join(f"{name}:{locks[name]}\n" for name in wanted).encode())
    for path in sources(image):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(ROOT)}:{content}:{path.stat().st_mode & 0o111:o}\n".encode())
    return total.hexdigest()

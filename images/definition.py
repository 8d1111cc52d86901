"""What the images are: names, packages, where their parts live. The data is in images.toml."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from lab.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "images"
TRACKED_LOCKS = IMAGES / "locks"
ORDER = ("tools", "builder", "dut")


@dataclass(frozen=True)
class Image:
    """One image: its package names (before resolution) and what it is for."""

    name: str
    description: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """A kernel that reports, in place of Debian's. `slower`: how much longer everything takes in its guest;
    `memory`: MiB that the guest has at least; `arguments` of its command line; `placement`: of its lab, where
    lab.toml leaves it open.
    """

    name: str
    description: str
    slower: float
    memory: int
    arguments: tuple[str, ...]
    placement: Literal["auto", "spread"]

    @property
    def image(self) -> str:
        """The image that has it: the dut's root with this kernel."""
        return f"dut-{self.name}"


@dataclass(frozen=True)
class Definition:
    """Everything images.toml says. `backports` are source package names; `kernels` those that report; `host`
    is no image, but what a machine reached over SSH needs.
    """

    suite: str
    architecture: str
    components: tuple[str, ...]
    backports: tuple[str, ...]
    kernel_series: str
    images: dict[str, Image]
    kernels: dict[str, Kernel]
    host: Image


@cache
def load(path: Path = IMAGES / "images.toml") -> Definition:
    """Read images.toml. KeyError or TOMLDecodeError when it is malformed: it is part of the source."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    described = {
        name: Image(name, data[name]["description"], tuple(sorted(set(data[name]["packages"]))))
        for name in (*ORDER, "host")
    }
    return Definition(
        suite=data["suite"],
        architecture=data["architecture"],
        components=tuple(data["components"]),
        backports=tuple(data["backports"]),
        kernel_series=data["kernel_series"],
        images={name: described[name] for name in ORDER},
        kernels={
            name: Kernel(**{**told, "name": name, "arguments": tuple(told["arguments"])})
            for name, told in data["kernels"].items()
        },
        host=described["host"],
    )


def kernel(name: str) -> Kernel:
    """A kernel that reports. LabError when images.toml has none of this name."""
    known = load().kernels
    if name not in known:
        raise LabError(
            f"there is no kernel {name!r}", hint=f"{', '.join(known)}; without KERNEL it is Debian's own"
        )
    return known[name]


def default_cache() -> Path:
    """The download cache: EXALAB_CACHE, or ~/.cache/exalab. Shared by checkouts, content-addressed."""
    configured = os.environ.get("EXALAB_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "exalab"


@dataclass(frozen=True)
class Workspace:
    """Where one run puts things. `verify` and `bench` use others than the checkout's."""

    out: Path = ROOT / "out"
    cache: Path = field(default_factory=default_cache)
    keep_base: bool = True

    @property
    def images(self) -> Path:
        """Finished images, one folder each."""
        return self.out / "images"

    @property
    def fresh_locks(self) -> Path:
        """Untracked locks, resolved because the archive has moved past the tracked ones."""
        return self.out / "locks"

    @property
    def bases(self) -> Path:
        """Package-only trees, kept so that a changed role does not unpack Debian again."""
        return self.out / "images" / ".base"

    @property
    def work(self) -> Path:
        """Trees under construction; whatever is left here is rubbish."""
        return self.out / "images" / ".work"

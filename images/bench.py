"""How long the images take from nothing: empty package cache, scratch output folder."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from . import build
from .definition import ORDER, Workspace


def figures() -> dict[str, float]:
    """Seconds for all images cold, downloads included, and of the parts. Needs root and the archive.

    The parts overlap, so they add up to more than the whole.
    """
    out = Workspace().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-images-", dir=out) as scratch:
        space = Workspace(out=Path(scratch) / "out", cache=Path(scratch) / "cache")
        started = time.monotonic()
        build.ensure(ORDER, space)
        found = {"images_cold_s": round(time.monotonic() - started, 1)}
        parts: dict[str, float] = json.loads((space.images / "times.json").read_text(encoding="utf-8"))
    found["images_fetch_s"] = parts["choose and fetch"]
    for name in ORDER:
        found[f"images_{name}_packages_s"] = parts[f"image {name}: packages"]
        found[f"images_{name}_roles_s"] = parts[f"image {name}: roles"]
    return found | kernels()


def kernels() -> dict[str, float]:
    """Seconds that each kernel that reports took when it was built; none that the cache has not."""
    from . import reporting
    from .definition import load

    built = {name: reporting.cached(kernel) for name, kernel in load().kernels.items()}
    return {f"{name}_kernel_build_s": one.seconds for name, one in built.items() if one is not None}


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))

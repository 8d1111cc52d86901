"""The initramfs: busybox, the modules that reach the root, our init script; always the same bytes."""

from __future__ import annotations

import lzma
from pathlib import Path

from lab.errors import LabError

from .cpio import Archive
from .definition import IMAGES

# What the root needs; dependencies come by themselves. virtio_pci and virtio_console are built in.
# libcrc32c, which erofs needs, asks the crypto layer for crc32c when loaded: modules.dep does not say so.
ROOT_MODULES = ("virtio_blk", "crc32c_generic", "erofs", "overlay")


def kernel_version(root: Path) -> str:
    """The one kernel a tree holds. LabError when there is none or several."""
    versions = sorted(p.name for p in (root / "usr/lib/modules").glob("*") if (p / "modules.dep").is_file())
    if len(versions) != 1:
        raise LabError(
            f"{root} holds {len(versions)} kernels: {', '.join(versions)}", hint="an image holds one kernel"
        )
    return versions[0]


def load_order(modules: Path, wanted: tuple[str, ...]) -> list[str]:
    """Paths (relative to the modules folder) in the order insmod needs, from modules.dep(5).

    LabError when a module is neither there nor built in.
    """
    dependencies: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text(encoding="utf-8").splitlines():
        path, _, rest = line.partition(":")
        dependencies[path] = rest.split()
        paths[_module(path)] = path
    builtin = {_module(p) for p in (modules / "modules.builtin").read_text(encoding="utf-8").split()}
    order: list[str] = []
    for name in wanted:
        if name in builtin:
            continue
        if name not in paths:
            raise LabError(f"the kernel has no module {name}", hint="see the path-includes in images/base.py")
        # modules.dep lists a module's dependencies so that the last one must be loaded first.
        for path in (*reversed(dependencies[paths[name]]), paths[name]):
            if path not in order:
                order.append(path)
    return order


def _module(path: str) -> str:
    """kernel/net/8021q/8021q.ko.xz -> 8021q; the kernel treats - and _ alike."""
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def build(root: Path) -> bytes:
    """The archive for a dut tree, which gives busybox and the modules.

    Uncompressed: it is small, and unpacking costs more than reading where every instruction is emulated.
    """
    modules = root / "usr/lib/modules" / kernel_version(root)
    archive = Archive()
    for folder in ("dev", "proc", "sys", "root", "bin", "modules", "over", "lower"):
        archive.directory(folder)
    # The kernel opens /dev/console before devtmpfs is there; without it init has no output.
    archive.character_device("dev/console", 5, 1)
    archive.file("init", (IMAGES / "initramfs" / "init").read_bytes(), 0o755)
    archive.file("bin/busybox", (root / "usr/bin/busybox").read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    names = []
    for path in load_order(modules, ROOT_MODULES):
        data = (modules / path).read_bytes()
        if path.endswith(".xz"):
            data = lzma.decompress(data)
        name = f"{_module(path)}.ko"
        archive.file(f"modules/{name}", data)
        names.append(name)
    archive.file("modules/order", "".join(f"{n}\n" for n in names).encode())
    return archive.encode()

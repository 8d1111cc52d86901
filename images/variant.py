"""The image of a kernel that reports: the dut's own root, to the byte, that kernel, and modules for it.

out/images/dut-NAME: vmlinuz, root.erofs (the dut's), and initrd.img: the dut's, followed by an archive with
the modules that are under test, and `provoke`, which does on purpose what the kernel should report. The
initramfs gives them to the root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from lab import console
from lab.errors import LabError

from . import build, manifest, reporting, sandbox, tree
from .cpio import Archive
from .definition import ROOT, Kernel, Workspace, kernel
from .manifest import Manifest
from .sandbox import Bind

#: Compiled in this order: the second needs the first one's symbols.
MODULES = ("exanic", "exasock", "provoke")
PROVOKE = ROOT / "suites/kernels/provoke"
_FILES = ("vmlinuz", "initrd.img", "root.erofs")
# $1 = the release. modules.builtin says what is there without a file.
_COMPILE = """
set -e
release=$1; shift
modules=/build/stage/lib/modules/$release
mkdir -p "$modules/updates"
for name; do
    nice make -s -C "/build/$name" KDIR=/work module
    cp "/build/$name/$name.ko" "$modules/updates"
done
cp /build/modules.builtin /build/modules.builtin.modinfo "$modules"
touch "$modules/modules.order"
depmod -b /build/stage "$release"
"""


def current(name: str, workspace: Workspace | None = None) -> Manifest | None:
    """The manifest of the image with this kernel, when it is there and up to date. Reads little."""
    workspace = workspace or Workspace()
    dut, builder = (build.current(needed, workspace) for needed in ("dut", "builder"))
    wanted = kernel(name)
    found = manifest.read(workspace.images / wanted.image)
    if dut is None or builder is None or found is None:
        return None
    return found if found.inputs == _inputs(wanted, dut, builder) else None


def ensure(name: str, workspace: Workspace | None = None) -> Manifest:
    """Have the image with this kernel; builds kernel, modules and image where they are missing or stale.

    LabError when something does not compile, or there is no such kernel.
    """
    workspace = workspace or Workspace()
    wanted = kernel(name)
    images = build.ensure(("tools", "builder", "dut"), workspace)
    found = current(name, workspace)
    if found is not None:
        return found
    sandbox.require_root()
    built = reporting.ensure(wanted, workspace)
    with build.alone(workspace), console.step(f"image {wanted.image}"):
        return _make(wanted, built, images["dut"], images["builder"], workspace)


def _sources() -> list[Path]:
    """The checkout's files that are compiled: the datapath's as for the dut, and `provoke`."""
    datapath = [path for path in manifest.sources("dut") if path.relative_to(ROOT).parts[0] == "datapath"]
    return [
        *datapath,
        *sorted(path for path in PROVOKE.glob("*") if path.suffix == ".c" or path.suffix == ""),
    ]


def _inputs(wanted: Kernel, dut: Manifest, builder: Manifest) -> str:
    """Digest of what the image is made from."""
    total = hashlib.sha256(f"{dut.digest}\n{reporting.key(wanted, builder.digest)}\n".encode())
    for path in (*_sources(), Path(__file__)):
        total.update(f"{path.relative_to(ROOT)}:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _make(
    wanted: Kernel, built: reporting.Built, dut: Manifest, builder: Manifest, workspace: Workspace
) -> Manifest:
    """Compile, pack and place, under the lock of the images."""
    inputs = _inputs(wanted, dut, builder)
    folder = workspace.images / f".{wanted.image}"
    scratch = folder / "build"
    shutil.rmtree(folder, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        stage = _modules(built, scratch, workspace)
        standard = workspace.images / "dut"
        (folder / "initrd.img").write_bytes((standard / "initrd.img").read_bytes() + _archive(stage))
        shutil.copyfile(built.image, folder / "vmlinuz")
        os.link(standard / "root.erofs", folder / "root.erofs")
        shutil.rmtree(scratch)
        files = {name: tree.file_digest(folder / name) for name in _FILES if name != "root.erofs"}
        files["root.erofs"] = dut.files["root.erofs"]
        described = Manifest(
            name=wanted.image,
            digest=manifest.digest_of(files),
            kernel=built.release,
            lock=dut.lock,
            locked=dut.locked,
            inputs=inputs,
            epoch=dut.epoch,
            files=files,
        )
        (folder / "manifest.json").write_text(described.dump(), encoding="utf-8")
        final = workspace.images / wanted.image
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return described


def _modules(built: reporting.Built, scratch: Path, workspace: Workspace) -> Path:
    """Compile the modules in the builder, against this kernel; returns the root of lib/modules."""
    for path in _sources():
        relative = path.relative_to(ROOT)
        parts = relative.parts[1:] if relative.parts[0] == "datapath" else ("provoke", path.name)
        target = scratch.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for name in ("modules.builtin", "modules.builtin.modinfo"):
        shutil.copyfile(built.folder / name, scratch / name)
    binds = [Bind(scratch, "build", writable=True), Bind(built.headers, "work")]
    argv = ["sh", "-c", _COMPILE, "compile", built.release, *MODULES]
    inside = sandbox.in_root(workspace.images / "builder" / "root", argv, binds)
    log = workspace.images / "logs" / f"{built.release}.log"
    sandbox.run(inside, f"compiling the modules for {built.release}", log=log)
    return scratch / "stage"


def _archive(stage: Path) -> bytes:
    """What the initramfs has more than the dut's: modules for the root. Of its own it needs none."""
    archive = Archive()
    archive.file("modules/order", b"")
    for path in sorted((stage / "lib/modules").rglob("*")):
        if path.is_file():
            archive.file(str(path.relative_to(stage)), path.read_bytes())
    if "lib" not in archive.entries:
        raise LabError("there are no modules for the kernel", hint="this is a defect: report it")
    return archive.encode()

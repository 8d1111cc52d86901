"""From packages to a finished image: unpack, apply roles, pack, describe, put in place."""

from __future__ import annotations

import shutil
import struct
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from . import base, initramfs, manifest, roles, sandbox, tree
from .choice import Choice
from .definition import ROOT, Workspace
from .manifest import Manifest
from .roles import Host
from .sandbox import Bind

if TYPE_CHECKING:
    from .build import Times

# Any constant will do; mkfs would draw a random one.
_UUID = uuid.uuid5(uuid.NAMESPACE_DNS, "root.exalab.invalid")


class Maker:
    """One build's shared facts."""

    def __init__(
        self, workspace: Workspace, chosen: Choice, digests: Mapping[str, str], times: Times
    ) -> None:
        self.workspace = workspace
        self.chosen = chosen
        self.digests = digests
        self.times = times

    def make(self, name: str, before: Mapping[str, Future[None]]) -> None:
        """Build one image; `before` are the images under way that it may need."""
        root = self.workspace.work / name / "root"
        root.parent.mkdir(parents=True)
        lock = self.chosen.locks[name]
        # As they are before we read them: a source that changes meanwhile makes the image stale, not wrong.
        inputs = manifest.inputs(name, self.digests)
        with self.times.phase(f"image {name}: packages"):
            base.build(lock, self.chosen.debs, root, self.workspace)
        if name == "dut":
            for needed in ("builder", "tools"):
                if needed in before:
                    before[needed].result()
        with self.times.phase(f"image {name}: roles"):
            self._roles(name, root)
        with self.times.phase(f"image {name}: finishing"):
            _settle(root, lock.epoch)
            files = self._pack_dut(root) if name == "dut" else {"root": tree.digest(root)}
            described = Manifest(
                name=name,
                digest=manifest.digest_of(files),
                kernel=initramfs.kernel_version(root) if name == "dut" else None,
                lock=self.digests[name],
                locked=self.chosen.locked,
                inputs=inputs,
                epoch=lock.epoch,
                files=files,
            )
            if name == "dut":
                shutil.rmtree(root)
            (root.parent / "manifest.json").write_text(described.dump(), encoding="utf-8")
            self._place(name)

    def _roles(self, name: str, root: Path) -> None:
        scratch = self.workspace.work / f"{name}-ansible"
        hosts = [Host(name, root)]
        variables: dict[str, object] = {}
        if name == "dut":
            # The image itself has no use for it: QEMU starts the kernel from this file.
            shutil.copyfile(
                root / "boot" / f"vmlinuz-{initramfs.kernel_version(root)}", root.parent / "vmlinuz"
            )
            build = scratch / "build"
            build.mkdir(parents=True)
            for source in manifest.sources("dut"):
                relative = source.relative_to(ROOT)
                if relative.parts[0] == "datapath":
                    target = build / Path(*relative.parts[1:])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
            hosts.append(
                Host("builder", self.workspace.images / "builder" / "root", ((str(build), "build", True),))
            )
            variables = {
                "exalab_kernel": initramfs.kernel_version(root),
                "exalab_build": str(build),
                "exalab_agent": str(ROOT / "lab" / "guest"),
            }
        scratch.mkdir(parents=True, exist_ok=True)
        roles.apply(name, tuple(hosts), variables, scratch, self.chosen.locks[name].epoch)
        shutil.rmtree(scratch)

    def _pack_dut(self, root: Path) -> dict[str, str]:
        """vmlinuz, initrd.img and root.erofs beside the tree; returns their digests."""
        folder = root.parent
        (folder / "initrd.img").write_bytes(initramfs.build(root))
        self._unpack_kernel(folder)
        # Not compressed: lz4 halves the size and costs half a second to a second of every boot under TCG.
        argv = [
            "mkfs.erofs",
            "--quiet",
            f"-T{self.chosen.locks['dut'].epoch}",
            "--mkfs-time",
            f"-U{_UUID}",
            "-Lexalab-dut",
            "/build/root.erofs",
            "/build/root",
        ]
        tools = self.workspace.images / "tools" / "root"
        binds = [Bind(folder, "build", writable=True)]
        sandbox.run(
            sandbox.in_root(tools, argv, binds), "mkfs.erofs", log=self.workspace.images / "logs" / "mkfs.log"
        )
        return {
            name: tree.file_digest(folder / name)
            for name in ("vmlinuz", "vmlinux", "initrd.img", "root.erofs")
        }

    def _unpack_kernel(self, folder: Path) -> None:
        """vmlinux beside vmlinuz: QEMU starts it directly (PVH), and the guest need not unpack itself.

        Under TCG that is two seconds of every boot. Header fields: Documentation/arch/x86/boot.rst.
        """
        image = (folder / "vmlinuz").read_bytes()
        start = (image[0x1F1] + 1) * 512
        offset, length = struct.unpack_from("<II", image, 0x248)
        # The last four bytes are the unpacked size, appended by the kernel's build.
        (folder / "vmlinux.zst").write_bytes(image[start + offset : start + offset + length - 4])
        tools = self.workspace.images / "tools" / "root"
        argv = ["zstd", "--decompress", "--quiet", "--rm", "--long=31", "/build/vmlinux.zst"]
        sandbox.run(
            sandbox.in_root(tools, argv, [Bind(folder, "build", writable=True)]), "unpacking the kernel"
        )

    def _place(self, name: str) -> None:
        """The finished folder in one rename; the old one goes out of the way first, by another."""
        final = self.workspace.images / name
        if final.exists():
            final.rename(self.workspace.work / f"{name}-old")
        (self.workspace.work / name).rename(final)


def _settle(root: Path, epoch: int) -> None:
    """What only we can see from outside: the folders hidden under mounts, and times."""
    for hidden in ("tmp", "run", "proc", "sys", "dev/pts", "dev/shm"):
        for entry in (root / hidden).iterdir() if (root / hidden).is_dir() else ():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    tree.clamp_times(root, epoch)

"""QEMU and its helpers out of the tools image, without installing or mounting anything lasting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError


@dataclass(frozen=True)
class Bind:
    """A directory or file of the host that the program inside sees at the same path."""

    path: Path
    writable: bool = False


def tools_argv(
    tools: Path, argv: Sequence[str], binds: Iterable[Bind] = (), *, vfio: bool = False
) -> list[str]:
    """The command that runs ``argv`` of the tools image, seeing of the host ``binds`` and /dev/kvm.

    ``vfio``: the devices that vfio-pci holds, too, and /sys, which tells QEMU about them.

    Host network (for the management port's forwarding), no capabilities; ends when its parent ends.
    """
    if not (tools / "usr").is_dir():
        raise LabError(f"there is no tools image at {tools}", hint="make images")
    command = ["bwrap", "--die-with-parent", "--cap-drop", "ALL", "--unshare-ipc", "--unshare-uts"]
    # The root itself is made anew, so that mount points need not exist in the image.
    for name in ("usr", "etc"):
        command += ["--ro-bind", str(tools / name), f"/{name}"]
    for name in ("bin", "sbin", "lib", "lib64"):
        command += ["--symlink", f"usr/{name}", f"/{name}"]
    command += [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--dev-bind-try",
        "/dev/kvm",
        "/dev/kvm",
        "--tmpfs",
        "/tmp",
    ]
    if vfio:
        command += ["--dev-bind", "/dev/vfio", "/dev/vfio", "--ro-bind", "/sys", "/sys"]
    for bind in binds:
        command += ["--bind" if bind.writable else "--ro-bind", str(bind.path), str(bind.path)]
    # The image's own settings, nothing of the caller's (QEMU and glib read several variables).
    command += ["--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin", "--setenv", "LANG", "C.UTF-8"]
    return [*command, "--", *argv]

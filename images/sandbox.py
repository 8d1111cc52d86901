"""Running a command so that nothing of it can outlive us: a mount and a pid namespace of its own.

The first process of the namespace dies with its parent, and everything in a pid namespace dies with its first
process; mounts made inside are seen nowhere else and go with it. So even kill -9 leaves nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

CLEAN_ENV = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "DEBIAN_FRONTEND": "noninteractive",
}

# Run by /bin/sh in the new namespaces, before the chroot. $1 = root, then source target ro|rw ..., --, argv.
_ENTER = """
set -e
umask 022
root=$1; shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs -o mode=0755 run "$root/run"
while [ "$1" != -- ]; do
    mount --bind "$1" "$root/$2"
    [ "$3" = rw ] || mount -o remount,bind,ro "$root/$2"
    shift 3
done
shift
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Bind:
    """A host folder shown inside a root, at `target` (no leading slash needed), a folder the root has."""

    source: Path
    target: str
    writable: bool = False


def isolated(argv: Sequence[str], *, network: bool = False) -> list[str]:
    """argv prefixed so that it runs in its own mount and pid namespace and dies with us. ``network``: in its
    own network namespace, too.
    """
    return [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        *(("--net",) if network else ()),
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        "--propagation",
        "private",
        "--",
        *argv,
    ]


def in_root(root: Path, argv: Sequence[str], binds: Sequence[Bind] = ()) -> list[str]:
    """The full argv that runs `argv` inside a root tree: own /proc, empty /tmp and /run, umask 022."""
    words = [
        word for b in binds for word in (str(b.source), b.target.lstrip("/"), "rw" if b.writable else "ro")
    ]
    return isolated(["/bin/sh", "-c", _ENTER, "exalab", str(root), *words, "--", *argv])


def run(
    argv: Sequence[str],
    what: str,
    *,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    cwd: Path | None = None,
) -> str:
    """Run to the end, return stdout; LabError with the last lines of its output on failure.

    `log` keeps everything it printed; the environment is a fixed one (plus `env`), whatever ours is.
    """
    done = subprocess.run(
        list(argv),
        env={**CLEAN_ENV, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        capture_output=True,
        umask=0o022,
        check=False,
    )
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}", encoding="utf-8")
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise LabError(
            f"{what} failed (exit {done.returncode}):\n{tail}",
            hint=f"the whole output: {log}" if log else None,
        )
    return done.stdout


def require_root() -> None:
    """LabError unless we may make namespaces, device nodes and files of other owners."""
    if os.geteuid() != 0:
        raise LabError("building images needs root", hint="run it as root or with sudo")

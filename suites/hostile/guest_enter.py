"""Becomes a tenant, then runs a program: ``GROUP CAPABILITIES NODES COMMAND...``. Runs *in the guest*.

GROUP is a cgroup that is there. The program is root in a user namespace of its own whose only user is 65534
outside, in a network namespace of its own, with these CAPABILITIES there (numbers, by commas). NODES are
device files, by commas, that it may open as if its runtime had put them there. Standard library only; a
script of its own, for a process with threads cannot do it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x08000000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_CAPBSET_DROP, LAST_CAPABILITY = 24, 40
NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)


def _nodes(paths: list[str]) -> None:
    """Copies of device files that anybody may open, over the files themselves, for this process alone."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
    for number, path in enumerate(paths):
        status = Path(path).stat()
        copy = f"/dev/tenant.{os.getpid()}.{number}"
        os.mknod(copy, status.st_mode, status.st_rdev)
        Path(copy).chmod(0o666)
        _check(_libc.mount(copy.encode(), path.encode(), None, MS_BIND, None), f"mount {path}")
        Path(copy).unlink()


def _mapped() -> None:
    """Leave the initial user namespace; a child that is still root there says who this one is here."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(tell)
        os.read(told, 1)
        for kind in ("gid_map", "uid_map"):
            Path(f"/proc/{os.getppid()}/{kind}").write_text(f"0 {NOBODY} 1")
        os._exit(0)
    _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC), "unshare")
    os.close(tell)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(0, "the user namespace got no map")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def main() -> None:
    group, capabilities, nodes, *command = sys.argv[1:]
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    _nodes([path for path in nodes.split(",") if path])
    _mapped()
    kept = {int(number) for number in capabilities.split(",") if number}
    for number in range(LAST_CAPABILITY + 1):
        if number not in kept:
            _check(_libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "prctl")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

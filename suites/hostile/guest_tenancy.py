"""What the host's owner does for a tenant: a cgroup, a named namespace, devices. Runs *in the guest*."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from lab.guest.agent import in_netns
from suites.guest import iproute, namespaces

Json = dict[str, Any]
GROUPS = Path("/sys/fs/cgroup")


def group(name: str) -> str:
    """A cgroup whose memory is counted; its path."""
    with contextlib.suppress(OSError):
        (GROUPS / "cgroup.subtree_control").write_text("+memory")
    made = GROUPS / name
    made.mkdir(exist_ok=True)
    return str(made)


def limit(path: str, most: int | None) -> None:
    """Bytes of memory that the group may have; None: as much as there is."""
    (Path(path) / "memory.max").write_text("max" if most is None else str(most))


def refused_memory(path: str) -> int:
    """How often the group was refused memory."""
    lines = (Path(path) / "memory.events").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split()[0] in ("max", "oom"))


def adopt(name: str, pid: int, spec: Json) -> None:
    """The network namespace of a process is known by a name from now on, and gets its devices."""
    nsid = next(namespaces._nsids)
    lines = list(namespaces._birth(spec, nsid))
    lines[0] = f"netns attach {name} {pid}"
    ports = {one["name"]: one["on"] for one in spec.get("devices", []) if one["kind"] == "port"}
    iproute.run(None, lines)
    namespaces.namespaces[name] = namespaces.Namespace(name, nsid, ports)
    with in_netns(name):
        namespaces.quiet()
        iproute.run(None, list(namespaces._inside(spec)))


def evict(path: str, seconds: float) -> None:
    """End everything in the group, and the group. TimeoutError when something of it does not end."""
    folder = Path(path)
    (folder / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + seconds
    while "populated 1" in (folder / "cgroup.events").read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still there: {(folder / 'cgroup.procs').read_text().split()}")
        time.sleep(0.02)
    folder.rmdir()


def await_path(path: str, seconds: float) -> None:
    """Wait until somebody listens there. TimeoutError when nobody does."""
    deadline = time.monotonic() + seconds
    while not Path(path).is_socket() or not Path(path).stat().st_mode & 0o002:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens at {path}")
        time.sleep(0.02)

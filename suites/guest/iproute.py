"""iproute2 in batches: the lines for one namespace go to one ip(8), its refusals come back as errnos."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from lab.guest.agent import in_netns

Json = dict[str, Any]
#: "RTNETLINK answers: File exists", "Cannot create namespace file ...: File exists".
_ERRNOS = {os.strerror(code): code for code in errno.errorcode}
#: Where the kernel gives words of its own ip(8) prints these and drops the errno. EINVAL but for these.
_WORDS = {
    "already": errno.EEXIST,  # ipv4: Address already assigned. 8021q: VLAN device already exists.
    "nvalid link address": errno.EADDRNOTAVAIL,
    "Address not found": errno.EADDRNOTAVAIL,
    "nexthop is not up": errno.ENETDOWN,
    "Cannot find device": errno.ENODEV,
    "does not exist": errno.ENODEV,
}


class Refused(OSError):
    """The kernel's errno, or ip's own refusal as one, what was said, and the ``number`` of the line from 0.

    A line that ip cannot parse ends it without a number: that is EINVAL, and 0.
    """

    def __init__(self, said: str, lines: Sequence[str]) -> None:
        found = re.search(r"\n?Command failed \S+:(\d+)\s*$", said)
        self.number = int(found[1]) - 1 if found else 0
        words = (said[: found.start()] if found else said).strip()
        code = _ERRNOS.get(words.rpartition(": ")[2])
        if code is None:
            code = next((code for part, code in _WORDS.items() if part in words), errno.EINVAL)
        super().__init__(code, f"ip {lines[self.number]}: {words}" if found else words)


def run(netns: str | None, lines: Sequence[str], *options: str) -> str:
    """Have ip(8) carry out lines in a namespace (None: the thread's), in order. Returns what it printed.

    The first refusal ends it and is raised: Refused.

    The thread visits the namespace: ``ip -n`` would copy every mount of the guest for each process.
    """
    if not lines:
        return ""
    with in_netns(netns):
        done = subprocess.run(
            ["ip", *options, "-batch", "-"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise Refused(done.stderr, lines)
    return done.stdout


def show(netns: str | None, line: str) -> list[Json]:
    """What ip(8) shows, as its JSON."""
    told: list[Json] = json.loads(run(netns, [line], "-json") or "[]")
    return told

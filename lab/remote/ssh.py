"""The openssh client as the lab uses it, and what it says, for people.

Names, keys, ports and ways are the user's own configuration's (``~/.ssh/config`` of whoever runs the lab:
root); EXALAB_SSH_CONFIG names another file in its place. Nothing is ever asked: what would be is an error.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from lab.errors import LabError

ENVIRONMENT = "EXALAB_SSH_CONFIG"
#: Seconds to connect; between signs of life, and how many may be missing.
CONNECT, ALIVE, MISSING = 15, 5, 6
#: What ssh says of a connection that failed, what that means, and the remedy. {} is the machine.
_SAID: tuple[tuple[str, str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {} is another one than before",
        "find out why (a new installation?); then forget the old one, ssh-keygen -R with its name, and log in"
        " once by hand",
    ),
    (
        "Host key verification failed",
        "the host key of {} is not known",
        "log in once by hand, as root: ssh {}, compare the fingerprint, and say yes",
    ),
    (
        "Permission denied",
        "{} lets us not in",
        "the lab asks for no password: put root's public key there, ssh-copy-id {}",
    ),
    ("Could not resolve hostname", "there is no machine {}", "is its name right? ssh {}"),
    (
        "Connection refused",
        "{} runs no SSH server",
        "apt install openssh-server there; its port: ~/.ssh/config",
    ),
    ("timed out", "{} does not answer", "is it up, and the way there open? ssh {}"),
    ("No route to host", "{} cannot be reached", "is it up, and the way there open? ssh {}"),
    ("Network is unreachable", "{} cannot be reached", "is this machine's network up? ssh {}"),
    (
        "Bad configuration option",
        "ssh does not understand its configuration",
        "look at ~/.ssh/config: ssh {}",
    ),
    (
        "sudo: ",
        "the user of {} may not become root without a password",
        'write host = "root@…", or allow it sudo',
    ),
    (
        "python3: (command )?not found",
        "{} has no python3",
        "apt install python3, there",
    ),
)


class Unreachable(LabError):
    """The machine cannot be reached, or not as root."""


def options(*, alone: bool = True) -> list[str]:
    """Options of ssh(1) for every connection. ``alone``: it shares none that somebody else has opened."""
    given = os.environ.get(ENVIRONMENT)
    words = ["-F", given] if given else []
    for option in (
        "BatchMode=yes",
        f"ConnectTimeout={CONNECT}",
        f"ServerAliveInterval={ALIVE}",
        f"ServerAliveCountMax={MISSING}",
        "ClearAllForwardings=yes",
        *(("ControlMaster=no", "ControlPath=none") if alone else ()),
    ):
        words += ["-o", option]
    return words


def argv(host: str, command: Sequence[str] = (), *, terminal: bool | None = False) -> list[str]:
    """The command that runs ``command`` there; a shell without one. ``terminal``: None leaves it to ssh."""
    how = [] if terminal is None else ["-t" if terminal else "-T"]
    words = ["ssh", *options(), *how, "--", host]
    return [*words, shlex.join(command)] if command else words


def explained(host: str, said: str, returncode: int | None) -> Unreachable:
    """What went wrong, of what ssh or the other side said before it ended."""
    for pattern, message, hint in _SAID:
        if re.search(pattern, said):
            return Unreachable(message.replace("{}", host), hint.replace("{}", host))
    last = "\n".join(said.strip().splitlines()[-10:])
    return Unreachable(
        f"ssh to {host} ended with status {returncode}" + (f":\n{last}" if last else " and said nothing"),
        hint=f"try it by hand, as root: ssh {host}",
    )

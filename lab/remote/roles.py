"""Applying the roles to a machine reached over SSH, and taking everything off again.

What is put there is noted there, in the journal, before it is: taking off follows the journal, whoever comes,
and however far applying came.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images import debs
from images.definition import load
from images.playbook import PLAYS, Change, Played, play
from lab import errors
from lab.console import step
from lab.errors import LabError
from lab.guest.client import Agent
from lab.paths import ROOT
from lab.real import borrowed, card, device, host, journal, tester, used, verdict
from lab.remote import held, link, ssh, survey
from lab.remote import verdict as verdicts

#: In the order in which they need each other.
CARRIED = (errors, host, device, verdict, survey)
ROLES = ("host_journal", "host_packages", "agent", "network_tools")
#: Where Ansible puts its files there, while it is at work.
REMOTE_TMP = "/var/tmp/exalab-ansible"
#: Seconds that the connection which Ansible's tasks share waits for the next of them.
PERSIST = 30
#: Seconds for a look around, and to tidy.
LOOK = 60.0


@dataclass(frozen=True)
class Machine:
    """A machine and what was seen there. ``sudo``: we are not root, but may become it."""

    host: str
    sudo: bool
    seen: dict[str, Any]

    @property
    def given(self) -> bool:
        """Whether the datapath is there, and not by us."""
        return verdicts.brought_by_others(self.host, self.seen)

    @property
    def applied(self) -> str | None:
        """The digest of what was applied; empty: not all of it was; None: nothing was."""
        journal = self.seen["journal"]
        return None if journal is None else str(journal["digest"])


@dataclass(frozen=True)
class Wanted:
    """What is to be there."""

    ours: tuple[dict[str, Any], ...]
    names: tuple[str, ...]
    digest: str


def find(where: str, cards: Sequence[str] = ()) -> Machine:
    """Look around on a machine. Raises ``LabError`` when it cannot be reached, or not as root."""
    with step(f"inspecting {where}"):
        with link.agent_on(where) as agent:
            seen = _look(agent, cards)
        if seen["uid"] == 0:
            return Machine(where, False, seen)
        with link.agent_on(where, sudo=True) as agent:
            return Machine(where, True, _look(agent, cards))


def _look(agent: Agent, cards: Sequence[str]) -> dict[str, Any]:
    agent.load(*CARRIED)
    seen: dict[str, Any] = agent.call(survey.look, cards=list(cards), timeout=LOOK)
    return seen


def wanted(
    machine: Machine, names: Sequence[str] | None = None, packages: Sequence[Path] | None = None
) -> Wanted:
    """What is to be on the machine, by its contents. ``names``: packages of its own archive; default: those
    of images.toml. ``packages``: files of ours; default: the datapath, built when it has changed.
    """
    chosen = tuple(load().host.packages if names is None else names)
    files = () if machine.given else debs.ensure() if packages is None else packages
    ours = tuple(_described(path) for path in files)
    total = hashlib.sha256(json.dumps([[one["name"], one["sha256"]] for one in ours]).encode())
    total.update(" ".join(chosen).encode())
    sources = [ROOT / "lab/guest/agent.py", PLAYS / "host.yml"]
    for role in ROLES:
        sources += sorted(path for path in (PLAYS / "roles" / role).rglob("*") if path.is_file())
    for path in sources:
        if "__pycache__" not in path.parts:
            total.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return Wanted(ours, chosen, total.hexdigest())


def _described(package: Path) -> dict[str, Any]:
    """A package of ours, as the role takes it."""
    fields = {}
    for name in ("Package", "Version", "Depends"):
        done = subprocess.run(
            ["dpkg-deb", "--field", str(package), name], capture_output=True, text=True, check=True
        )
        fields[name] = done.stdout.strip()
    depends = [one.split("|")[0].split("(")[0].split(":")[0].strip() for one in fields["Depends"].split(",")]
    return {
        "name": fields["Package"],
        "version": fields["Version"],
        "depends": [name for name in depends if name],
        "sha256": hashlib.sha256(package.read_bytes()).hexdigest(),
        "source": str(package),
        "file": f"/var/lib/exalab/packages/{package.name}",
    }


def apply(machine: Machine, what: Wanted, *, dry: bool = False) -> list[Change]:
    """Have it all there; what was changed, or (``dry``) would be. Raises ``LabError`` naming what failed."""
    verdicts.check(machine.host, machine.seen)
    arguments = "--check --diff" if dry else "--diff"
    return _done(machine, _play(machine, "host", what, arguments), "applied to")


def remove(machine: Machine, *, dry: bool = False) -> list[Change]:
    """Take off all that was put there; nothing of it, and no journal, is left. What was changed, or would be.

    Raises ``LabError`` naming what failed; then the journal is still there, and removing can be tried again.
    """
    if machine.applied is None:
        return []
    for pid, name in machine.seen["users"]:
        raise LabError(
            f"{machine.host}: process {pid} ({name}) has accelerated sockets",
            hint=f"end what uses the card, there: `kill {pid}`, or stop its service; or make lab-down",
        )
    with step(f"claiming {machine.host}"), link.agent_on(machine.host, machine.sudo) as agent:
        agent.load(*CARRIED, journal, card, tester, used, borrowed, held)
        refused = None if dry else agent.call(held.release, timeout=LOOK)
    if refused is not None:
        raise LabError(f"{machine.host}: {refused['message']}", hint=refused["hint"])
    what = Wanted((), load().host.packages, "")
    return _done(
        machine, _play(machine, "host_remove", what, "--check --diff" if dry else "--diff"), "removed from"
    )


def _done(machine: Machine, played: Played, how: str) -> list[Change]:
    if played.ok:
        return played.changes
    told = "\n".join(played.failures)
    if played.unreachable:
        raise ssh.explained(machine.host, told, 255)
    hints = [str(one["hint"]) for one in played.results if one.get("hint")]
    raise LabError(
        f"the roles could not be {how} {machine.host}:\n{told}",
        hint=hints[0] if hints else f"roles are in {PLAYS / 'roles'}",
    )


def _play(machine: Machine, playbook: str, what: Wanted, arguments: str) -> Played:
    user, _, name = machine.host.rpartition("@")
    variables: dict[str, Any] = {
        "ansible_connection": "ssh",
        "ansible_host": name,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_remote_tmp": REMOTE_TMP,
        "ansible_ssh_common_args": shlex.join(ssh.options(alone=False)),
        "ansible_become": machine.sudo,
    }
    if user:
        variables["ansible_user"] = user
    given = {
        "host_ours": list(what.ours),
        "host_names": list(what.names),
        "host_kernel": machine.seen["kernel"],
        "host_modules": list(survey.MODULES),
        "host_digest": what.digest,
        "host_by": f"{socket.gethostname()}:{ROOT}",
        "host_journal_folder": str(survey.JOURNAL.parent),
        "host_journal_path": str(survey.JOURNAL),
        "exalab_agent": str(ROOT / "lab" / "guest"),
    }
    inventory = {"all": {"hosts": {"host": variables}}}
    with tempfile.TemporaryDirectory(prefix="exalab-") as scratch:
        environment = {
            "ANSIBLE_SSH_ARGS": f"-o ControlMaster=auto -o ControlPersist={PERSIST}",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{scratch}/c",
            "ANSIBLE_HOST_KEY_CHECKING": "True",
        }
        try:
            return play(
                playbook,
                inventory,
                given,
                Path(scratch),
                name,
                environment=environment,
                arguments=arguments,
            )
        finally:
            _part(machine.host, Path(scratch) / "c")
            _tidy(machine)


def _part(host: str, sockets: Path) -> None:
    """End the connection that Ansible's tasks have shared; one that is left ends by itself after PERSIST."""
    for one in sockets.glob("*"):
        argv = ["ssh", *ssh.options(alone=False), "-o", f"ControlPath={one}", "-O", "exit", "--", host]
        subprocess.run(argv, capture_output=True, check=False, timeout=LOOK)


def _tidy(machine: Machine) -> None:
    """Ansible's own files there; when the machine went away meanwhile, the error is about that already."""
    try:
        with link.agent_on(machine.host, machine.sudo) as agent:
            agent.exec(["rm", "-rf", "--", REMOTE_TMP], timeout=LOOK)
    except LabError:
        return

"""The lab for programs: ``Lab.attach()`` to one that is up, ``lab.api.up()`` to have one.

lab = Lab.attach("lab")
lab.agent.exec(["uname", "-r"])          # in the guest
lab.control.counters("card0:0")          # at the card
lab.restart()                            # a fresh guest, the same cards and wires
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lab import deadline
from lab import state as states
from lab.deadline import Deadline
from lab.errors import LabError
from lab.paths import Paths
from lab.state import State

if TYPE_CHECKING:
    from lab.cardd.control import Control
    from lab.config import Config
    from lab.guest.client import Agent
    from lab.machine.command import Profile


def ask_supervisor(paths: Paths, command: str, seconds: float = 90.0, **arguments: Any) -> dict[str, Any]:
    """One command to the lab's supervisor, and its answer. Raises ``LabError`` when it refuses or is gone."""
    limit = Deadline(f"the supervisor's answer to {command}", seconds)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(paths.supervisor))
            sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            reply = b""
            while not reply.endswith(b"\n"):
                limit.wait_readable([sock.fileno()])
                part = sock.recv(65536)
                if not part:
                    raise LabError(
                        f"the supervisor of lab {paths.name} ended", hint=f"see {paths.supervisor_log}"
                    )
                reply += part
        except OSError as problem:
            raise LabError(
                f"lab {paths.name} cannot be asked: {problem.strerror}",
                hint="make lab-status shows whether it is up",
            ) from problem
    answer: dict[str, Any] = json.loads(reply)
    if "error" in answer:
        raise LabError(str(answer["error"]), hint=answer.get("hint"))
    return answer


@dataclass(frozen=True)
class Accelerator:
    """``kvm`` or ``tcg``, and why."""

    name: str
    reason: str


class Lab:
    """A lab that is up. One object per user of it: the guest's agent serves one client at a time."""

    def __init__(self, paths: Paths, state: State) -> None:
        self.name = paths.name
        self.paths = paths
        self._state = state
        self._agent: Agent | None = None
        self._control: Control | None = None
        deadline.set_accelerator(self.accelerator.name, float(self.facts.get("slower", 1.0)))

    @classmethod
    def attach(cls, name: str = "lab") -> Lab:
        """The lab that is up under this name. Raises ``LabError`` when it is not, or a part of it died."""
        paths = Paths(name)
        hint = "make lab-up" + ("" if name == "lab" else f" LAB={name}")
        if not states.is_alive(paths):
            raise LabError(f"lab {name} is not up", hint=hint)
        state = states.read(paths)
        if state.phase != "up":
            raise LabError(f"lab {name} is {state.phase}, not up", hint="wait until it is up: " + hint)
        if problem := state.broken():
            raise LabError(f"lab {name} is broken: {problem}", hint=f"make lab-down, then {hint}")
        return cls(paths, state)

    @property
    def state(self) -> State:
        """As the supervisor wrote it last."""
        self._state = states.read(self.paths)
        return self._state

    @property
    def accelerator(self) -> Accelerator:
        facts = self._state.facts
        return Accelerator(facts["accelerator"], facts["reason"])

    @property
    def facts(self) -> dict[str, Any]:
        """What `up` knows: images' digests, accelerator, cards, ports, wiring, guest, times."""
        return self._state.facts

    @property
    def agent(self) -> Agent:
        """The guest's agent, connected on first use."""
        if self._agent is None or not self._agent.alive:
            from lab.guest.client import Agent

            self._agent = Agent(self.paths.agent, timeout=deadline.scaled(15))
        return self._agent

    @property
    def control(self) -> Control:
        """cardd's control API, connected on first use."""
        if self._control is None:
            from lab.cardd.control import Control

            self._control = Control(self.paths.control)
        return self._control

    @property
    def ssh(self) -> list[str]:
        """The ssh command into the guest as root; append a command to run."""
        return ssh_argv(self.paths, self._state)

    def supervisor(self, command: str, seconds: float = 90.0, **arguments: Any) -> dict[str, Any]:
        """A command to the lab's supervisor (``lab.supervisor``)."""
        return ask_supervisor(self.paths, command, seconds, **arguments)

    def qmp(self, execute: str, arguments: dict[str, Any] | None = None) -> Any:
        """A command to QEMU, for example ``device_del`` to pull a card."""
        return self.supervisor("qmp", execute=execute, arguments=arguments)["return"]

    def restart(self, profile: Profile | None = None) -> None:
        """A fresh guest from the same image, with the same cards and wires; returns when it is ready.

        ``profile``: ``fast`` or ``systemd``, from now on; default: as it was.
        """
        from lab import up as starting

        self.close()
        starting.restart(self.paths, profile)
        self._state = states.read(self.paths)

    def close(self) -> None:
        """Leave the lab running and give back the agent."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        close = getattr(self._control, "close", None)
        if close is not None:
            close()
        self._control = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ssh_argv(paths: Paths, state: State) -> list[str]:
    """How to get into the guest. Its host key is new at every boot and never leaves this machine. Another
    machine is reached as the user's own configuration says.
    """
    if host := state.facts.get("host"):
        from lab.remote import ssh

        return ssh.argv(host, terminal=None)
    options = (
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        f"ConnectTimeout={int(deadline.scaled(10))}",
    )
    argv = ["ssh", "-F", "none", "-i", str(paths.ssh_key), "-p", str(state.ssh_port)]
    for option in options:
        argv += ["-o", option]
    return [*argv, "root@127.0.0.1"]


def up(
    name: str = "lab",
    profile: Profile = "fast",
    config: Config | None = None,
    *,
    renew: bool = False,
    kernel: str | None = None,
) -> Lab:
    """Have the lab up, and attach to it; quick when it is up already. See :func:`lab.up.up`."""
    from lab import up as starting

    starting.up(Paths(name), profile=profile, config=config, renew=renew, kernel=kernel)
    return Lab.attach(name)


def down(name: str = "lab") -> bool:
    """Take the lab down. Whether there was one. Nothing of it runs when this returns."""
    paths = Paths(name)
    with states.alone(paths, f"waiting for whoever starts or stops lab {name} now"):
        return end(paths)


def end(paths: Paths) -> bool:
    """:func:`down` for a caller that holds the lab's lock."""
    import shutil
    import signal

    was_up = states.is_alive(paths)
    if was_up:
        try:
            ask_supervisor(paths, "stop", 5.0)
        except LabError:
            _signal_supervisor(paths, signal.SIGTERM)
        gone = Deadline(f"the supervisor of lab {paths.name} to end", 30.0)
        try:
            gone.wait_until(lambda: not states.is_alive(paths))
        except LabError:
            # Its children die with it.
            _signal_supervisor(paths, signal.SIGKILL)
            Deadline("its end", 10.0).wait_until(lambda: not states.is_alive(paths))
    if paths.run.exists():
        shutil.rmtree(paths.run, ignore_errors=True)
    _recover(paths)
    return was_up


def _recover(paths: Paths) -> None:
    """What this lab took of the machine and a crash kept it from giving back. Raises ``LabError``."""
    from lab.real import borrowed, journal

    owner = journal.Owner(paths.name, str(paths.root))
    if journal.left(journal.folder(), owner) and (back := borrowed.recover(owner)):
        from lab import console

        console.say(f"lab {paths.name} gave back {', '.join(back)}")


def _signal_supervisor(paths: Paths, number: int) -> None:
    pid = states.read(paths).pid
    if pid is None:
        return
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if b"lab.supervisor" in command:
        os.kill(pid, number)


def await_ssh(paths: Paths, state: State) -> None:
    """The guest's sshd listens: it starts beside the agent, and may be later. Another machine's is not asked.
    Raises ``DeadlineExpired``.
    """
    port = state.ssh_port
    if port is None:
        return

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=deadline.scaled(1)) as sock:
                return sock.recv(4) == b"SSH-"
        except OSError:
            return False

    Deadline(f"sshd of lab {paths.name} to answer", deadline.scaled(3)).wait_until(answers, every=0.1)

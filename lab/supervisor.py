"""One process per lab that owns cardd and QEMU: it starts them, watches both, and leaves nothing behind.

Started by :mod:`lab.up` with one end of a socket pair, the *lifeline*. Until the word ``release`` comes over
it, the lab ends when the other end closes: a `lab up` that is interrupted, or killed, takes everything with
it. Progress and errors go the other way, one JSON object a line.

When a part dies, the other one goes on (a capture may still be wanted) and the state says how it ended.
Commands come over a unix socket, one JSON object a line each way: ``status``, ``merge``, ``qmp``,
``restart``, ``stop``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import lease as leases
from lab import state as states
from lab.deadline import Deadline
from lab.errors import LabError
from lab.lease import Lease
from lab.machine.qmp import Qmp
from lab.paths import Paths
from lab.process import Process, spawn, tail
from lab.real.borrowed import Borrowed
from lab.real.journal import Owner
from lab.state import Part, State

#: Stands in the machine's argv for the descriptor of its control connection.
QMP_FD = "{qmp}"
#: Real seconds for a part to get ready, the guest not included.
READY_SECONDS = 60.0
#: Real seconds for QEMU to end by itself, and cardd after SIGTERM (it writes its captures out).
QUIT_SECONDS = 3.0
#: For the agent of another machine to end what runs there and to give its cards back (``lab.remote.relay``).
HOST_SECONDS = 25.0


@dataclass(frozen=True)
class Plan:
    """What to start. ``cardd`` may be empty: no card. ``cardd_ready``: the socket it offers when ready.

    ``real_cards`` (PCI addresses) and ``interfaces`` are taken from this machine before, and given back
    after. ``host``: the machine is another one, and ``machine`` the connection to its agent.
    """

    cardd: tuple[str, ...]
    cardd_ready: str
    machine: tuple[str, ...]
    facts: dict[str, Any]
    real_cards: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    lease_folder: str | None = None
    leases: tuple[str, ...] = ()
    host: bool = False

    @staticmethod
    def read(path: Path) -> Plan:
        """Raises ``LabError`` when the file is missing or not a plan."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return Plan(
                tuple(data["cardd"]),
                data["cardd_ready"],
                tuple(data["machine"]),
                dict(data["facts"]),
                tuple(data["real_cards"]),
                tuple(data["interfaces"]),
                data["lease_folder"],
                tuple(data["leases"]),
                bool(data["host"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise LabError(f"{path} is not a plan for a lab: {problem}", hint="make lab-up") from problem

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


class Supervisor:
    """The lab's processes, their state, and the commands about them."""

    def __init__(self, paths: Paths, lifeline: socket.socket | None) -> None:
        self.paths = paths
        self.state = State(paths.name, "starting", os.getpid())
        self._lifeline = lifeline
        self._released = lifeline is None
        self._processes: dict[str, Process] = {}
        self._qmp: Qmp | None = None
        self._trouble: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._busy = asyncio.Lock()
        self._ended: dict[str, asyncio.Event] = {}
        self._restarting: asyncio.Task[None] | None = None
        self._borrowed = Borrowed(Owner(paths.name, str(paths.root)))
        self._taking: asyncio.Future[None] | None = None
        self._leases: list[Lease] = []

    # state

    def _write(self) -> None:
        states.write(self.paths, self.state)

    def _tell(self, **message: Any) -> None:
        """Progress for whoever started us; nobody listens once we are released."""
        if self._lifeline is not None:
            with contextlib.suppress(OSError):
                self._lifeline.send(json.dumps(message).encode() + b"\n")

    # life

    async def run(self) -> int:
        """Start everything, serve until told to stop, clean up. The exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        if self._lifeline is not None:
            self._lifeline.setblocking(False)
            loop.add_reader(self._lifeline.fileno(), self._on_lifeline)
        self._write()
        self.paths.run.mkdir(parents=True, exist_ok=True)
        server = await asyncio.start_unix_server(self._serve, self.paths.supervisor)
        stopping = asyncio.ensure_future(self._stop.wait())
        starting = asyncio.ensure_future(self._start())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        failed = False
        if starting.done() and (problem := starting.exception()) is not None:
            failed = True
            hint = problem.hint if isinstance(problem, LabError) else f"see {self.paths.supervisor_log}"
            message = problem.message if isinstance(problem, LabError) else repr(problem)
            self.state.error = message
            if not isinstance(problem, LabError):
                print(f"internal error: {problem!r}", file=sys.stderr, flush=True)
            self._tell(error=message, hint=hint)
        else:
            await stopping
        unfinished = [task for task in (starting, stopping, self._restarting) if task is not None]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        self.state.phase = "stopping"
        self._write()
        async with self._busy:
            await self._end_machine()
            await self._end("cardd")
            failed = await self._give_back() or failed
        server.close()
        shutil.rmtree(self.paths.run, ignore_errors=True)
        self.state.phase = "failed" if failed else "down"
        self.state.pid = None
        self._write()
        return 1 if failed else 0

    def _on_lifeline(self) -> None:
        assert self._lifeline is not None
        try:
            words = self._lifeline.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        if b"release" in words:
            self._released = True
        if words and not self._released:
            return
        asyncio.get_running_loop().remove_reader(self._lifeline.fileno())
        self._lifeline.close()
        self._lifeline = None
        if not self._released:
            print("the command that started this lab ended: stopping", flush=True)
            self._stop.set()

    async def _start(self) -> None:
        plan = Plan.read(self.paths.plan)
        self.state.facts = plan.facts
        async with self._busy:
            await self._take(plan)
            await self._start_cardd(plan)
            await self._start_machine(plan)

    # what is borrowed

    async def _take(self, plan: Plan) -> None:
        if not plan.real_cards and not plan.interfaces and not plan.leases:
            return
        self._tell(phase="borrowing")
        if plan.real_cards:
            # VFIO pins all of the guest's memory, and QEMU has no privilege of its own.
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        loop = asyncio.get_running_loop()

        def take() -> None:
            for name in plan.leases:
                self._lease(Path(str(plan.lease_folder)), name, loop)
            self._borrowed.take(plan.real_cards, plan.interfaces)

        self._taking = asyncio.ensure_future(asyncio.to_thread(take))
        await asyncio.shield(self._taking)

    def _lease(self, folder: Path, name: str, loop: asyncio.AbstractEventLoop) -> None:
        if leases.is_ours(folder, name):
            return  # a night that started us has it

        def lost() -> None:
            loop.call_soon_threadsafe(self._on_lost, name)

        purpose = f"lab {self.paths.name} of {self.paths.root}"
        self._leases.append(leases.acquire(folder, name, purpose, on_lost=lost))

    def _on_lost(self, name: str) -> None:
        """Somebody else has the card by right: ours ends, at once."""
        self.state.error = f"the reservation of {name} was lost: the lab ended"
        print(self.state.error, file=sys.stderr, flush=True)
        self._stop.set()

    async def _give_back(self) -> bool:
        """Once nothing uses it any more. Whether that failed: the state then says how, and what to do."""
        if self._taking is not None:
            await asyncio.gather(self._taking, return_exceptions=True)
        try:
            await asyncio.to_thread(self._borrowed.give_back)
        except LabError as problem:
            print(problem, file=sys.stderr, flush=True)
            self.state.error = str(problem)
            self._tell(error=problem.message, hint=problem.hint)
            return True
        finally:
            for lease in self._leases:
                await asyncio.to_thread(lease.give_up)
        return False

    # parts

    def _spawn(self, name: str, argv: tuple[str, ...], log: Path, fd: int | None = None) -> Process:
        process = spawn(argv, name=name, log=log, pass_fds=[] if fd is None else [fd])
        self._processes[name] = process
        self._ended[name] = asyncio.Event()
        self.state.parts[name] = Part(name, str(log), process.pid)
        asyncio.get_running_loop().add_reader(process.fileno(), self._on_death, name)
        self._write()
        return process

    def _on_death(self, name: str) -> None:
        process = self._processes[name]
        asyncio.get_running_loop().remove_reader(process.fileno())
        death = process.death()
        message = death.message if death else f"{name} ended"
        if name == "qemu":
            last = tail(self.paths.serial_log, 12)
            message += f"\nthe guest's last words:\n{last}" if last else ""
        self.state.parts[name].ended = message
        self._ended[name].set()
        self._write()
        if self.state.phase != "stopping":
            print(message, flush=True)
            self._tell(died=name, error=message)

    async def _start_cardd(self, plan: Plan) -> None:
        if not plan.cardd or ("cardd" in self._processes and not self._ended["cardd"].is_set()):
            return
        await self._end("cardd")
        self._tell(phase="cardd")
        process = self._spawn("cardd", plan.cardd, self.paths.cardd_log)
        deadline = Deadline("cardd to serve its cards", READY_SECONDS)
        while not _connects(Path(plan.cardd_ready)):
            if death := process.death():
                raise death
            deadline.check()
            await _settled(self._ended["cardd"], 0.02)

    async def _start_host(self, plan: Plan) -> None:
        """The connection to another machine, whose agent answers."""
        self.paths.agent.unlink(missing_ok=True)
        if self.paths.host_log.exists():
            self.paths.host_log.replace(self.paths.host_log.with_suffix(".1.log"))
        process = self._spawn("host", plan.machine, self.paths.host_log)
        deadline = Deadline("the agent of the machine under test", READY_SECONDS)
        while not _connects(self.paths.agent):
            if death := process.death():
                raise death
            deadline.check()
            await _settled(self._ended["host"], 0.05)
        self.state.boots += 1
        self.state.phase = "booting"
        self._write()
        self._tell(phase="booting")

    async def _start_machine(self, plan: Plan) -> None:
        self._tell(phase="machine")
        if plan.host:
            await self._start_host(plan)
            return
        for log in (self.paths.serial_log, self.paths.qemu_log):
            if log.exists():
                log.replace(log.with_suffix(".1.log"))
        for stale in (self.paths.agent, self.paths.serial):
            stale.unlink(missing_ok=True)  # a machine that was killed cannot remove its own
        ours, theirs = Qmp.pair()
        with theirs:
            argv = tuple(word.replace(QMP_FD, str(theirs.fileno())) for word in plan.machine)
            process = self._spawn("qemu", argv, self.paths.qemu_log, theirs.fileno())
        self._qmp = Qmp(self.paths.name)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._qmp.connect(ours)
                self.state.ssh_port = await self._qmp.ssh_port()
        except TimeoutError as problem:
            raise LabError(f"QEMU does not answer within {READY_SECONDS:g} s") from problem
        except LabError as problem:
            # The connection closes a moment before the process is gone, and the process tells why.
            await _settled(self._ended["qemu"], 2.0)
            raise process.death() or problem from problem
        self.state.boots += 1
        self.state.phase = "booting"
        self._trouble = asyncio.ensure_future(self._watch_machine(self._qmp))
        self._write()
        self._tell(phase="booting", ssh_port=self.state.ssh_port)

    async def _watch_machine(self, qmp: Qmp) -> None:
        """A machine that lives but will never run again (KVM gave up) counts as dead."""
        with contextlib.suppress(LabError, EOFError):
            status = await qmp.broken()
            message = f"QEMU stopped the machine: {status}\n{tail(self.paths.qemu_log, 5)}"
            self.state.parts["qemu"].ended = message
            self._write()
            self._tell(died="qemu", error=message)

    async def _end_machine(self) -> None:
        if self._trouble is not None:
            self._trouble.cancel()
            await asyncio.gather(self._trouble, return_exceptions=True)
            self._trouble = None
        if self._qmp is not None:
            if "qemu" in self._processes and not self._ended["qemu"].is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(QUIT_SECONDS):
                        await self._qmp.quit()
                        await self._ended["qemu"].wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIT_SECONDS):
                    await self._qmp.close()
            self._qmp = None
        await self._end("qemu")
        await self._end("host", HOST_SECONDS)

    async def _end(self, name: str, seconds: float = QUIT_SECONDS) -> None:
        """The process is gone, with all of its group, when this returns."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        asyncio.get_running_loop().remove_reader(process.fileno())
        await asyncio.to_thread(process.stop, seconds)
        part = self.state.parts[name]
        part.pid = None
        part.ended = part.ended or "stopped"
        self._ended[name].set()

    async def _restart(self) -> None:
        async with self._busy:
            plan = Plan.read(self.paths.plan)
            self.state.facts = plan.facts
            await self._end_machine()
            await self._start_cardd(plan)
            await self._start_machine(plan)

    # commands

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    answer = await self._command(json.loads(line))
                except LabError as problem:
                    answer = {"error": problem.message, "hint": problem.hint}
                except (ValueError, KeyError, TypeError, AttributeError) as problem:
                    answer = {"error": f"not a command of the supervisor: {problem!r}"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, asyncio.CancelledError):
            pass  # the client left, or we end: nobody is there to tell
        finally:
            writer.close()

    async def _command(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["command"]:
            case "status":
                return {"state": asdict(self.state)}
            case "merge":
                self.state.facts.update(request["facts"])
                self.state.phase = request.get("phase", self.state.phase)
                self._write()
                return {"state": asdict(self.state)}
            case "qmp":
                if self._qmp is None:
                    raise LabError("there is no machine now")
                return {"return": await self._qmp.execute(request["execute"], request.get("arguments"))}
            case "restart":
                self._restarting = asyncio.ensure_future(self._restart())
                await self._restarting
                return {"state": asdict(self.state)}
            case "stop":
                self._stop.set()
                return {}
            case other:
                raise LabError(f"the supervisor has no command {other!r}")


def _connects(path: Path) -> bool:
    """Whether somebody listens at a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _closed(sock: socket.socket) -> bool:
    """Whether the other end is gone already."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def _settled(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but not longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def main() -> int:
    """``python -m lab.supervisor --name NAME [--lifeline FD]``; the plan is in the lab's folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--lifeline", type=int)
    given = parser.parse_args()
    paths = Paths(given.name)
    lifeline = None if given.lifeline is None else socket.socket(fileno=given.lifeline)
    alive = states.hold_alive(paths)
    if alive is None:
        print("another supervisor of this lab lives", file=sys.stderr)
        return 2
    if lifeline is not None and _closed(lifeline):
        return 0  # nobody waits for us any more: touch nothing, the next `lab up` may be at work already

    async def supervise() -> int:
        return await Supervisor(paths, lifeline).run()

    return asyncio.run(supervise())


if __name__ == "__main__":
    sys.exit(main())

"""Bringing a lab up: images, accelerator, cards, machine, guest, in this order, each with its time.

A lab that is up already is left alone, quickly. Interrupted at any moment, nothing stays: see
``lab.supervisor``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lab import config as configs
from lab import console, deadline, placement, process
from lab import paths as places
from lab import state as states
from lab.api import ask_supervisor, end
from lab.config import Config
from lab.deadline import Deadline
from lab.errors import LabError
from lab.launch import Launch, Times
from lab.lease import name_of
from lab.machine import accelerator, command, counting, tsc
from lab.machine.sandbox import Bind, tools_argv
from lab.nightly.settings import Settings
from lab.paths import Paths
from lab.real import facts as real_facts
from lab.state import State
from lab.supervisor import QMP_FD, Plan

if TYPE_CHECKING:
    from images.definition import Kernel

#: Seconds with KVM from QEMU's start to the agent's hello; one second is usual.
BOOT_SECONDS = {"fast": 12.0, "systemd": 30.0}
#: The variable that names a kernel that reports, for `up` wherever it is called.
KERNEL = "KERNEL"
#: Seconds with KVM for the driver to find its cards.
DRIVER_SECONDS = 6.0


@dataclass(frozen=True)
class Images:
    """The built images, by place and digest. ``kernel``: one that reports, in place of Debian's."""

    tools: Path
    dut: Path
    digests: dict[str, str]
    locked: bool
    kernel: Kernel | None = None

    @property
    def start(self) -> Path:
        """What QEMU starts: Debian's kernel without its decompressor, which costs two seconds."""
        return self.dut / ("vmlinux" if self.kernel is None else "vmlinuz")

    @property
    def identity(self) -> str:
        return " ".join(f"{name}={digest}" for name, digest in sorted(self.digests.items()))


def have_images(keep: bool, kernel: str | None = None) -> Images:
    """The images of this checkout, built when missing or stale; with ``keep``, whatever was built last.

    ``kernel``: the name of one that reports (images.toml), in place of Debian's.
    """
    from images import build, definition, manifest, variant

    folder = places.images()
    reporting = definition.kernel(kernel) if kernel else None
    names = {"tools": "tools", "dut": reporting.image if reporting else "dut"}
    found: dict[str, Any] = {}
    if keep:
        for part, name in names.items():
            found[part] = manifest.read(folder / name)
            if found[part] is None:
                raise LabError(f"there is no image {name} to keep", hint="make images")
    else:
        found = dict(build.ensure(("tools", "dut")))
        if kernel:
            found["dut"] = variant.ensure(kernel)
    digests = {name: str(one.digest) for name, one in found.items()}
    locked = all(one.locked for one in found.values())
    return Images(folder / "tools/root", folder / names["dut"], digests, locked, reporting)


def suited(config: Config, kernel: Kernel) -> Config:
    """With what this kernel needs: its memory, and its placement unless lab.toml names one."""
    placed = kernel.placement if config.placement == "auto" else config.placement
    return replace(config, memory=max(config.memory, kernel.memory), placement=placed)


def make_plan(
    paths: Paths,
    config: Config,
    images: Images,
    found: accelerator.Found,
    profile: command.Profile,
    models: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Everything the supervisor needs to start the lab, and write down, from what was chosen.

    ``models`` of real cards, by PCI address.
    """
    together = placement.together(config.placement, found.name) and not config.processors
    machine = command.Machine(
        kernel=images.start,
        arguments=images.kernel.arguments if images.kernel else (),
        initrd=images.dut / "initrd.img",
        root=images.dut / "root.erofs",
        accelerator=found.name,
        cpus=config.cpus,
        memory=config.memory,
        profile=profile,
        tsc_khz=tsc.khz() if found.name == "tcg" else None,
        together=together,
        hugepages=config.hugepages,
        counting=(counting.plugin(), paths.instructions) if config.count_instructions else None,
        cards=tuple(slot(paths, card) for card in config.cards),
        agent=paths.agent,
        serial=paths.serial,
        serial_log=paths.serial_log,
        name=f"exalab-{paths.name}",
    )
    binds = [Bind(paths.run, writable=True), Bind(paths.out, writable=True), Bind(images.dut)]
    binds += [Bind(machine.counting[0])] if machine.counting else []
    cardd = (sys.executable, "-m", "lab.cardd", "--spec", str(paths.spec)) if config.cards else ()
    facts = {
        "fingerprint": fingerprint(config, images, profile),
        "accelerator": found.name,
        "reason": found.reason,
        "profile": profile,
        "images": images.digests,
        "locked": images.locked,
        "reporting": images.kernel.name if images.kernel else None,
        "slower": images.kernel.slower if images.kernel else 1.0,
        "config": config.source,
        "cpus": config.cpus,
        "memory": config.memory,
        "together": together,
        "processors": list(config.processors),
        "card_kind": configs.kind(config.cards[0]),
        "cards": [card_facts(card, models) for card in config.cards],
        "wiring": [segment.model_dump() for segment in config.wiring.segments],
    }
    qemu = command.qemu_argv(machine, QMP_FD)
    return Plan(
        cardd=cardd,
        cardd_ready=str(paths.control),
        machine=tuple(tools_argv(images.tools, qemu, binds, vfio=bool(config.real))),
        facts=facts,
        real_cards=tuple(card.pci for card in config.real),
        interfaces=tuple(interface for card in config.real for interface in card.testers if interface),
        lease_folder=str(config.leases) if config.leases is not None else None,
        leases=leases_of(config),
    )


def leases_of(config: Config) -> tuple[str, ...]:
    """The names of the leases that the lab's real cards need."""
    return tuple(name_of(card.pci, config.machine) for card in config.real if config.leases is not None)


def slot(paths: Paths, card: configs.Card | configs.RealCard) -> command.CardSlot | command.RealSlot:
    """The card in the machine."""
    if isinstance(card, configs.RealCard):
        return command.RealSlot(card.name, card.pci)
    return command.CardSlot(card.name, paths.card(card.name))


def card_facts(card: configs.Card | configs.RealCard, models: Mapping[str, str]) -> dict[str, Any]:
    """What the lab tells of a card before the guest has seen it; ``models`` of real ones, by PCI address."""
    told = asdict(card) | {"kind": configs.kind(card), "ports": card.ports}
    if isinstance(card, configs.RealCard):
        told["model"] = models.get(card.pci, "?")
        told["testers"] = list(card.testers)
    return told


def real_models(config: Config) -> dict[str, str]:
    """The models of the real cards by PCI address, each looked at before anything is built or started.

    Raises ``LabError`` for a card or an interface that cannot be taken. One that a lab left taken is as it
    was again after this; one that a lab holds is refused.
    """
    from lab.real import borrowed, tester, verdict
    from lab.real.host import Host

    if not config.real:
        return {}
    host = Host()
    borrowed.recover(None, host)
    found = {}
    for card in config.real:
        borrowed.refuse_held(card.pci)
        found[card.pci] = verdict.check(host, card.pci).model
        for interface in filter(None, card.testers):
            tester.check(host, interface)
    return found


def fingerprint(config: Config, images: Images, profile: str) -> str:
    """Changes when a lab that is up is no longer the one asked for."""
    lab = replace(config, source="", nightly=Settings())
    text = f"{lab!r} {images.identity} {profile}"
    return hashlib.sha256(text.encode()).hexdigest()


def cardd_spec(paths: Paths, config: Config) -> dict[str, Any]:
    """What cardd serves (``lab.cardd.spec``)."""
    return {
        "cards": [
            {
                "name": card.name,
                "model": card.model,
                "serial": card.serial,
                "mac": card.mac,
                "socket": str(paths.card(card.name)),
            }
            for card in config.emulated
        ],
        "nics": [
            {"end": f"{card.name}:{port}", "interface": card.testers[port]}
            for card in config.real
            for port in card.wired
        ],
        "wiring": [segment.model_dump() for segment in config.wiring.segments],
        "capture_dir": str(paths.capture),
        "trace_dir": str(paths.trace),
        "control": str(paths.control),
        "tester_dir": str(paths.testers),
        "seed": config.seed,
    }


def up(
    paths: Paths,
    *,
    profile: command.Profile = "fast",
    config: Config | None = None,
    keep_images: bool = False,
    renew: bool = False,
    kernel: str | None = None,
) -> State:
    """Have the lab up; returns its state. Raises ``LabError``; however it ends early, nothing is left
    running.

    ``renew``: a lab that is up with another image, wiring or profile is replaced, not just reported.
    ``kernel``: one that reports; default: what the variable KERNEL names, else Debian's own.
    """
    if profile not in BOOT_SECONDS:
        raise LabError(f"there is no boot profile {profile!r}", hint="fast or systemd")
    if os.geteuid() != 0:
        raise LabError("the lab needs root (guest memory, namespaces, KVM)", hint="use sudo, or make lab-up")
    with states.alone(paths, f"waiting for whoever starts or stops lab {paths.name} now"):
        config = config or configs.load()
        kernel = os.environ.get(KERNEL) or None if kernel is None else kernel
        if config.host is not None:
            from lab.remote import up as elsewhere

            return elsewhere.up(paths, config, renew=renew)
        times = Times()
        if config.real and not states.is_alive(paths):
            real_models(config)  # better now than after minutes of building
        images = have_images(keep_images, kernel)
        if images.kernel is not None:
            config = suited(config, images.kernel)
        times.lap("images")
        state = already(paths, fingerprint(config, images, profile), renew, kernel)
        if state is not None:
            return state
        models = real_models(config)
        at = accelerator.Images(images.tools, images.start, images.identity)
        found = accelerator.find(at, config.cpus, config.accelerator)
        deadline.set_accelerator(found.name, images.kernel.slower if images.kernel else 1.0)
        times.lap("accelerator")
        if config.count_instructions and found.name != "tcg":
            raise LabError(
                f"instructions cannot be counted with {found.name}",
                hint='accelerator = "tcg" in [machine] of lab/lab.toml, or count_instructions = false',
            )
        placement.check(config.processors)
        if config.hugepages:
            placement.check_hugepages(config.memory)
        plan = make_plan(paths, config, images, found, profile, models)
        return start(paths, config, plan, times, welcome)


def start(
    paths: Paths,
    config: Config,
    plan: Plan,
    times: Times,
    welcome: Callable[[Paths, Times, Callable[[], None]], None],
) -> State:
    """Start what the plan says; ``welcome`` has it ready. Raises ``LabError``; then nothing is left."""
    try:
        prepare(paths, config)
        plan.write(paths.plan)
        times.lap("preparing")
        with Launch(paths) as launch:
            launch.follow(times)
            welcome(paths, times, launch.watch)
            launch.release()
    except BaseException:
        # A supervisor that lives still has its lifeline, which ends with us: it cleans up by itself.
        if not states.is_alive(paths):
            shutil.rmtree(paths.run, ignore_errors=True)
        raise
    return states.read(paths)


def already(paths: Paths, wanted: str, renew: bool, kernel: str | None = None) -> State | None:
    """The state of a lab that is up and stays; a broken or unwanted one is ended.

    Raises ``LabError`` where a ``kernel`` is asked for and it has another: what runs on it would prove less.
    """
    if not states.is_alive(paths):
        end(paths)
        return None
    state = states.read(paths)
    problem = state.broken()
    if state.phase == "up" and problem is None:
        if state.facts.get("fingerprint") == wanted:
            return state
        if kernel and not renew and state.facts.get("reporting") != kernel:
            raise LabError(
                f"lab {paths.name} is up with another kernel than {kernel}",
                hint="run make lab-down first, or start another lab beside it (LAB=name)",
            )
        if not renew:
            console.warn(
                f"lab {paths.name} is up with another image, wiring or profile than requested",
                hint="make lab-down lab-up replaces it",
            )
            return state
        console.say(f"lab {paths.name} is up with another image, configuration or profile: restarting it")
    else:
        console.warn(f"lab {paths.name} is {problem or state.phase}: replacing it")
    end(paths)
    return None


def prepare(paths: Paths, config: Config) -> None:
    """Folders, the ssh key and cardd's spec. What the last lab left in logs and captures is moved aside."""
    paths.out.mkdir(parents=True, exist_ok=True)
    for log in (paths.cardd_log, paths.supervisor_log):
        if log.exists():
            log.replace(log.with_suffix(".1.log"))
    if paths.capture.exists():
        before = paths.capture.with_name("capture.1")
        shutil.rmtree(before, ignore_errors=True)
        paths.capture.rename(before)
    paths.run.mkdir(parents=True, exist_ok=True)
    paths.run.chmod(0o700)
    for folder in (paths.capture, paths.trace, paths.testers):
        folder.mkdir(parents=True, exist_ok=True)
    process.run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            f"exalab {paths.name}",
            "-f",
            str(paths.ssh_key),
        ],
        deadline=30.0,
    )
    paths.spec.write_text(json.dumps(cardd_spec(paths, config), indent=2) + "\n", encoding="utf-8")


def welcome(paths: Paths, times: Times, watch: Callable[[], None]) -> None:
    """Wait for the guest, let ourselves in, wait for the driver, and have it all written down."""
    from lab import guest_facts
    from lab.guest.client import Agent, AgentGone

    state = states.read(paths)
    facts = state.facts
    limit = Deadline("the guest's agent to say hello", deadline.scaled(BOOT_SECONDS[facts["profile"]]))
    with console.step(f"booting the guest ({facts['profile']} profile, {facts['accelerator']})"):
        try:
            agent = Agent(paths.agent, timeout=limit.remaining())
        except AgentGone:
            # QEMU ended; the supervisor knows how.
            reason = Deadline("the reason", 10.0).wait_until(lambda: states.read(paths).broken())
            raise LabError(reason, hint=f"all the guest said: {paths.serial_log}") from None
    times.lap("guest")
    expected = sum(card["ports"] for card in facts["cards"])
    with agent:
        with console.step("waiting for the driver" if expected else "looking around in the guest"):
            seconds = deadline.scaled(DRIVER_SECONDS)
            agent.load(guest_facts)
            public = paths.ssh_key.with_suffix(".pub").read_text(encoding="utf-8")
            seen = agent.call(
                guest_facts.arrive,
                timeout=2 * seconds,
                public_key=public,
                expected=expected,
                seconds=seconds,
            )
        hello = agent.hello
    watch()
    times.lap("driver")
    total = round(time.monotonic() - times.started, 2)
    found = {
        "kernel": hello.kernel,
        "boot_id": hello.boot_id,
        "guest": seen,
        "cards": real_facts.learn(facts["cards"], seen),
        "times": {**times.seconds, "total": total},
    }
    if facts.get("processors"):
        told = ask_supervisor(paths, "qmp", execute="query-cpus-fast")["return"]
        placement.pin([int(one["thread-id"]) for one in told], facts["processors"])
    if facts["together"]:
        found["processor"] = placement.gather(paths.name, states.read(paths).pids())
    ask_supervisor(paths, "merge", facts=found, phase="up")
    if len(seen["ports"]) < expected:
        firmware = "; the firmware of a real card may be too old" if facts.get("card_kind") == "real" else ""
        console.warn(
            f"the driver made {len(seen['ports'])} of {expected} ports",
            hint=f"look at the end of {paths.serial_log}, or run dmesg in `make lab-shell`{firmware}",
        )


def restart(paths: Paths, profile: command.Profile | None = None) -> None:
    """A fresh guest in a lab that is up; of another machine, its agent and its modules."""
    plan = Plan.read(paths.plan)
    if plan.host and profile is not None:
        raise LabError("the machine under test of this lab is not a guest", hint="leave the boot profile out")
    if profile is not None and profile != plan.facts["profile"]:
        if profile not in BOOT_SECONDS:
            raise LabError(f"there is no boot profile {profile!r}", hint="fast or systemd")
        old, new = (f"exalab.profile={name}" for name in (plan.facts["profile"], profile))
        machine = tuple(word.replace(old, new) for word in plan.machine)
        plan = replace(plan, machine=machine, facts={**plan.facts, "profile": profile})
        plan.write(paths.plan)
    times = Times()
    with console.step("restarting the machine"):
        ask_supervisor(paths, "restart")
    times.lap("machine")

    def watch() -> None:
        if problem := states.read(paths).broken():
            raise LabError(problem)

    if plan.host:
        from lab.remote import up as elsewhere

        elsewhere.welcome(paths, times, watch)
    else:
        welcome(paths, times, watch)

"""Bringing up a lab whose machine under test is another one: roles, wire, connection, cards."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lab import config as configs
from lab import console, deadline
from lab import state as states
from lab import up as local
from lab.api import ask_supervisor
from lab.config import Config
from lab.deadline import Deadline
from lab.errors import LabError
from lab.launch import Times
from lab.nightly.settings import Settings
from lab.paths import Paths
from lab.real import borrowed, tester
from lab.real import facts as real_facts
from lab.real.host import Host
from lab.remote import roles, verdict
from lab.remote.roles import Machine, Wanted
from lab.state import State
from lab.supervisor import Plan

#: Seconds on a machine that is not emulated: to say hello, and to load the modules.
HELLO, TAKE = 20.0, 30.0
#: What systemd-detect-virt(1) says of a machine that QEMU emulates, without KVM.
_EMULATED = "qemu"


def fingerprint(config: Config, digest: str) -> str:
    """Changes when a lab that is up is no longer the one asked for."""
    lab = replace(config, source="", nightly=Settings())
    return hashlib.sha256(f"{lab!r} {digest}".encode()).hexdigest()


def make_plan(paths: Paths, config: Config, machine: Machine, what: Wanted) -> Plan:
    """Everything the supervisor needs to start the lab, and write down."""
    models = {card["pci"]: str(card["model"]) for card in machine.seen["cards"]}
    emulated = machine.seen["virtual"] == _EMULATED
    facts = {
        "fingerprint": fingerprint(config, what.digest),
        "host": config.host,
        "system": machine.seen["name"],
        "given": machine.given,
        "accelerator": "tcg" if emulated else "none",
        "reason": f"{config.host} is {'emulated by QEMU' if emulated else 'no guest of ours'}",
        "profile": "host",
        "images": {"roles": f"sha256:{what.digest}"},
        "locked": True,
        "config": config.source,
        "together": False,
        "processors": [],
        "card_kind": configs.kind(config.cards[0]),
        "cards": [local.card_facts(card, models) for card in config.cards],
        "wiring": [segment.model_dump() for segment in config.wiring.segments],
    }
    sudo = ("--sudo",) if machine.sudo else ()
    return Plan(
        cardd=(sys.executable, "-m", "lab.cardd", "--spec", str(paths.spec)),
        cardd_ready=str(paths.control),
        machine=(sys.executable, "-m", "lab.remote.relay", *sudo, machine.host, str(paths.agent)),
        facts=facts,
        interfaces=tuple(interface for card in config.real for interface in card.testers if interface),
        lease_folder=str(config.leases) if config.leases is not None else None,
        leases=local.leases_of(config),
        host=True,
    )


def up(paths: Paths, config: Config, *, renew: bool = False) -> State:
    """Have the lab up; the caller holds the lab's lock. Raises ``LabError``; then nothing is left, and
    the machine's cards are as they were.
    """
    assert config.host is not None
    times = Times()
    machine = roles.find(config.host, [card.pci for card in config.real])
    what = roles.wanted(machine)
    times.lap("looking around")
    state = local.already(paths, fingerprint(config, what.digest), renew)
    if state is not None:
        return state
    _testers(config)
    if machine.applied != what.digest:
        roles.apply(machine, what)
    else:
        verdict.check(machine.host, machine.seen)
    times.lap("roles")
    deadline.set_accelerator("tcg" if machine.seen["virtual"] == _EMULATED else "none")
    return local.start(paths, config, make_plan(paths, config, machine, what), times, welcome)


def _testers(config: Config) -> None:
    """This machine's interfaces can be taken."""
    here = Host()
    borrowed.recover(None, here)
    for card in config.real:
        for interface in filter(None, card.testers):
            tester.check(here, interface)


def welcome(paths: Paths, times: Times, watch: Callable[[], None]) -> None:
    """Take the cards, wait for their ports, and have it all written down."""
    from lab import guest_facts
    from lab.guest.client import Agent
    from lab.real import card, device, journal, used
    from lab.real import host as machines
    from lab.real import verdict as cards_verdict
    from lab.remote import held

    state = states.read(paths)
    facts = state.facts
    host, addresses = facts["host"], [one["pci"] for one in facts["cards"]]
    expected = sum(one["ports"] for one in facts["cards"])
    limit = Deadline(f"the agent of {host} to say hello", deadline.scaled(HELLO))
    with console.step(f"taking the card of {host}"), Agent(paths.agent, timeout=limit.remaining()) as agent:
        from lab import errors

        modules = (errors, machines, device, cards_verdict, journal, card, tester, used, borrowed, held)
        agent.load(*modules, guest_facts)
        seconds = deadline.scaled(TAKE)
        refused = agent.call(
            held.take, cards=addresses, lab=paths.name, root=str(paths.root), timeout=2 * seconds
        )
        if refused is not None:
            raise LabError(f"{host}: {refused['message']}", hint=refused["hint"])
        seen: dict[str, Any] = agent.call(
            guest_facts.ready, expected=expected, seconds=seconds, addresses=addresses, timeout=2 * seconds
        )
        hello = agent.hello
    watch()
    times.lap("card")
    found = {
        "kernel": hello.kernel,
        "boot_id": hello.boot_id,
        "guest": seen,
        "cards": real_facts.learn(facts["cards"], seen),
        "times": {**times.seconds, "total": round(time.monotonic() - times.started, 2)},
    }
    ask_supervisor(paths, "merge", facts=found, phase="up")
    if len(seen["ports"]) < expected:
        console.warn(
            f"the driver made {len(seen['ports'])} of {expected} ports",
            hint="run dmesg in `make lab-shell`; the firmware of the card may be too old",
        )

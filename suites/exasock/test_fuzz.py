"""Hostile use of /dev/exasock: an errno and nothing else, and nothing of it reaches anybody else (N6).

    card0:0 -+- a   vlan 5  10.1.0.1      where the fuzzer has its sockets, and the initial namespace
             +- v   vlan 6  10.1.0.1      where a program goes on with its work meanwhile
    card0:1 -+- b   vlan 5  10.1.0.2
             +- w   vlan 6  10.1.0.2

``make fuzz`` is the same for minutes (``--fuzz-seconds``, ``--first-seed``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.deadline import scaled
from suites.exasock import guest_boundary, guest_calls, guest_fuzz
from suites.exasock.compare import SPINNING, Compared
from suites.exasock.ends import acquaint
from suites.exasock.steps import Steps, data, do, opened
from suites.guest import exasock, streams
from suites.place import Placed
from suites.session import KERNEL, Session
from suites.topology import Device, Namespace, Topology


def topology() -> Topology:
    made = []
    for name, port, vid, host in (("a", 0, 5, 1), ("b", 1, 5, 2), ("v", 0, 6, 1), ("w", 1, 6, 2)):
        device = Device("vlan", "lan0", f"card0:{port}", vid=vid, addresses=(f"10.1.0.{host}/24",))
        made.append(Namespace(name, (device,)))
    return Topology("the fuzzer and its neighbours", tuple(made))


def test_fuzzed_interface(
    request: pytest.FixtureRequest,
    place: Callable[[Topology], Placed],
    compared: Compared,
    session: Session,
    record_property: Callable[[str, Any], None],
) -> None:
    """N6: calls with wrong numbers, sizes, handles, descriptors, vectors and offsets, control pages scribbled
    over under traffic and while datagrams are held, taken and claimed, contexts, sockets and mappings that
    end while others use them: errnos, and another program in another namespace loses nothing and hears
    nothing of it. The run fails unless it reached all of that."""
    seconds = request.config.getoption("--fuzz-seconds", default=3.0)
    seed = request.config.getoption("--first-seed", default=1)
    standing = place(topology())
    acquaint(compared, standing, standing["v"], standing["w"])
    acquaint(compared, standing, standing["a"], standing["b"])
    hostile = compared.programs(KERNEL).worker("hostile")
    hostile.load(exasock, streams, guest_boundary, guest_fuzz)
    victim = compared.programs(SPINNING).worker("program")
    victim.load(guest_calls)
    compared.soiled = True
    victim.call(
        guest_calls.run,
        program="p",
        steps=[*opened("v", standing["v"], 7001), *opened("w", standing["w"], 7002)],
        keep=True,
    )
    pending = hostile.submit(
        "call",
        module=guest_fuzz.__name__,
        function="fuzz",
        kwargs={"seed": seed, "seconds": seconds, "netns": ["a", "b", None]},
    )
    exchanged = 0
    while not pending.done() or exchanged == 0:
        steps: Steps = []
        for number in range(10):
            steps += [
                do("sendto", "v", data=data(number), to=["10.1.0.2", 7002]),
                do("recvfrom", "w"),
                do("sendto", "w", data=data(500 + number), to=["10.1.0.1", 7001]),
                do("recvfrom", "v"),
            ]
        told = victim.call(guest_calls.run, program="p", steps=steps, keep=True, timeout=scaled(6))
        got = [one["ok"][0]["seed"] for one in told if isinstance(one.get("ok"), list)]
        assert got == [value for number in range(10) for value in (number, 500 + number)], told
        exchanged += 1
    told = pending.result(scaled(6))
    victim.call(guest_calls.close, program="p")
    compared.soiled = False
    record_property(
        "fuzzed",
        f"seed {seed}: {told['operations']} operations beside {exchanged * 20} datagrams, {told['reached']}",
    )
    assert told["strange"] == {}
    for name in ("attach ok", "honest ok", "map ok", "scribble ok", "hold ok"):
        assert told["results"].get(name, 0) > 0, told["results"]
    for what in ("held", "claimed", "taken", "by timeout while it writes", "by idle while it writes"):
        assert told["reached"].get(what, 0) > 0, f"nothing was {what}: {told['reached']}"
    left = session.agent.call(exasock.accelerated)
    assert [one for one in left if one["pid"] == hostile.hello.pid] == []

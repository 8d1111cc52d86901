"""Steps of ``guest_calls`` programs, as functions: what the tests are written with."""

from __future__ import annotations

from typing import Any

from suites.topology import Namespace

Step = dict[str, Any]
Steps = list[Step]
#: Seconds: longer than anything takes that is to come.
LONG = 30.0


def do(op: str, s: Any, **given: Any) -> Step:
    return {"op": op, "s": s, **given}


def opened(
    s: str, namespace: Namespace, port: int | None = None, address: str | None = None, **given: Any
) -> Steps:
    """A socket of a namespace, bound to its first address (or ``address``) and ``port``, that has been asked
    for a datagram once: from now on its process counts as looking."""
    steps = [do("open", s, netns=namespace.netns, seconds=LONG, **given)]
    if port is not None:
        steps += [do("bind", s, to=[address or namespace.ip, port]), *ready(s)]
    return steps


def ready(s: str) -> Steps:
    """Look once, and let everything come to rest about it; look again: from now on it is accelerated."""
    return [look(s), do("settle", s), look(s)]


def look(s: str) -> Step:
    return do("recv", s, flags=["dontwait"])


def data(seed: int, size: int = 64, flow: int | None = None) -> dict[str, int]:
    return {"seed": seed, "size": size} | ({} if flow is None else {"flow": flow})


def echo(server: str, client: str, to: list[Any], back: list[Any], count: int, size: int = 64) -> Steps:
    """``count`` datagrams there and back, unconnected."""
    steps: Steps = []
    for number in range(count):
        steps += [
            do("sendto", client, data=data(number, size), to=to),
            do("recvfrom", server),
            do("sendto", server, data=data(number + 1000, size), to=back),
            do("recvfrom", client),
        ]
    return steps

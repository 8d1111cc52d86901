"""The event loop: order, timers, and descriptors that come and go within a round."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from lab.cardd.loop import READ, WRITE, Loop
from lab.vfio_user.pump import PumpSet


@pytest.fixture(params=["epoll", "pump"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """Waiting in Python, and in the C pump's wait (which serves no socket here)."""
    made = Loop(PumpSet().wait if request.param == "pump" else None)
    yield made
    made.close()


def test_timers_fire_in_order_and_not_when_cancelled(loop: Loop) -> None:
    seen: list[str] = []
    loop.after(0.02, lambda: seen.append("second"))
    loop.after(0.01, lambda: seen.append("first"))
    loop.after(0.015, lambda: seen.append("never")).cancel()
    loop.after(0.03, loop.stop)
    loop.run()
    assert seen == ["first", "second"]


def test_a_timer_may_set_another(loop: Loop) -> None:
    seen: list[int] = []

    def again() -> None:
        seen.append(len(seen))
        if len(seen) < 3:
            loop.after(0, again)
        else:
            loop.stop()

    loop.after(0, again)
    loop.run()
    assert seen == [0, 1, 2]


def test_a_turn_ends_at_its_limit(loop: Loop) -> None:
    """With a timer far away and nothing to read."""
    loop.after(1000, lambda: None)
    before = time.monotonic()
    loop.turn(0.01)
    assert time.monotonic() - before < 500


def test_readable_writable_and_the_end(loop: Loop) -> None:
    """A peer that is gone is reported as readable: the read says how it ended."""
    near, far = socket.socketpair()
    seen: list[int] = []
    with far:
        loop.watch(far.fileno(), seen.append, READ | WRITE)
        loop.turn(0)
        assert seen == [WRITE]
        loop.change(far.fileno(), READ)
        loop.turn(0)
        assert seen == [WRITE]
        near.send(b"x")
        loop.turn(0)
        assert seen == [WRITE, READ]
        near.close()
        loop.turn(0)
        assert seen[-1] & READ
        loop.forget(far.fileno())
        loop.turn(0)
        assert len(seen) == 3


def test_a_descriptor_closed_by_another_callback_is_not_served(loop: Loop) -> None:
    """Nor is the one that got its number in the same round."""
    pairs = [socket.socketpair() for _ in range(2)]
    served: list[str] = []

    def closing(other: socket.socket, name: str) -> None:
        served.append(name)
        number = other.fileno()
        loop.forget(number)
        other.close()
        fresh = os.dup(pairs[0][0].fileno())
        assert fresh == number
        loop.watch(fresh, lambda _: served.append("fresh"))

    loop.watch(pairs[0][1].fileno(), lambda _: closing(pairs[1][1], "first"))
    loop.watch(pairs[1][1].fileno(), lambda _: closing(pairs[0][1], "second"))
    for near, _ in pairs:
        near.send(b"x")
    loop.turn(0)
    assert served in (["first"], ["second"])
    for near, far in pairs:
        near.close()
        far.close()


def test_forgetting_what_is_unknown_is_fine(loop: Loop) -> None:
    loop.forget(-1)
    loop.forget(12345)

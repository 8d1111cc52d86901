"""The random programs are what they say: by seed, full of what matters, never waiting for nothing."""

from __future__ import annotations

from collections import Counter

from suites.exasock import generate, guest_calls


def test_a_seed_is_a_program() -> None:
    assert generate.program(7) == generate.program(7) != generate.program(8)


def test_every_step_is_one_the_guest_knows() -> None:
    steps = [step for seed in range(50) for step in generate.program(seed)]
    used = Counter(step["op"] for step in steps)
    assert all(hasattr(guest_calls.Program, f"do_{op}") for op in used)
    for op in (
        "sendto",
        "sendmsg",
        "sendmmsg",
        "write",
        "writev",
        "recvfrom",
        "recvmsg",
        "recvmmsg",
        "readv",
    ):
        assert used[op] > 5, op


def test_programs_end_with_what_was_sent_received() -> None:
    """As far as sockets that are still open are concerned."""
    for seed in range(50):
        made = generate.Generator(seed)
        made.generate()
        assert not [sock for sock in made.sockets if sock.waiting and not sock.shut]

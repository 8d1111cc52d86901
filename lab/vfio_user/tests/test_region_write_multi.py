"""REGION_WRITE_MULTI: a batch is done in order, or not at all when it is malformed."""

from __future__ import annotations

import errno

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import FLAG_NO_REPLY, Command
from lab.vfio_user.tests.double import BAR0_SIZE, SCRATCH, SOURCE, TARGET, connected


def batch(*writes: tuple[int, int, bytes], count: int | None = None) -> bytes:
    head = protocol.MULTI_COUNT.pack(len(writes) if count is None else count)
    return head + b"".join(protocol.MULTI_WRITE.pack(o, r, len(d), d.ljust(8, b"\0")) for o, r, d in writes)


def test_a_batch() -> None:
    """All writes, in order; the reply says how many."""
    with connected() as (client, _):
        payload = batch(
            (SCRATCH, 0, b"1111"), (SOURCE, 0, b"2222"), (SCRATCH, 0, b"3333"), (8, 2, b"12345678")
        )
        answer = client.ok(Command.REGION_WRITE_MULTI, payload)
        assert answer.payload == protocol.MULTI_COUNT.pack(4)
        assert client.read(0, SCRATCH, 4) == b"3333"
        assert client.read(0, SOURCE, 4) == b"2222"
        assert client.read(2, 8, 8) == b"12345678"


def test_posted() -> None:
    with connected() as (client, _):
        client.send(Command.REGION_WRITE_MULTI, batch((SCRATCH, 0, b"post")), flags=FLAG_NO_REPLY)
        assert client.read(0, SCRATCH, 4) == b"post"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(7),
        batch((TARGET, 0, b"good"), count=0),
        batch((TARGET, 0, b"good"), count=2),
        batch((TARGET, 0, b"good"), count=2**63),
        batch((TARGET, 0, b"good")) + b"x",
        batch((TARGET, 0, b"good"), (BAR0_SIZE, 0, b"1234")),
        batch((TARGET, 0, b"good"), (0, 9, b"1234")),
        batch((TARGET, 0, b"good"), (0, 0, b"")),
        batch((TARGET, 0, b"good"))[:8] + protocol.MULTI_WRITE.pack(TARGET, 0, 9, b"good"),
    ],
)
def test_errors(payload: bytes) -> None:
    """EINVAL: count and size differ, a write out of range or over 8 bytes; nothing was written."""
    with connected() as (client, _):
        assert client.errno(Command.REGION_WRITE_MULTI, payload) == errno.EINVAL
        assert client.read(0, TARGET, 4) == bytes(4)

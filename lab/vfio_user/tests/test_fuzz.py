"""Whatever a client sends, the server answers with the protocol's error or closes, and leaks nothing.

Two fuzzers, bounded in time: a stateful one (hypothesis) that speaks the protocol with every field off now
and then, and checks the server's state against a model; and raw bytes, mutated from recorded conversations.
EXALAB_FUZZ_SECONDS (default 10, for all of them together) makes them longer.
"""

from __future__ import annotations

import array
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from lab.vfio_user import protocol
from lab.vfio_user.protocol import HEADER, Command
from lab.vfio_user.session import Session
from lab.vfio_user.tests.double import (
    BAR0_SIZE,
    BAR2_SIZE,
    CORE_ARM,
    CORE_DOORBELL,
    PUMP,
    Client,
    Double,
    memfd,
    open_fds,
    served,
)

SECONDS = float(os.environ.get("EXALAB_FUZZ_SECONDS", "10"))
PAGE = 4096
GUEST = 16 * PAGE

PLACES = [0, 4, 8, 0x10, CORE_DOORBELL, CORE_ARM, BAR0_SIZE - 4, BAR0_SIZE, BAR2_SIZE - 1, BAR2_SIZE]

U32 = st.one_of(
    st.sampled_from([0, 1, 2, 4, 7, 16, 20, 24, 32, 64, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1)
)
U64 = st.one_of(
    st.sampled_from([0, 1, PAGE, 2**32, 2**63, 2**64 - PAGE, 2**64 - 1]), st.integers(0, 2**64 - 1)
)
OFFSETS = st.one_of(st.sampled_from(PLACES), U64)
REGIONS = st.one_of(st.integers(0, 10), U32)
COUNTS = st.one_of(st.integers(0, 16), st.sampled_from([PAGE, protocol.MAX_DATA_XFER + 1]), U32)


class Conversation(RuleBasedStateMachine):
    """A client that is mostly right; the model is the set of DMA ranges and whether VERSION was agreed."""

    ranges = Bundle("ranges")

    def __init__(self) -> None:
        super().__init__()
        self.before = set(open_fds())
        self.guest = memfd("fuzz-guest", GUEST)
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        self.device = Double()
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.stack = contextlib.ExitStack()
        self.client = Client(near, self.stack.enter_context(served(self.device, far, pump=PUMP.get())))
        self.expected: dict[int, int] = {}
        self.client.version()

    def teardown(self) -> None:
        self.client.sock.close()
        self.client.pump()
        assert self.client.session.closed
        assert not self.device.ranges
        assert self.device.msi is None
        self.stack.close()
        os.close(self.guest)
        os.close(self.eventfd)
        assert set(open_fds()) <= self.before

    def ask(self, command: int, payload: bytes, fds: list[int] | None = None, flags: int = 0) -> int | None:
        """The errno of the answer, 0 for success, None when none is due."""
        self.client.send(command, payload, fds or [], flags)
        self.client.pump()
        if flags & protocol.FLAG_NO_REPLY:
            return None
        answer = self.client.receive()
        assert answer is not None, "every command is answered"
        for fd in answer.fds:
            os.close(fd)
        assert bool(answer.error) == answer.failed
        return answer.error

    @rule(
        target=ranges,
        address=st.one_of(st.integers(0, 20).map(lambda page: page * PAGE), U64),
        size=st.one_of(st.integers(0, 6).map(lambda page: page * PAGE), U64),
        offset=st.one_of(st.integers(0, 17).map(lambda page: page * PAGE), U64),
        flags=st.one_of(st.just(3), U32),
        count=st.sampled_from([0, 1, 1, 1, 2, 8]),
    )
    def dma_map(self, address: int, size: int, offset: int, flags: int, count: int) -> object:
        payload = protocol.DMA_MAP.pack(32, flags, offset, address, size)
        if self.ask(Command.DMA_MAP, payload, [self.guest] * count) == 0:
            overlap = any(a < address + size and address < a + s for a, s in self.expected.items())
            assert not overlap and size and address + size <= 2**64 and count <= 1
            self.expected[address] = size
            return (address, size)
        return multiple()

    @rule(entry=ranges)
    def dma_unmap(self, entry: tuple[int, int]) -> None:
        address, size = entry
        known = self.expected.get(address) == size
        assert (self.ask(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 0, address, size)) == 0) == known
        if known:
            del self.expected[address]

    @rule(flags=U32, address=U64, size=U64, argsz=U32)
    def dma_unmap_anything(self, flags: int, address: int, size: int, argsz: int) -> None:
        if self.ask(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(argsz, flags, address, size)) == 0:
            if flags & protocol.DMA_UNMAP_ALL:
                self.expected.clear()
            else:
                assert self.expected.pop(address) == size

    @rule(
        flags=st.one_of(st.sampled_from([0x24, 0x21, 0x22, 9, 17, 10, 18]), U32),
        index=st.one_of(st.just(1), U32),
        start=st.one_of(st.just(0), U32),
        count=st.one_of(st.integers(0, 2), U32),
        data=st.binary(max_size=3),
        fds=st.integers(0, 3),
    )
    def set_irqs(self, flags: int, index: int, start: int, count: int, data: bytes, fds: int) -> None:
        payload = protocol.IRQ_SET.pack(20 + len(data), flags, index, start, count) + data
        self.ask(Command.DEVICE_SET_IRQS, payload, [self.eventfd] * fds)

    @rule(offset=OFFSETS, region=REGIONS, count=COUNTS)
    def region_read(self, offset: int, region: int, count: int) -> None:
        self.ask(Command.REGION_READ, protocol.REGION_RW.pack(offset, region, count))

    @rule(
        offset=OFFSETS,
        region=REGIONS,
        data=st.one_of(st.binary(min_size=4, max_size=4), st.binary(max_size=40)),
        wrong=st.one_of(st.none(), U32),
        posted=st.booleans(),
    )
    def region_write(self, offset: int, region: int, data: bytes, wrong: int | None, posted: bool) -> None:
        payload = protocol.REGION_RW.pack(offset, region, len(data) if wrong is None else wrong) + data
        self.ask(Command.REGION_WRITE, payload, flags=protocol.FLAG_NO_REPLY if posted else 0)

    @rule(
        writes=st.lists(
            st.tuples(OFFSETS, REGIONS, st.integers(0, 9), st.binary(min_size=8, max_size=8)), max_size=4
        ),
        wrong=st.one_of(st.none(), U64),
    )
    def write_multi(self, writes: list[tuple[int, int, int, bytes]], wrong: int | None) -> None:
        payload = protocol.MULTI_COUNT.pack(len(writes) if wrong is None else wrong)
        payload += b"".join(protocol.MULTI_WRITE.pack(*write) for write in writes)
        self.ask(Command.REGION_WRITE_MULTI, payload)

    @rule(
        command=st.one_of(st.integers(0, 20), st.integers(0, 0xFFFF)),
        payload=st.binary(max_size=64),
        fds=st.integers(0, 8),
    )
    def anything(self, command: int, payload: bytes, fds: int) -> None:
        if command in (Command.DMA_MAP, Command.DMA_UNMAP):
            payload = payload[:20]  # these change the model; they have rules of their own
        self.ask(command, payload, [self.eventfd] * fds)

    @rule(argsz=U32, index=U32, command=st.sampled_from([4, 5, 6, 7]))
    def info(self, argsz: int, index: int, command: int) -> None:
        size = 32 if command == Command.DEVICE_GET_REGION_INFO else 16
        self.ask(
            command, (argsz.to_bytes(4, "little") + bytes(4) + index.to_bytes(4, "little")).ljust(size, b"\0")
        )

    @invariant()
    def the_device_knows_the_ranges(self) -> None:
        assert {address: entry[0] for address, entry in self.device.ranges.items()} == self.expected
        assert len(self.client.session.dma) == len(self.expected)
        assert not self.client.session.closed


def test_conversations() -> None:
    """Malformed and out-of-order commands are answered; the device's ranges never differ from the model."""
    end = time.monotonic() + SECONDS / 4
    examples = 0
    while examples == 0 or time.monotonic() < end:
        run_state_machine_as_test(
            Conversation,
            settings=settings(
                max_examples=20,
                stateful_step_count=40,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink) if SECONDS > 30 else (Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
        examples += 20


def recorded() -> list[bytes]:
    """Well-formed messages to start from."""

    def message(command: int, payload: bytes = b"", flags: int = 0) -> bytes:
        return HEADER.pack(7, command, HEADER.size + len(payload), flags, 0) + payload

    return [
        message(Command.VERSION, protocol.VERSION.pack(0, 0) + b'{"capabilities":{"max_msg_fds":8}}\0'),
        message(Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 0)),
        message(Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(64, 0, 2, 0, 0, 0)),
        message(Command.DEVICE_GET_REGION_IO_FDS, protocol.REGION_IO_FDS.pack(64, 0, 2, 0)),
        message(Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 0, 1, 0)),
        message(Command.DEVICE_SET_IRQS, protocol.IRQ_SET.pack(20, 0x24, 1, 0, 1)),
        message(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 0, GUEST)),
        message(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 0, 0, GUEST)),
        message(Command.REGION_READ, protocol.REGION_RW.pack(0, 0, 4)),
        message(Command.REGION_WRITE, protocol.REGION_RW.pack(0x10, 0, 4) + bytes(4)),
        message(Command.REGION_WRITE, protocol.REGION_RW.pack(0x10, 0, 4) + bytes(4), protocol.FLAG_NO_REPLY),
        message(
            Command.REGION_WRITE_MULTI,
            protocol.MULTI_COUNT.pack(1) + protocol.MULTI_WRITE.pack(0x10, 0, 4, bytes(8)),
        ),
        message(Command.REGION_WRITE, protocol.REGION_RW.pack(CORE_DOORBELL, 0, 4) + bytes(4)),
        message(Command.REGION_WRITE, protocol.REGION_RW.pack(CORE_ARM, 0, 4) + b"\0\0\0\x80"),
        message(Command.REGION_WRITE, protocol.REGION_RW.pack(0, 2, 8) + b"\1\0\0\x80\x10\0\1\0"),
        message(Command.DEVICE_RESET),
    ]


def mutate(dice: random.Random, data: bytes) -> bytes:
    """Flip bits, cut, repeat, or splice."""
    changed = bytearray(data)
    for _ in range(dice.choice((0, 1, 1, 2, 8))):
        kind = dice.randrange(5)
        at = dice.randrange(len(changed) + 1)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del changed[at : at + dice.randrange(1, 9)]
        elif kind == 3:
            changed[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif kind == 4 and len(changed) >= 8:
            changed[4:8] = dice.choice((0, 15, 16, 17, 32, 2**20 + 33, 2**32 - 1)).to_bytes(4, "little")
    return bytes(changed)


def pour(dice: random.Random, send: Callable[[bytes, list[int]], None], fds: list[int]) -> None:
    """One hostile conversation: mostly a proper VERSION, then mutated messages in odd pieces."""
    messages = recorded()
    stream = [messages[0]] if dice.random() < 0.9 else []
    stream += [mutate(dice, dice.choice(messages)) for _ in range(dice.randrange(1, 30))]
    data = b"".join(stream) if dice.random() < 0.9 else dice.randbytes(dice.randrange(1, 2000))
    while data:
        size = dice.choice((1, 15, 16, 17, 64, 4096))
        count = dice.choice((0, 0, 0, 1, 1, 2, 9))
        send(data[:size], [dice.choice(fds) for _ in range(count)])
        data = data[size:]


@pytest.mark.timeout(SECONDS * 10 + 60)
def test_raw_bytes() -> None:
    """No exception, no hang, no descriptor left, and a fresh client is served afterwards.

    The seed of the failing conversation is in the message.
    """
    end = time.monotonic() + SECONDS / 4
    guest, eventfd = memfd("fuzz-guest", GUEST), os.eventfd(0, os.EFD_NONBLOCK)
    read, write = os.pipe()
    start = int(os.environ.get("EXALAB_FUZZ_SEED", time.time_ns()))
    for number in range(10_000_000):
        if number and time.monotonic() > end:
            break
        device = Double()
        near, far = socket.socketpair()
        before = set(open_fds())
        stack = contextlib.ExitStack()
        session = stack.enter_context(served(device, far, pump=PUMP.get()))
        near.setblocking(False)

        def send(data: bytes, fds: list[int], near: socket.socket = near, session: Session = session) -> None:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                near.sendmsg([data], rights)
            if not session.closed:
                session.writable() if session.wants_write else session.readable()
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                near.recv(1 << 20)  # the ancillary data goes unread, and with it its descriptors

        try:
            pour(random.Random(start + number), send, [guest, eventfd, read, write])
        except Exception as problem:
            raise AssertionError(f"EXALAB_FUZZ_SEED={start + number} fails: {problem!r}") from problem
        near.close()
        if not session.closed:
            session.writable() if session.wants_write else session.readable()
            session.readable()
        assert session.closed, f"seed {start + number}: the end of the stream was not noticed"
        assert not device.ranges and device.msi is None
        leaked = set(open_fds()) - before
        assert not leaked, f"seed {start + number}: descriptors leaked"
        stack.close()
    for fd in (guest, eventfd, read, write):
        os.close(fd)

"""DEVICE_SET_IRQS: eventfd, trigger, mask with a pending interrupt, disable; and everything wrong."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import (
    IRQ_ACTION_MASK,
    IRQ_ACTION_TRIGGER,
    IRQ_ACTION_UNMASK,
    IRQ_DATA_BOOL,
    IRQ_DATA_EVENTFD,
    IRQ_DATA_NONE,
    Command,
)
from lab.vfio_user.tests.double import DOORBELL, Client, Double, connected, open_fds

MSI = 1


def request(flags: int, start: int = 0, count: int = 1, index: int = MSI, data: bytes = b"") -> bytes:
    return protocol.IRQ_SET.pack(20 + len(data), flags, index, start, count) + data


@contextlib.contextmanager
def with_msi() -> Iterator[tuple[Client, Double, int]]:
    """A client that has given the device an eventfd."""
    eventfd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        with connected() as (client, device):
            client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_EVENTFD | IRQ_ACTION_TRIGGER), [eventfd])
            yield client, device, eventfd
    finally:
        os.close(eventfd)


def fired(eventfd: int) -> int:
    try:
        return os.eventfd_read(eventfd)
    except BlockingIOError:
        return 0


def ring(client: Client) -> None:
    client.write(0, DOORBELL, bytes(4))


def test_the_device_raises_the_clients_eventfd() -> None:
    with with_msi() as (client, _, eventfd):
        ring(client)
        ring(client)
        assert fired(eventfd) == 2


def test_a_new_eventfd_replaces_the_old_one() -> None:
    """The server closes its copy of the old one."""
    with with_msi() as (client, _, eventfd):
        other = os.eventfd(0, os.EFD_NONBLOCK)
        count = len(open_fds())
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_EVENTFD | IRQ_ACTION_TRIGGER), [other])
        assert len(open_fds()) == count
        ring(client)
        assert (fired(eventfd), fired(other)) == (0, 1)
        os.close(other)


@pytest.mark.parametrize(
    "how",
    [
        request(IRQ_DATA_NONE | IRQ_ACTION_TRIGGER, count=0),
        request(IRQ_DATA_EVENTFD | IRQ_ACTION_TRIGGER),
    ],
    ids=["count 0", "no descriptor"],
)
def test_disable(how: bytes) -> None:
    """Both ways leave the device without an interrupt and the eventfd closed."""
    with with_msi() as (client, device, eventfd):
        client.ok(Command.DEVICE_SET_IRQS, how)
        assert device.msi is None
        ring(client)
        assert fired(eventfd) == 0


@pytest.mark.parametrize("data", [b"", b"\1"])
def test_the_client_can_trigger(data: bytes) -> None:
    """TRIGGER with no data, or with a true boolean, raises the interrupt."""
    with with_msi() as (client, _, eventfd):
        kind = IRQ_DATA_BOOL if data else IRQ_DATA_NONE
        client.ok(Command.DEVICE_SET_IRQS, request(kind | IRQ_ACTION_TRIGGER, data=data))
        assert fired(eventfd) == 1


def test_a_false_boolean_does_nothing() -> None:
    with with_msi() as (client, _, eventfd):
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_BOOL | IRQ_ACTION_TRIGGER, data=b"\0"))
        assert fired(eventfd) == 0


def test_a_masked_interrupt_is_kept_and_delivered_once() -> None:
    """Nothing while masked; one interrupt on unmask however many came; none when none came."""
    with with_msi() as (client, _, eventfd):
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_NONE | IRQ_ACTION_MASK))
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_NONE | IRQ_ACTION_MASK))
        ring(client)
        ring(client)
        assert fired(eventfd) == 0
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_NONE | IRQ_ACTION_UNMASK))
        assert fired(eventfd) == 1
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_NONE | IRQ_ACTION_MASK))
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_NONE | IRQ_ACTION_UNMASK))
        assert fired(eventfd) == 0
        ring(client)
        assert fired(eventfd) == 1


def test_disable_while_masked_forgets_the_pending_interrupt() -> None:
    with with_msi() as (client, device, eventfd):
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_NONE | IRQ_ACTION_MASK))
        ring(client)
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_NONE | IRQ_ACTION_TRIGGER, count=0))
        assert device.msi is None
        assert fired(eventfd) == 0


def test_a_full_eventfd_does_not_block_the_server() -> None:
    """The client filled the counter, and made it blocking: the interrupt is pending anyway."""
    with with_msi() as (client, _, eventfd):
        os.eventfd_write(eventfd, 2**64 - 2)
        client.ok(Command.DEVICE_SET_IRQS, request(IRQ_DATA_NONE | IRQ_ACTION_TRIGGER))


E_NONE_TRIGGER = IRQ_DATA_NONE | IRQ_ACTION_TRIGGER


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b"", errno.EINVAL),
        (bytes(19), errno.EINVAL),
        (protocol.IRQ_SET.pack(19, E_NONE_TRIGGER, MSI, 0, 1), errno.EINVAL),
        (request(0), errno.EINVAL),
        (request(IRQ_DATA_NONE), errno.EINVAL),
        (request(IRQ_ACTION_TRIGGER), errno.EINVAL),
        (request(IRQ_DATA_NONE | IRQ_DATA_BOOL | IRQ_ACTION_TRIGGER), errno.EINVAL),
        (request(IRQ_DATA_NONE | IRQ_ACTION_MASK | IRQ_ACTION_UNMASK), errno.EINVAL),
        (request(E_NONE_TRIGGER | 0x40), errno.EINVAL),
        (request(E_NONE_TRIGGER, index=5), errno.EINVAL),
        (request(E_NONE_TRIGGER, index=0), errno.EINVAL),
        (request(E_NONE_TRIGGER, start=1), errno.EINVAL),
        (request(E_NONE_TRIGGER, count=2), errno.EINVAL),
        (request(E_NONE_TRIGGER, start=0xFFFFFFFF, count=0xFFFFFFFF), errno.EINVAL),
        (request(E_NONE_TRIGGER, start=1, count=0), errno.EINVAL),
        (request(IRQ_DATA_NONE | IRQ_ACTION_MASK, count=0), errno.EINVAL),
        (request(IRQ_DATA_BOOL | IRQ_ACTION_TRIGGER), errno.EINVAL),
        (request(E_NONE_TRIGGER, data=b"\1"), errno.EINVAL),
        (request(IRQ_DATA_EVENTFD | IRQ_ACTION_MASK), errno.EOPNOTSUPP),
        (request(IRQ_DATA_EVENTFD | IRQ_ACTION_UNMASK), errno.EOPNOTSUPP),
    ],
)
def test_errors(payload: bytes, number: int) -> None:
    """Each wrong request gets its errno and changes nothing."""
    with with_msi() as (client, device, eventfd):
        before = list(device.calls)
        assert client.errno(Command.DEVICE_SET_IRQS, payload) == number
        assert device.calls == before
        ring(client)
        assert fired(eventfd) == 1


def test_descriptors_of_refused_requests_are_closed() -> None:
    """Too many, where none belong, and not an eventfd: EINVAL and no descriptor left."""
    with connected() as (client, device):
        eventfd = os.eventfd(0)
        read, write = os.pipe()
        before = len(open_fds())
        assign = IRQ_DATA_EVENTFD | IRQ_ACTION_TRIGGER
        for payload, fds in (
            (request(assign), [eventfd, eventfd]),
            (request(E_NONE_TRIGGER), [eventfd]),
            (request(assign), [write]),
            (request(assign, index=2), [eventfd]),
        ):
            assert client.errno(Command.DEVICE_SET_IRQS, payload, fds) == errno.EINVAL
        assert len(open_fds()) == before
        assert device.msi is None
        for fd in (eventfd, read, write):
            os.close(fd)

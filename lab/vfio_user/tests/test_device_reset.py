"""DEVICE_RESET."""

from __future__ import annotations

import errno
import os

from lab.vfio_user import protocol
from lab.vfio_user.pci import COMMAND
from lab.vfio_user.protocol import IRQ_ACTION_TRIGGER, IRQ_DATA_EVENTFD, Command
from lab.vfio_user.tests.double import SCRATCH, connected


def test_registers_and_configuration_go_back() -> None:
    """The device and configuration space are as after power-on; DMA and the interrupt stay."""
    eventfd = os.eventfd(0)
    with connected() as (client, device):
        client.ok(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 0, 4096))
        flags = IRQ_DATA_EVENTFD | IRQ_ACTION_TRIGGER
        client.ok(Command.DEVICE_SET_IRQS, protocol.IRQ_SET.pack(20, flags, 1, 0, 1), [eventfd])
        client.write(0, SCRATCH, b"gone")
        client.write(7, COMMAND, b"\x06\x00")
        assert client.ok(Command.DEVICE_RESET).payload == b""
        assert client.read(0, SCRATCH, 4) == bytes(4)
        assert client.read(7, COMMAND, 2) == bytes(2)
        assert device.msi is not None
        assert list(device.ranges) == [0]
    os.close(eventfd)


def test_a_payload_is_einval() -> None:
    with connected() as (client, device):
        assert client.errno(Command.DEVICE_RESET, b"now!") == errno.EINVAL
        assert device.calls == []

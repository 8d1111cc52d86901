"""VERSION: what is agreed, and what ends the conversation."""

from __future__ import annotations

import errno
import json

import pytest

from lab.vfio_user import protocol
from lab.vfio_user.protocol import Command
from lab.vfio_user.tests.double import connected


def offer(capabilities: object, major: int = 0, minor: int = 0) -> bytes:
    return protocol.VERSION.pack(major, minor) + json.dumps({"capabilities": capabilities}).encode() + b"\0"


def test_capabilities_are_a_subset_of_those_offered() -> None:
    """Only what was offered comes back, as NUL-terminated JSON no longer than the offer."""
    with connected(version=False) as (client, _):
        request = offer({"max_msg_fds": 8, "max_data_xfer_size": 1048576, "unknown": {"x": 1}})
        answer = client.ok(Command.VERSION, request)
        assert protocol.VERSION.unpack_from(answer.payload) == (0, 0)
        assert answer.payload.endswith(b"\0") and len(answer.payload) <= len(request)
        agreed = json.loads(answer.payload[4:-1])["capabilities"]
        assert agreed == {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20}


def test_the_minor_version_is_negotiated_down() -> None:
    """A newer minor is answered with ours, never with the newer one."""
    with connected(version=False) as (client, _):
        answer = client.ok(Command.VERSION, offer({}, minor=7))
        assert protocol.VERSION.unpack_from(answer.payload) == (0, 0)


def test_no_capabilities_at_all() -> None:
    """The JSON is optional in both directions."""
    with connected(version=False) as (client, _):
        assert client.ok(Command.VERSION, protocol.VERSION.pack(0, 0)).payload == protocol.VERSION.pack(0, 0)


def test_an_answer_that_does_not_fit_loses_capabilities_not_its_form() -> None:
    """The offer is short: the reply still parses."""
    with connected(version=False) as (client, _):
        request = offer({"pgsizes": 1, "max_msg_fds": 1, "write_multiple": 1})
        answer = client.ok(Command.VERSION, request)
        assert len(answer.payload) <= len(request)
        assert set(json.loads(answer.payload[4:-1])["capabilities"]) <= {
            "pgsizes",
            "max_msg_fds",
            "write_multiple",
        }


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (offer({}, major=1), errno.EPROTONOSUPPORT),
        (b"", errno.EINVAL),
        (b"\0\0", errno.EINVAL),
        (protocol.VERSION.pack(0, 0) + b"{not json\0", errno.EINVAL),
        (protocol.VERSION.pack(0, 0) + b"[1]\0", errno.EINVAL),
        (protocol.VERSION.pack(0, 0) + b'"\xff"\0', errno.EINVAL),
        (protocol.VERSION.pack(0, 0) + b"[" * 100_000 + b"\0", errno.EINVAL),
        (offer([]), errno.EINVAL),
    ],
)
def test_a_bad_version_is_answered_and_ends_the_connection(payload: bytes, number: int) -> None:
    """The errno says what was wrong; then the connection is closed."""
    with connected(version=False) as (client, device):
        assert client.errno(Command.VERSION, payload) == number
        assert client.closed
        assert device.calls == []


def test_a_command_before_version_ends_the_connection() -> None:
    """EPROTO, and the device is not touched."""
    with connected(version=False) as (client, device):
        assert client.errno(Command.DEVICE_RESET) == errno.EPROTO
        assert client.closed
        assert device.calls == []


def test_a_second_version_is_refused() -> None:
    """EINVAL; the connection goes on."""
    with connected() as (client, _):
        assert client.errno(Command.VERSION, offer({})) == errno.EINVAL
        client.ok(Command.DEVICE_RESET)

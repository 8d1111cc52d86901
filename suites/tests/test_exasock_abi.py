"""The numbers and layouts that the suites use of /dev/exasock are those of the header."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from suites.guest import exasock, streams

HEADER = (Path(__file__).parents[2] / "datapath/include/exasock_abi.h").read_text()
STREAMS = (Path(__file__).parents[2] / "datapath/include/exasock_stream.h").read_text()


def test_reasons_are_in_the_headers_order() -> None:
    body = re.search(r"enum exasock_reason \{(.*?)\};", HEADER, re.DOTALL)
    assert body
    names = re.findall(r"EXASOCK_R_(\w+),", body[1])
    assert tuple(name.lower() for name in names) == (*exasock.REASONS, "reasons")


def test_refusals_are_in_the_headers_order() -> None:
    body = re.search(r"enum exasock_refusal \{(.*?)\};", HEADER, re.DOTALL)
    assert body
    names = re.findall(r"EXASOCK_N_(\w+),", body[1])
    assert tuple(name.lower() for name in names) == (*exasock.REFUSALS, "refusals")


def test_sizes_are_the_headers() -> None:
    sizes = dict(re.findall(r"sizeof\(struct exasock_(\w+)\) == (\d+)", HEADER))
    formats = {
        "info": exasock.INFO_FORMAT,
        "attach": exasock.ATTACH_FORMAT,
        "send": exasock.SEND_FORMAT,
        "setting": exasock.SETTING_FORMAT,
        "list": exasock.LIST_FORMAT,
    }
    assert {name: struct.calcsize(one) for name, one in formats.items()} == {
        name: int(sizes[name]) for name in formats
    }
    assert int(sizes["stat"]) == exasock.STAT_SIZE


def test_ioctl_numbers_are_the_headers() -> None:
    directions = {"W": 1, "R": 2, "WR": 3}
    found = {
        name: (directions[direction], int(number, 16))
        for name, direction, number in re.findall(
            r"define EXASOCK_IOC_(\w+)\s+_IO(\w+)\('E', (0x\w+),", HEADER
        )
    }
    ours = {name: getattr(exasock, name) for name in found}
    assert {name: (one >> 30, one & 0xFF) for name, one in ours.items()} == found
    assert int(re.findall(r"EXASOCK_ABI_VERSION\s+(\d+)", HEADER)[0]) == exasock.ABI


def test_reasons_of_streams_are_the_headers() -> None:
    body = re.search(r"enum exasock_stream_reason \{(.*?)\};", STREAMS, re.DOTALL)
    assert body
    names = re.findall(r"EXASOCK_S_(\w+)(?: = \d+)?,", body[1])
    assert tuple(name.lower() for name in names) == (*streams.REASONS, "reasons")
    assert re.findall(r"EXASOCK_S_CALL = (\d+)", STREAMS) == [str(streams.FIRST_REASON)]


def test_sizes_and_numbers_of_streams_are_the_headers() -> None:
    sizes = dict(re.findall(r"sizeof\(struct exasock_(\w+)\) == (\d+)", STREAMS))
    assert int(sizes["stream_send"]) == struct.calcsize(streams.SEND_FORMAT)
    assert int(sizes["stream_stat"]) == streams.STAT_SIZE
    found = re.findall(r"define EXASOCK_IOC_(\w+)\s+_IO(\w+)\('E', (0x\w+),", STREAMS)
    directions = {"W": 1, "WR": 3}
    for name, direction, number in found:
        ours = getattr(streams, name)
        assert (ours >> 30, ours & 0xFF) == (directions[direction], int(number, 16)), name
    assert found

"""``reference/ioctls`` and ``reference/counters``: from the headers that kernel and processes share."""

from __future__ import annotations

import re
from dataclasses import fields

from docs.generate import Undocumented, read, table
from lab.wire.nic import NicCounters
from lab.wire.rules import RuleCounters
from lab.wire.switch import SwitchCounters
from lab.wire.tester import TesterCounters

HEADERS = "datapath/include/"
#: What each call of /dev/exasock does.
CALLS = {
    "EXASOCK_IOC_INFO": "the version of the interface, the slots of a ring, the caller's namespace",
    "EXASOCK_IOC_ATTACH": "attach a UDP socket",
    "EXASOCK_IOC_DETACH": "detach it",
    "EXASOCK_IOC_FLUSH": "pass to the stack, now, what is held for the socket",
    "EXASOCK_IOC_SEND": "send a datagram past the stack",
    "EXASOCK_IOC_SETTING": "read or write a setting of the caller's namespace (writing: CAP_NET_ADMIN there)",
    "EXASOCK_IOC_LIST": "list attachments and refusals",
    "EXASOCK_IOC_STREAM_ATTACH": "attach a TCP connection",
    "EXASOCK_IOC_STREAM_DETACH": "detach it",
    "EXASOCK_IOC_STREAM_HOME": "hand the connection back to the kernel, now",
    "EXASOCK_IOC_STREAM_TAKE": "try to take the connection, now",
    "EXASOCK_IOC_STREAM_SEND": "send bytes past the stack",
    "EXASOCK_IOC_STREAM_LIST": "list attached connections and refusals",
}
#: What each counter of `ethtool -S` means; the driver's names, in its order.
ETHTOOL = {
    "rx_packets": "frames received",
    "rx_bytes": "their bytes",
    "rx_consumed": "of these, claimed by exasock before the stack",
    "rx_aborted": "aborted by the sender",
    "rx_crc": "with a wrong checksum",
    "rx_hw_lost": "the card reported that it lost frames",
    "rx_lapped": "the card overtook the driver in the RX ring",
    "rx_length": "too short or too long",
    "rx_no_memory": "dropped for want of memory",
    "rx_polls": "NAPI polls",
    "tx_packets": "frames sent",
    "tx_bytes": "their bytes",
    "tx_dropped": "frames that could not be sent",
    "tx_tso": "packets cut into segments by the driver",
    "tx_stops": "times the queue was stopped for want of room",
    "tx_wakes": "times it was started again",
    "tx_bad_feedback": "feedback values that name no command of the queue",
    "tx_timestamps": "time stamps of sent frames",
    "tx_timestamps_lost": "time stamps that did not come",
    "tx_direct_packets": "frames that exasock sent past the stack",
    "tx_direct_bytes": "their bytes",
    "tx_direct_buffers": "transmit buffers handed out",
    "tx_waiting_pages": "released transmit pages that the card may still read",
    "tx_waiting_slots": "released feedback slots that the card may still write",
}


def ioctls(header: str, pattern: str) -> list[tuple[str, str]]:
    """Name and direction of each ioctl that a header defines."""
    ways = {"R": "read", "W": "write", "WR": "write, read"}
    return [(name, ways[way]) for name, way in re.findall(pattern, read(HEADERS + header), re.MULTILINE)]


def own(header: str) -> str:
    """The calls of /dev/exasock that a header defines."""
    found = ioctls(header, r"^#define (EXASOCK_IOC_\w+)\s+_IO(R|W|WR)\(")
    if missing := {name for name, _ in found} - CALLS.keys():
        raise Undocumented(
            f"{HEADERS}{header}: {sorted(missing)}: add them to CALLS in docs/generate/interfaces.py"
        )
    return table(
        ("call", "argument", "what it does"), [(f"`{name}`", way, CALLS[name]) for name, way in found]
    )


def access() -> dict[str, tuple[str, str]]:
    """What an ioctl of /dev/exanicN reaches and needs: the rows of ACCESS.md."""
    rows = re.findall(
        r"^\| `ioctl\.(\w+)` \|(.*?)\|(.*?)\|$", read("datapath/exanic/ACCESS.md"), re.MULTILINE
    )
    return {name: (reaches.strip(), needs.strip()) for name, reaches, needs in rows}


def ioctls_page() -> str:
    card = ioctls("exanic_abi.h", r"^#define (EXANIC_IOC_\w+)\s+EXANIC_IO(R|W|WR)\(")
    rights = access()
    if missing := {name for name, _ in card} - rights.keys():
        raise Undocumented(f"datapath/exanic/ACCESS.md has no row for {sorted(missing)}")
    rows = [(f"`{name}`", way, *rights[name]) for name, way in card]
    return f"""# ioctls

Made from the headers in `datapath/include`, which kernel and programs share. Their comments are the contract.

## /dev/exasock: datagrams

{own("exasock_abi.h")}

## /dev/exasock: connections

{own("exasock_stream.h")}

## /dev/exanicN

The vendor's calls, with the rights of [Access](access.md).

{table(("call", "argument", "reaches", "needs"), rows)}"""


def enumeration(header: str, name: str) -> dict[str, str]:
    """The members of an enum with their comments."""
    body = re.search(rf"enum {name} {{(.*?)^}};", read(HEADERS + header), re.DOTALL | re.MULTILINE)
    if body is None:
        raise Undocumented(f"{HEADERS}{header} has no enum {name}")
    return dict(re.findall(r"^\t(\w+)(?: = \d+)?,[ \t]*/\* (.*?) \*/", body[1], re.MULTILINE))


def names(table_name: str) -> dict[str, str]:
    """What ``exasock-stat`` calls each member (``reasons.h``)."""
    body = re.search(
        rf"{table_name}\[\] = {{(.*?)^}};", read("datapath/tools/reasons.h"), re.DOTALL | re.MULTILINE
    )
    if body is None:
        raise Undocumented(f"datapath/tools/reasons.h has no table {table_name}")
    return dict(re.findall(r"\[(\w+)\] = \"(.*?)\"", body[1]))


def commented(header: str, enum: str, words: dict[str, str]) -> list[tuple[str, ...]]:
    """(name, meaning) of each member that has a name, but for the one that stands for no reason at all."""
    comments = enumeration(header, enum)
    named = {member: word for member, word in words.items() if word != "none"}
    if missing := named.keys() ^ comments.keys():
        raise Undocumented(f"{HEADERS}{header}: {sorted(missing)} have no comment on their line, or no name")
    return [(f"`{word}`", comments[member]) for member, word in named.items()]


def reasons() -> list[tuple[str, ...]]:
    return commented("exasock_abi.h", "exasock_reason", names("exasock_reasons"))


def stream_reasons() -> list[tuple[str, ...]]:
    words = re.findall(r"\[(EXASOCK_S_\w+)\] = \"(.*?)\"", read("datapath/tools/streams.c"))
    return commented("exasock_stream.h", "exasock_stream_reason", dict(words))


def refusals() -> list[tuple[str, ...]]:
    texts = names("exasock_refusal_texts")
    return [(f"`{word}`", texts[member]) for member, word in names("exasock_refusals").items()]


def ethtool() -> list[tuple[str, ...]]:
    source = read("datapath/exanic/stats.c")
    found = [f"rx_{name}" for name in re.findall(r"RX_STAT\((\w+)\)[,\s]", source) if name != "field"]
    found += [f"tx_{name}" for name in re.findall(r"TX_STAT\((\w+)\)[,\s]", source) if name != "field"]
    more = re.search(r"more_names.*?{(.*?)}", source, re.DOTALL)
    found += re.findall(r"\"(\w+)\"", more[1]) if more else []
    if set(found) != ETHTOOL.keys():
        raise Undocumented(
            f"counters of datapath/exanic/stats.c: {sorted(set(found) ^ ETHTOOL.keys())}: change ETHTOOL in"
            " docs/generate/interfaces.py"
        )
    return [(f"`{name}`", ETHTOOL[name]) for name in found]


def wire() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for where, counters in (
        ("rules of an end", RuleCounters),
        ("switch", SwitchCounters),
        ("tester", TesterCounters),
        ("interface of a real card's cable", NicCounters),
    ):
        told = ", ".join(f"`{one.name}`" for one in fields(counters))
        rows.append((where, told, (counters.__doc__ or "").replace("``", "`")))
    return rows


def counters_page() -> str:
    return f"""# Counters and reasons

Made from the code. `exasock-stat -r` shows the reasons of each accelerated socket, `ethtool -S` the driver's
counters, `python -m lab card counters` those of the emulated card and its wire.

## Why a datagram used the kernel path

{table(("reason", "meaning"), reasons())}

## Why a connection went back to the kernel, or was not taken

Those above count for connections too.

{table(("reason", "meaning"), stream_reasons())}

## Why a socket was not accelerated

{table(("refusal", "meaning"), refusals())}

## The driver (`ethtool -S`)

{table(("counter", "meaning"), ethtool())}

## The wire (`python -m lab card counters`)

{table(("where", "counters", "of what"), wire())}
"""

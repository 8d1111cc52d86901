"""What the accelerated sockets of a test sent and received past the kernel. Runs *in the guest*.

The kernel counts for each attached socket, and forgets the counts with the socket. So whoever closes sockets
calls :func:`look` before: the newest counts of every socket are kept here until :func:`told` hands them out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from suites.guest import exasock, streams

Json = dict[str, Any]
#: By kind, process, namespace and both addresses: the counts at the last look.
_open: dict[tuple[Any, ...], Counter[str]] = {}
#: Of sockets that are closed since.
_closed: Counter[str] = Counter()


def _datagrams(one: Json) -> Counter[str]:
    counts = Counter({"udp sent past": one["tx_fast"], "udp received past": one["claimed"]})
    for way, name in (("sent", "tx_kernel"), ("received", "rx_kernel")):
        for reason, count in one[name].items():
            counts[f"udp {way} kernel {reason}"] += count
    return counts


def _stream(one: Json) -> Counter[str]:
    counts = Counter(
        {"tcp sent past": one["tx_bytes"], "tcp received past": one["rx_bytes"] - one["rx_home"]}
    )
    for name in ("gives", "refused"):
        for reason, count in one[name].items():
            counts[f"tcp {name} {reason}"] += count
    return counts


def look() -> None:
    """Keep what every attached socket has counted so far."""
    found: dict[tuple[Any, ...], Counter[str]] = {}
    for kind, told, counts in (
        ("udp", exasock.accelerated(), _datagrams),
        ("tcp", streams.attached(), _stream),
    ):
        for one in told:
            key = (kind, one["pid"], one["netns"], *one["local"], *one["peer"])
            found.setdefault(key, Counter()).update(counts(one))
    for key, counts_now in found.items():
        before = _open.get(key)
        if before is not None and any(count > counts_now[name] for name, count in before.items()):
            _closed.update(before)  # another socket with the same addresses
        _open[key] = counts_now


def told() -> dict[str, int]:
    """The sums since the last time, by "udp|tcp sent|received past", "udp sent|received kernel REASON" (in
    datagrams; of TCP in bytes) and "tcp gives|refused REASON" (how often)."""
    look()
    total = Counter(_closed)
    for counts in _open.values():
        total.update(counts)
    forget()
    return {name: count for name, count in total.items() if count}


def forget() -> None:
    _open.clear()
    _closed.clear()

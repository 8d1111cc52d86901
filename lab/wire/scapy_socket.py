"""scapy on the wire: a socket for ``sr1``, ``sniff``, ``AsyncSniffer``, connected to a tester end.

>>> with TesterSocket(path) as tester:                                        # doctest: +SKIP
...     reply = tester.sr1(Ether() / IP(dst="10.0.0.1") / ICMP(), timeout=2)
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from scapy.data import MTU
from scapy.layers.l2 import Ether
from scapy.supersocket import SuperSocket

from lab.wire.frame import MAX_FRAME


class TesterSocket(SuperSocket):
    """A scapy SuperSocket on ``<tester_dir>/NAME.sock``. Frames without FCS, both ways.

    Raises FileNotFoundError or ConnectionRefusedError when no such tester is on the wire.
    """

    #: Not a test class, whatever its name begins with.
    __test__ = False
    desc = "exalab tester"
    nonblocking_socket = False

    def __init__(self, path: Path | str) -> None:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            link.connect(os.fspath(path))
        except OSError:
            link.close()
            raise
        self.ins: socket.socket = link
        self.outs: socket.socket = link
        self.promisc = True
        self.closed = False

    def send(self, packet: Any) -> int:
        """Put a packet, or raw bytes, on the wire. Returns the bytes sent."""
        data = bytes(packet)
        if hasattr(packet, "sent_time"):
            packet.sent_time = time.time()
        return int(self.outs.send(data))

    def recv_raw(self, x: int = MTU) -> tuple[type[Ether], bytes | None, float]:
        """The next frame's bytes and when it was read; None for the bytes at the end of the wire."""
        data = self.ins.recv(max(x, MAX_FRAME))
        return Ether, data or None, time.time()

    def close(self) -> None:
        """Unplug."""
        if not self.closed:
            self.closed = True
            self.ins.close()

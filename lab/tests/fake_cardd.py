"""Stands in for cardd: listens, and ends politely. ``fake_cardd.py SOCKET [die|deaf]``"""

from __future__ import annotations

import signal
import socket
import sys


def main() -> int:
    path, *how = sys.argv[1:]
    if how == ["die"]:
        print("fake cardd: no such card model", file=sys.stderr)
        return 3
    if how == ["deaf"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            listener.accept()[0].close()


if __name__ == "__main__":
    sys.exit(main())

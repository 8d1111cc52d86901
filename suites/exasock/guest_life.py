"""A program whose socket outlives, changes or leaves its process. Runs *in the guest*, by itself.

    exasock python3 life.py MODE ADDRESS PORT COUNT

It says ``ready`` when it listens, then a line for each datagram: who took it and its number.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
import threading

SECONDS = 20
#: Where a socket is handed over; in the file system, which namespaces of the network share.
LENT = "/run/exalab-lent"


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def listen(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SECONDS, 0))
    sock.bind((address, port))
    with contextlib.suppress(BlockingIOError):
        sock.recv(2048, socket.MSG_DONTWAIT)
    return sock


def take(who: str, sock: socket.socket, count: int) -> None:
    """Until ``count`` have come, one that says "end" (number 0xffffff), or nothing does for long."""
    for _ in range(count):
        try:
            data = sock.recv(2048)
        except BlockingIOError:
            say(f"{who} nothing")
            return
        number = struct.unpack_from("!I", data)[0]
        if number == 0xFFFFFF:
            return
        say(f"{who} {number}")


def fork(sock: socket.socket, count: int) -> None:
    """Both receive by the same socket, until each has been told the end."""
    child = os.fork()
    who = "parent" if child else "child"
    say(f"{who} is {os.getpid()}")
    take(who, sock, count)
    if child:
        os.waitpid(child, 0)


def execute(sock: socket.socket, count: int) -> None:
    """Half of them, then the same descriptor in a program without the library, and with it again."""
    take("before", sock, count)
    sock.set_inheritable(True)
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    environment["LATER"] = os.environ.get("LD_PRELOAD", "")
    arguments = [sys.executable, __file__, "native", str(sock.fileno()), "0", str(count)]
    os.execve(sys.executable, arguments, environment)


def native(fd: int, count: int) -> None:
    sock = socket.socket(fileno=fd)
    take("native", sock, count)
    sock.set_inheritable(True)
    environment = {**os.environ, "LD_PRELOAD": os.environ["LATER"]}
    os.execve(sys.executable, [sys.executable, __file__, "again", str(fd), "0", str(count)], environment)


def again(fd: int, count: int) -> None:
    sock = socket.socket(fileno=fd)
    take("again", sock, count)


def hand(sock: socket.socket, count: int) -> None:
    """Pass it to a program without the library; receive by turns."""
    here, there = socket.socketpair()
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    there.set_inheritable(True)
    child = os.fork()
    if not child:
        arguments = [sys.executable, __file__, "taker", str(there.fileno()), "0", str(count)]
        os.execve(sys.executable, arguments, environment)
    there.close()
    socket.send_fds(here, [b"x"], [sock.fileno()])
    here.recv(1)
    take("owner", sock, count)
    here.send(b"x")
    here.recv(1)
    take("owner", sock, count)
    os.waitpid(child, 0)


def taker(fd: int, count: int) -> None:
    with socket.socket(fileno=fd) as channel:
        _message, fds, _flags, _address = socket.recv_fds(channel, 1, 1)
        sock = socket.socket(fileno=fds[0])
        channel.send(b"x")
        channel.recv(1)
        take("taker", sock, count)
        channel.send(b"x")


def lend(sock: socket.socket, count: int) -> None:
    """Give the socket away to whoever waits at LENT, and have none any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.connect(LENT)
        socket.send_fds(channel, [b"x"], [sock.fileno()])
        channel.recv(1)
        sock.close()
        channel.send(b"x")
        say("lent")
        sys.stdin.readline()


def borrow(count: int) -> None:
    """Take a socket at LENT, and answer ``count`` datagrams by it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(LENT)
        listener.listen()
        say("ready")
        channel, _nobody = listener.accept()
    with channel:
        _message, fds, _flags, _address = socket.recv_fds(channel, 1, 1)
        channel.send(b"x")
        channel.recv(1)
    os.unlink(LENT)  # noqa: PTH108
    with socket.socket(fileno=fds[0]) as sock:
        say("borrowed")
        for _ in range(count):
            data, sender = sock.recvfrom(2048)
            sock.sendto(data, sender)
        say("answered")
        sys.stdin.readline()


def closed(sock: socket.socket, count: int) -> None:
    """Closed by one thread while another waits in a call: what the call does is the kernel's business."""
    fd = sock.fileno()
    waiting = threading.Event()

    def receive() -> None:
        waiting.set()
        take("waiting", sock, count)

    thread = threading.Thread(target=receive)
    thread.start()
    waiting.wait()
    say("closing")
    sys.stdin.readline()
    os.close(fd)
    say("closed")
    thread.join()
    sock.detach()


def threads(sock: socket.socket, count: int) -> None:
    """Two threads receive by one socket."""
    pair = [threading.Thread(target=take, args=(who, sock, count)) for who in ("one", "two")]
    for one in pair:
        one.start()
    for one in pair:
        one.join()


def main() -> None:
    mode, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if mode in ("native", "again", "taker"):
        globals()[mode](int(address), count)
        return
    if mode == "borrow":
        borrow(count)
        return
    sock = listen(address, port)
    # Every processor has seen it: it is accelerated from here on (membarrier: synchronize_rcu).
    ctypes.CDLL(None).syscall(324, 1, 0, 0)
    say("ready")
    globals()[{"exec": "execute", "pass": "hand"}.get(mode, mode)](sock, count)
    say("over")


if __name__ == "__main__":
    main()

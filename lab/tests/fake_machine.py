"""Stands in for QEMU and its guest: speaks enough QMP on a descriptor, and enough of the agent on a socket.

fake_machine.py --qmp FD --agent PATH --serial-log PATH [--die AFTER_COMMAND] [--status STATUS]
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
from pathlib import Path
from typing import Any

GREETING = {
    "QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 11}, "package": ""}, "capabilities": []}
}
USERNET = "  TCP[HOST_FORWARD]  12       127.0.0.1 40022       10.0.2.15    22     0     0\r\n"
HELLO = {"kernel": "6.12-fake", "boot_id": "b", "uptime": 1.0, "python": "3", "pid": 1, "version": 1}


def answer_qmp(request: dict[str, Any], status: str) -> Any:
    match request["execute"]:
        case "query-status":
            return {"status": status, "running": status == "running"}
        case "human-monitor-command":
            return USERNET
        case _:
            return {}


def answer_agent(message: dict[str, Any]) -> dict[str, Any]:
    if "hello" in message:
        return {"hello": message["hello"], **HELLO}
    if message["method"] == "call":
        return {"id": message["id"], "result": {"cards": [], "ports": []}}
    return {"id": message["id"], "result": True}


def arrived(buffer: bytearray, sock: socket.socket) -> list[dict[str, Any]] | None:
    """The messages that came, with or without a newline after them; None at the end of the stream."""
    data = sock.recv(65536)
    if not data:
        return None
    buffer += data
    found = []
    while text := buffer.decode().strip():
        try:
            message, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            break  # the rest of it is on its way
        found.append(message)
        buffer[:] = text[end:].encode()
    return found


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    sock.sendall(json.dumps(message).encode() + b"\n")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--qmp", type=int, required=True)
    parser.add_argument("--agent", type=Path, required=True)
    parser.add_argument("--serial-log", type=Path, required=True)
    parser.add_argument("--die")
    parser.add_argument("--status", default="running")
    given = parser.parse_args()
    given.serial_log.write_text("guest says: booting\nguest says: something went wrong\n")
    qmp = socket.socket(fileno=given.qmp)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(given.agent))
    listener.listen()
    send(qmp, GREETING)
    buffers = {qmp.fileno(): bytearray()}
    agents: dict[int, socket.socket] = {}
    while True:
        readable, _, _ = select.select([qmp, listener, *agents.values()], [], [])
        for one in readable:
            if one is listener:
                client, _ = listener.accept()
                agents[client.fileno()] = client
                buffers[client.fileno()] = bytearray()
                continue
            messages = arrived(buffers[one.fileno()], one)
            if messages is None and one is qmp:
                return 0
            if messages is None:
                agents.pop(one.fileno()).close()
                continue
            for message in messages:
                if one is not qmp:
                    send(one, answer_agent(message))
                    continue
                if message["execute"] == given.die:
                    print("fake machine: dying as told", file=sys.stderr)
                    return 9
                answer = {"return": answer_qmp(message, given.status)}
                send(qmp, answer | ({"id": message["id"]} if "id" in message else {}))
                if message["execute"] == "quit":
                    return 0


if __name__ == "__main__":
    sys.exit(main())

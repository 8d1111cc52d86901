"""Python programs with TCP streams, as people write them. Runs *in the guest*, by itself.

    exasock python3 tcp_services.py serve ADDRESS PORT NAME     says ``ready NAME`` when it listens
    exasock python3 tcp_services.py ask ADDRESS PORT NAME       ends with 0 when every answer was NAME's

A line is answered by NAME and the line; ``bytes N`` by N bytes of the seed NAME, whose hash the asker knows.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys

LINES, CONNECTIONS, SIZE = 40, 4, 200_000


def content(name: str) -> bytes:
    return random.Random(name).randbytes(SIZE)


async def answer(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        if line.startswith(b"bytes"):
            writer.write(content(name))
        else:
            writer.write(name.encode() + b" " + line)
        await writer.drain()
    writer.close()


async def serve(address: str, port: int, name: str) -> None:
    server = await asyncio.start_server(lambda reader, writer: answer(name, reader, writer), address, port)
    print(f"ready {name}", flush=True)
    async with server:
        await server.serve_forever()


async def ask_one(address: str, port: int, name: str) -> None:
    reader, writer = await asyncio.open_connection(address, port)
    for number in range(LINES):
        writer.write(f"line {number}\n".encode())
        await writer.drain()
        got = await reader.readline()
        assert got == f"{name} line {number}\n".encode(), got
    writer.write(b"bytes\n")
    digest = hashlib.sha256(await reader.readexactly(SIZE)).hexdigest()
    assert digest == hashlib.sha256(content(name)).hexdigest(), "other bytes"
    writer.close()
    await writer.wait_closed()


async def ask(address: str, port: int, name: str) -> None:
    await asyncio.gather(*(ask_one(address, port, name) for _ in range(CONNECTIONS)))
    print(f"right {name}", flush=True)


if __name__ == "__main__":
    asyncio.run({"serve": serve, "ask": ask}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), sys.argv[4]))

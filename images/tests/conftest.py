"""A package archive of our own on the loopback, and locks to go with it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from images.archive import Sources
from images.lock import Header, Lock, Package, make

from .dut import dut

__all__ = ["FakeArchive", "archive", "dut", "lock_of", "package"]


def pytest_configure(config: pytest.Config) -> None:
    """The marker of the tests that boot the image."""
    config.addinivalue_line("markers", "lab: needs a booted lab")


def package(name: str, content: bytes, version: str = "1.0-1", path: str | None = None) -> Package:
    """A locked package whose file has this content."""
    return Package(
        name=name,
        version=version,
        architecture="amd64",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        archive="debian",
        path=path or f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
    )


def lock_of(*packages: Package, image: str = "dut", replaces: str | None = None) -> Lock:
    """A lock of these packages."""
    header = Header(
        image=image,
        suite="trixie",
        architecture="amd64",
        snapshot="20260101T000000Z",
        requested=(),
        replaces=replaces,
    )
    return make(header, packages)


@dataclass
class FakeArchive:
    """Serves `files` (path to content); notes what was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    # Paths whose first answer ends after half of the file.
    broken: set[str] = field(default_factory=set)
    # Paths that get this status instead.
    status: dict[str, int] = field(default_factory=dict)

    @property
    def sources(self) -> Sources:
        """The archive as the only source."""
        return Sources(self.url)


@pytest.fixture
def archive() -> Iterator[FakeArchive]:
    """A running FakeArchive."""
    fake = FakeArchive()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            wanted = self.headers.get("Range")
            fake.requests.append((path, wanted))
            content = fake.files.get(path)
            status = fake.status.get(path) or (200 if content is not None else 404)
            if status != 200 or content is None:
                self.send_error(status)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if path in fake.broken:
                fake.broken.discard(path)
                body = body[: len(body) // 2]
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Bringing the locked packages here: cache, then snapshot, then the machine's archive; always verified.

The cache is content-addressed (deb/<first two hex digits>/<sha256>.deb) and may be shared by checkouts and
machines: a file is placed there by rename, and only once its size and sha256 are right.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError

from .archive import Sources, proxies
from .lock import Lock, Package

PARALLEL = 8
_CHUNK = 1 << 18
_TIMEOUT = 30.0
_TRIES = 3


@dataclass
class Progress:
    """Counts for the display; read from another thread."""

    files: int = 0
    done: int = 0
    bytes: int = 0
    received: int = 0
    cached: int = 0
    on_change: Callable[[str], None] = lambda _text: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, done: int = 0, received: int = 0, cached: int = 0) -> None:
        """Count finished files, received bytes and cache hits."""
        with self._lock:
            self.done += done
            self.received += received
            self.cached += cached
        self.on_change(str(self))

    def __str__(self) -> str:
        megabytes = f"{self.received / 1e6:.0f} of {self.bytes / 1e6:.0f} MB"
        return f"{self.done}/{self.files} packages, {megabytes} received"


class Gone(Exception):
    """No source has these bytes any more."""

    def __init__(self, package: Package, tried: list[str]) -> None:
        super().__init__(str(package))
        self.package = package
        self.tried = tried


class Stale(LabError):
    """Locked packages that no source has."""

    def __init__(self, image: str, gone: list[Gone]) -> None:
        self.image = image
        self.gone = gone
        names = "\n".join(f"  {g.package.name} {g.package.version} ({g.package.path})" for g in gone)
        super().__init__(
            f"the lock of image {image} names {len(gone)} package(s) that no source has any more:\n{names}",
            hint="refresh the locks (make lock) and commit them, set EXALAB_SNAPSHOT to a snapshot service, "
            "or run without LOCKED=1 to build on a fresh, untracked lock",
        )


def cached(package: Package, cache: Path) -> Path:
    """Where the package lies, or will lie, in the cache."""
    return cache / "deb" / package.sha256[:2] / f"{package.sha256}.deb"


def fetch(
    lock: Lock, sources: Callable[[], Sources], cache: Path, progress: Progress | None = None
) -> dict[Package, Path]:
    """Have every package of the lock in the cache; returns where each is.

    `sources` is asked only when something is missing, so a warm cache needs no network and no configuration.
    Stale when packages are gone everywhere; LabError when the network or the disk failed.
    """
    progress = progress or Progress()
    missing = []
    for package in lock.packages:
        path = cached(package, cache)
        # The name is the hash and files arrive by rename; the size catches a truncating disk or copy.
        if path.is_file() and path.stat().st_size == package.size:
            progress.add(cached=1)
        else:
            missing.append(package)
    progress.files += len(missing)
    progress.bytes += sum(p.size for p in missing)
    if missing:
        _download_all(lock, missing, sources(), cache, progress)
    return {package: cached(package, cache) for package in lock.packages}


def _download_all(
    lock: Lock, missing: Iterable[Package], sources: Sources, cache: Path, progress: Progress
) -> None:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({**proxies(), **urllib.request.getproxies()})
    )
    gone: list[Gone] = []
    stop = threading.Event()
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch") as pool:
        # Big ones first: the last file then never takes long.
        order = sorted(missing, key=lambda p: -p.size)
        jobs = [pool.submit(_one, opener, package, lock, sources, cache, progress, stop) for package in order]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
            for job in jobs:
                found = job.result()
                if found:
                    gone.append(found)
        except BaseException:
            stop.set()
            for job in jobs:
                job.cancel()
            raise
    if gone:
        raise Stale(lock.header.image, sorted(gone, key=lambda g: g.package.name))


def _one(
    opener: urllib.request.OpenerDirector,
    package: Package,
    lock: Lock,
    sources: Sources,
    cache: Path,
    progress: Progress,
    stop: threading.Event,
) -> Gone | None:
    """Fetch one package; Gone (returned, so that all of them can be named) when no source has it."""
    final = cached(package, cache)
    final.parent.mkdir(parents=True, exist_ok=True)
    urls = sources.candidates(package, lock)
    problems = []
    for url in urls:
        for _attempt in range(_TRIES):
            if stop.is_set():
                return None
            try:
                _download(opener, url, package, final, progress, stop)
            except urllib.error.HTTPError as error:
                if error.code in (403, 404, 410):
                    break
                problems.append(f"{url}: {error}")
            except (OSError, http.client.HTTPException) as error:
                problems.append(f"{url}: {error}")
            except _WrongBytes as error:
                # What an earlier run left may have been the culprit: once more from the start.
                if not error.resumed:
                    break
            else:
                progress.add(done=1)
                return None
    if problems:
        raise LabError(
            f"cannot fetch {package}: {problems[-1]}",
            hint="run it again: what has arrived is kept. EXALAB_ARCHIVE names another archive",
        )
    return Gone(package, urls)


class _WrongBytes(Exception):
    """The source served something else under this path."""

    def __init__(self, url: str, *, resumed: bool) -> None:
        super().__init__(url)
        self.resumed = resumed


def _download(
    opener: urllib.request.OpenerDirector,
    url: str,
    package: Package,
    final: Path,
    progress: Progress,
    stop: threading.Event,
) -> None:
    """Resume or start the .part file, verify, place.

    The part is locked while we write: builds of other checkouts may share the cache.
    """
    part = final.with_suffix(".part")
    with part.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if final.is_file() and final.stat().st_size == package.size:
            # Another build was quicker; ours may be a new, empty part.
            part.unlink(missing_ok=True)
            return
        start = file.tell()
        if start >= package.size:
            file.truncate(0)
            start = 0
        request = urllib.request.Request(url, headers={"User-Agent": "exalab"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        digest = hashlib.sha256()
        with opener.open(request, timeout=_TIMEOUT) as response:
            resumed = start > 0 and response.status == 206
            if resumed:
                file.seek(0)
                digest.update(file.read())
                progress.add(received=start)
            else:
                file.truncate(0)
            size = start if resumed else 0
            announced = size + int(response.headers.get("Content-Length") or package.size - size)
            while size <= package.size and (chunk := response.read(_CHUNK)):
                if stop.is_set():
                    raise OSError("stopped")
                size += len(chunk)
                file.write(chunk)
                digest.update(chunk)
                progress.add(received=len(chunk))
        file.flush()
        if size < min(announced, package.size):
            raise OSError(f"connection ended after {size} of {package.size} bytes")
        if size != package.size or digest.hexdigest() != package.sha256:
            file.truncate(0)
            progress.add(received=-size)
            raise _WrongBytes(url, resumed=resumed)
        part.replace(final)

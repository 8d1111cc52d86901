"""Where packages come from: the machine's apt configuration or the environment. No host name is written here.

EXALAB_ARCHIVE           address of a Debian archive (the folder that holds dists/ and pool/)
EXALAB_SECURITY_ARCHIVE  the same for the security archive
EXALAB_SNAPSHOT          address of a snapshot service (the folder that holds archive/)
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab.errors import LabError

from .lock import Archive, Lock, Package

_RELEASES = "buster|bullseye|bookworm|trixie|forky|sid|unstable|testing|stable|oldstable"
_MAIN_SUITE = re.compile(rf"^({_RELEASES})(-updates|-backports|-proposed-updates)?$")
_SECURITY_SUITE = re.compile(rf"^({_RELEASES})-security$")
# How long after the archive's own time stamp a snapshot service may have taken its picture.
_SNAPSHOT_LAG = (timedelta(0), timedelta(hours=6), timedelta(hours=24))


@dataclass(frozen=True)
class Entry:
    """One source of the apt configuration."""

    uri: str
    suite: str
    components: tuple[str, ...]


@dataclass(frozen=True)
class Sources:
    """Addresses without a trailing slash; None where the machine has none."""

    debian: str
    security: str | None = None
    snapshot: str | None = None

    def base(self, archive: Archive) -> str | None:
        """Address of the archive a locked package came from."""
        return self.debian if archive == "debian" else self.security

    def candidates(self, package: Package, lock: Lock) -> list[str]:
        """Where to try for a package, best first: snapshot, then the machine's archive."""
        urls = []
        if self.snapshot:
            taken = datetime.fromtimestamp(lock.epoch, UTC)
            for lag in _SNAPSHOT_LAG:
                stamp = (taken + lag).strftime("%Y%m%dT%H%M%SZ")
                urls.append(f"{self.snapshot}/archive/{package.archive}/{stamp}/{package.path}")
        base = self.base(package.archive)
        if base:
            urls.append(f"{base}/{package.path}")
        return urls


def discover(environment: Mapping[str, str] | None = None, etc: Path = Path("/etc/apt")) -> Sources:
    """Addresses from the environment, else from apt's configuration.

    LabError when neither names a Debian archive.
    """
    env = os.environ if environment is None else environment
    entries = list(_entries(etc))
    main = env.get("EXALAB_ARCHIVE") or _pick(entries, _MAIN_SUITE, "debian")
    if not main:
        raise LabError(
            f"no Debian archive in {etc}",
            hint="set EXALAB_ARCHIVE to the address of one (the folder that holds dists/ and pool/)",
        )
    security = env.get("EXALAB_SECURITY_ARCHIVE") or _pick(entries, _SECURITY_SUITE, "debian-security")
    snapshot = env.get("EXALAB_SNAPSHOT")
    return Sources(
        main.rstrip("/"), (security or "").rstrip("/") or None, (snapshot or "").rstrip("/") or None
    )


def _pick(entries: list[Entry], suite: re.Pattern[str], folder: str) -> str | None:
    """The archive of the first fitting entry.

    Other people's archives may use Debian's suite names, so one in Debian's own folder comes first.
    """
    fitting = [e for e in entries if suite.match(e.suite) and "main" in e.components]
    fitting.sort(key=lambda e: not e.uri.rstrip("/").endswith("/" + folder))
    return fitting[0].uri if fitting else None


def _entries(etc: Path) -> Iterator[Entry]:
    parts = sorted((etc / "sources.list.d").glob("*")) if (etc / "sources.list.d").is_dir() else []
    for path in [etc / "sources.list", *parts]:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".sources":
            yield from _deb822(text)
        elif path.suffix == ".list":
            yield from _one_line(text)


def _one_line(text: str) -> Iterator[Entry]:
    """deb [options] URI suite component... (sources.list(5))."""
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            for uri in _addresses(match[1]):
                yield Entry(uri, match[2], tuple(match[3].split()))


def _deb822(text: str) -> Iterator[Entry]:
    """Paragraphs of Types, URIs, Suites, Components, Enabled (sources.list(5))."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        for item in fields.get("uris", "").split():
            for uri in _addresses(item):
                for suite in fields.get("suites", "").split():
                    yield Entry(uri, suite, tuple(fields.get("components", "").split()))


def _addresses(uri: str) -> Iterator[str]:
    """A plain address as it is; a mirror+file: list opened (Debian's cloud images use one)."""
    if uri.startswith("mirror+file:"):
        path = Path(re.sub(r"^mirror\+file:/*", "/", uri))
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip() and not line.startswith("#"):
                    yield line.split()[0]
    elif re.match(r"^(https?|file|copy):", uri):
        yield uri


def acquire_options() -> list[str]:
    """The machine's own apt settings for reaching an archive (proxies, date checks), as lines of apt.conf."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    wanted = re.compile(r"^Acquire::(https?::|Check-Valid-Until|Check-Date|Retries|ForceIPv)")
    return [line for line in dump.splitlines() if wanted.match(line)]


def proxies() -> dict[str, str]:
    """apt's proxies in urllib's form; the environment's own come on top in urllib."""
    found = {}
    for line in acquire_options():
        match = re.match(r'^Acquire::(https?)::Proxy "([^"]+)";', line)
        if match and match[2] != "DIRECT":
            found[match[1]] = match[2]
    return found

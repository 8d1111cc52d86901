"""Turning package names into a lock, with apt in a configuration of its own.

Nothing of the machine's apt state is read or changed: lists, cache and status live in a scratch folder, the
package status is empty, and the Debian keyring checks every Release file.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote

from lab.errors import LabError

from .archive import Sources, acquire_options
from .definition import Definition, Image
from .lock import Archive, Header, Lock, Package, make

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")


class Resolver:
    """apt over an empty system. Use as a context manager: the scratch folder goes with it."""

    def __init__(self, definition: Definition, sources: Sources) -> None:
        self.definition = definition
        self.sources = sources
        self._scratch = tempfile.TemporaryDirectory(prefix="exalab-apt-")
        self._dir = Path(self._scratch.name)
        self._stamps: list[datetime] = []

    def __enter__(self) -> Resolver:
        self._configure()
        self._update()
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def lock(self, image: Image, *, replaces: str | None = None) -> Lock:
        """Resolve one image: the essential packages, the named ones and what they depend on, no recommends.

        LabError with apt's own words when it cannot.
        """
        output = self._apt("install", "--print-uris", "?essential", *image.packages)
        packages = [self._package(line) for line in output.splitlines() if line.startswith("'")]
        if not packages:
            raise LabError(f"apt resolved {image.name} to nothing", hint="see images/images.toml")
        header = Header(
            image=image.name,
            suite=self.definition.suite,
            architecture=self.definition.architecture,
            snapshot=max(self._stamps).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ"),
            requested=image.packages,
            replaces=replaces,
        )
        return make(header, packages)

    def _configure(self) -> None:
        if not KEYRING.exists():
            raise LabError(f"{KEYRING} is missing", hint="apt-get install debian-archive-keyring")
        for folder in ("state/lists/partial", "cache/archives/partial", "etc"):
            (self._dir / folder).mkdir(parents=True)
        (self._dir / "status").touch()
        suite, components = self.definition.suite, " ".join(self.definition.components)
        uris = [(self.sources.debian, f"{suite}{extra}") for extra in ("", "-updates", "-backports")]
        if self.sources.security:
            uris.append((self.sources.security, f"{suite}-security"))
        options = f"[signed-by={KEYRING} arch={self.definition.architecture}]"
        lines = [f"deb {options} {uri} {name} {components}\n" for uri, name in uris]
        (self._dir / "etc/sources.list").write_text("".join(lines), encoding="utf-8")
        pinned = " ".join(f"src:{name}" for name in self.definition.backports)
        (self._dir / "etc/preferences").write_text(
            f"Package: {pinned}\nPin: release n={suite}-backports\nPin-Priority: 990\n", encoding="utf-8"
        )
        conf = [
            f'Dir::State "{self._dir}/state";',
            f'Dir::State::status "{self._dir}/status";',
            f'Dir::Cache "{self._dir}/cache";',
            f'Dir::Etc "{self._dir}/etc";',
            'Dir::Etc::sourceparts "/dev/null";',
            'Dir::Etc::parts "/dev/null";',
            'Dir::Etc::preferencesparts "/dev/null";',
            'Dir::Etc::trustedparts "/dev/null";',
            f'APT::Architecture "{self.definition.architecture}";',
            f'APT::Architectures {{ "{self.definition.architecture}"; }};',
            'APT::Install-Recommends "false";',
            'APT::Get::Assume-Yes "true";',
            'APT::Sandbox::User "root";',
            'Acquire::Languages "none";',
            'Acquire::ForceHash "sha256";',
            'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";',
            *acquire_options(),
        ]
        (self._dir / "apt.conf").write_text("\n".join(conf) + "\n", encoding="utf-8")

    def _apt(self, *arguments: str) -> str:
        env = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME") or k.lower().endswith("_proxy")}
        env |= {"APT_CONFIG": str(self._dir / "apt.conf"), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["apt-get", "-q", *arguments], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LabError(
                f"apt-get {arguments[0]} failed:\n{done.stderr.strip() or done.stdout.strip()}",
                hint="is the archive reachable? EXALAB_ARCHIVE names another",
            )
        return done.stdout

    def _update(self) -> None:
        self._apt("update", "--error-on=any")
        for release in (self._dir / "state/lists").glob("*_InRelease"):
            match = re.search(
                r"^Date: (.+)$", release.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
            )
            if match:
                self._stamps.append(parsedate_to_datetime(match[1]))
        if not self._stamps:
            raise LabError(
                "the archive's Release files carry no date", hint="EXALAB_ARCHIVE names another archive"
            )

    def _package(self, line: str) -> Package:
        match = _URI.match(line)
        if not match:
            raise LabError(f"apt printed something unexpected: {line}")
        archive: Archive
        if match["uri"].startswith(self.sources.debian + "/"):
            archive, base = "debian", self.sources.debian
        elif self.sources.security and match["uri"].startswith(self.sources.security + "/"):
            archive, base = "debian-security", self.sources.security
        else:
            raise LabError(f"apt chose a package from nowhere: {match['uri']}")
        name, version, architecture = match["file"].removesuffix(".deb").split("_")
        return Package(
            name=name,
            version=unquote(version),
            architecture=architecture,
            sha256=match["sha256"],
            size=int(match["size"]),
            archive=archive,
            path=unquote(match["uri"].removeprefix(base + "/")),
        )

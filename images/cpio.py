"""A deterministic cpio archive: sorted, owned by root, all times zero. Format: cpio(5), "newc"."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

_MAGIC = b"070701"
_BLOCK = 512


@dataclass(frozen=True)
class Entry:
    """One member.

    `name` without a leading slash; `data` is a file's content or a link's target; `rdev` is (major, minor).
    """

    name: str
    mode: int
    data: bytes = b""
    rdev: tuple[int, int] = (0, 0)


@dataclass
class Archive:
    """Collects members in any order; `encode` gives the same bytes for the same members."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def directory(self, name: str, mode: int = 0o755) -> None:
        """A directory and, where missing, its parents."""
        name = name.strip("/")
        if not name:
            return
        self.directory(name.rpartition("/")[0])
        if name not in self.entries:
            self.entries[name] = Entry(name, stat.S_IFDIR | mode)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file, parents made."""
        self._add(Entry(name.strip("/"), stat.S_IFREG | mode, data))

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._add(Entry(name.strip("/"), stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A character device node."""
        self._add(Entry(name.strip("/"), stat.S_IFCHR | mode, rdev=(major, minor)))

    def _add(self, entry: Entry) -> None:
        self.directory(entry.name.rpartition("/")[0])
        if entry.name in self.entries:
            raise ValueError(f"{entry.name} is already in the archive")
        self.entries[entry.name] = entry

    def encode(self) -> bytes:
        """The archive's bytes. Parents sort before their children, as the kernel's unpacker needs."""
        members = [
            _member(e, inode) for inode, e in enumerate(sorted(self.entries.values(), key=_path), start=1)
        ]
        body = b"".join(members) + _member(Entry("TRAILER!!!", 0), 0)
        return body + b"\0" * (-len(body) % _BLOCK)


def _path(entry: Entry) -> list[str]:
    return entry.name.split("/")


def _member(entry: Entry, inode: int) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, uid, gid, nlink, mtime, filesize, dev major and minor, rdev the same, namesize, check
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.rdev, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % value for value in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)

"""Remove from the tree what must not be in an image: identities, caches, logs, traces of how it was made."""

from __future__ import annotations

import shutil
from pathlib import Path

# Made at boot, different in every machine.
IDENTITIES = (
    "etc/ssh/ssh_host_*",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "etc/resolv.conf",
    "etc/ssl/private/ssl-cert-snakeoil.key",
    "etc/ssl/certs/ssl-cert-snakeoil.pem",
)
# Folders whose content goes, and which stay.
EMPTY = ("var/cache", "var/log", "var/tmp", "var/lib/apt")
# Left by mmdebstrap, apt, dpkg, debconf, shadow and ldconfig.
TRACES = (
    "etc/apt/sources.list",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/.pwd.lock",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/deb-systemd-helper-*/*.dsh-also.bak",
    "var/lib/ucf/*.[0-9]",
    "etc/mtab",
    "root/.ansible",
)
# Where what is named by a digest of what it points to may point to nothing now.
LINKS = "etc/ssl/certs/*.[0-9]"
# Recreated empty because programs expect them.
FOLDERS = (
    ("var/lib/apt/lists/partial", 0o755),
    ("var/cache/apt/archives/partial", 0o755),
    ("var/cache/private", 0o700),
    ("var/log/journal", 0o755),
    ("var/log/private", 0o700),
)


def remove(path: Path) -> None:
    """A file, link or whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


root = Path("/")
for pattern in (*IDENTITIES, *TRACES):
    for found in sorted(root.glob(pattern)):
        remove(found)
for found in sorted(root.glob(LINKS)):
    if not found.exists():
        remove(found)
for name in EMPTY:
    for found in sorted((root / name).glob("*")):
        remove(found)
for name, mode in FOLDERS:
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name).chmod(mode)
# Empty, not missing: systemd then makes one for this boot, and does not think it is the machine's first.
(root / "etc/machine-id").write_text("")
(root / "etc/mtab").symlink_to("../proc/self/mounts")

"""A Debian root tree that plays a machine reached over SSH: no network, no KVM, no power over this machine.

A process that dies with us holds the tree, an overlay over the builder image, in namespaces of its own; every
connection is an ``sshd -i`` that enters them. What the tree cannot have of a machine of its own is played:
the kernel's release (uname), its settings (/proc/sys), its devices (/sys), loading modules.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from images import host_tree, sandbox
from images.definition import Workspace
from lab.deadline import Deadline
from lab.process import spawn

NAME = "root@testbox"
CARD = "0000:3b:00.0"
#: Of the card, as sysfs shows it.
_CARD = {"vendor": "0x1ce4", "device": "0x0009", "class": "0x020000", "driver_override": "(null)"}
#: Kernel settings that the tree has, and what the agent asks of a kernel.
_SETTINGS = {
    "net/core/default_qdisc": "fq_codel",
    "net/ipv4/neigh/default/gc_thresh1": "128",
    "net/ipv4/neigh/default/gc_thresh2": "512",
    "fs/inotify/max_user_instances": "128",
    "kernel/random/boot_id": "9b2d8b7e-0000-4000-8000-000000000000",
    "kernel/ngroups_max": "65536",
}
#: Programs in the place of those that would be about this machine.
_PROGRAMS = {
    "bin/uname": '#!/bin/sh\n[ "$*" = -r ] && echo @KERNEL@ && exit\nexec /usr/bin/uname "$@"\n',
    "bin/ip": "#!/bin/sh\necho '[]'\n",
    "sbin/modprobe": "#!/bin/sh\n"
    '[ "$1" = --remove ] && exec rm -r "/sys/module/$2"\nmkdir -p "/sys/module/$1"\n',
}
# $1: lower, $2: upper, $3: work, $4: where to.
_HOLD = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
mount -t proc proc "$4/proc"
mount -t tmpfs -o mode=1777 tmp "$4/tmp"
mount -t tmpfs -o mode=0755 run "$4/run"
[ ! -d "$4/srv/sys" ] || mount --bind "$4/srv/sys" "$4/proc/sys"
mkdir -p "$4/run/sshd" "$4/run/held"
exec sleep infinity
"""
#: What package managers keep of what they have done; and what is only a mark.
_KEPT = re.compile(
    r"var/(log|cache)/|var/lib/apt/|var/lib/dpkg/(lock|triggers|[a-z]+-old$|status|available|lock-frontend)"
    r"|etc/ld\.so\.cache$|var/lib/systemd/deb-systemd"
)


_hashes: dict[tuple[str, int, int, int], str] = {}


@dataclass
class SshHost:
    """The machine: ``root`` is its tree as we see it; ``config`` what ssh is to be told about it."""

    folder: Path
    kernel: str

    @property
    def mounted(self) -> Path:
        return self.folder / "root"

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    pid: int = 0

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.pid}/root{self.mounted}")

    def enter(self, *argv: str) -> list[str]:
        """The command that runs there."""
        return [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--pid",
            "--net",
            "chroot",
            str(self.mounted),
            *argv,
        ]

    def run(self, *argv: str) -> str:
        done = subprocess.run(
            self.enter(*argv), env=sandbox.CLEAN_ENV, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def look(self) -> dict[str, str]:
        """Every file of it but what package managers note: kind, mode, owner, content; and every package."""
        root, found = self.root, {}
        for folder, folders, files in os.walk(root):
            here = Path(folder)
            if here == root:
                folders[:] = [name for name in folders if name not in ("proc", "tmp", "run", "dev")]
            for name in (*folders, *files):
                path = here / name
                relative = str(path.relative_to(root))
                if not _KEPT.search(relative):
                    found[relative] = _described(path)
        told = self.run("dpkg-query", "--show", "--showformat=${binary:Package} ${Version} ${Status}\n")
        found.update({f"package {line.split()[0]}": line for line in told.splitlines()})
        found["chosen by hand"] = self.run("apt-mark", "showmanual")
        for name in _SETTINGS:
            found[f"setting {name}"] = (root / "srv/sys" / name).read_text()
        return found


def _described(path: Path) -> str:
    status = path.lstat()
    mode = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
    if path.is_symlink():
        return f"{mode} -> {path.readlink()}"
    if not path.is_file():
        return mode
    # What has the same change time is what was read before.
    key = (str(path), status.st_ino, status.st_size, status.st_ctime_ns)
    if key not in _hashes:
        _hashes[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{mode} {_hashes[key]}"


def difference(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """What is not the same."""
    names = sorted(before.keys() | after.keys())
    return {
        name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    }


@contextlib.contextmanager
def standing(folder: Path) -> Iterator[SshHost]:
    """The machine, as a Debian that has an SSH server and its kernel's headers, and whose own archive has the
    rest."""
    builder = Workspace().images / "builder/root"
    for name in ("upper", "work", "root", "client"):
        (folder / name).mkdir()
    host = SshHost(folder, next(path.name for path in (builder / "lib/modules").iterdir()))
    _furnish(host, folder / "upper", host_tree.ensure(), builder)
    folders = [str(builder), *(str(folder / name) for name in ("upper", "work", "root"))]
    argv = sandbox.isolated(["sh", "-c", _HOLD, "hold", *folders], network=True)
    with spawn(argv, name="the tree of a machine", log=folder / "hold.log") as holder:
        Deadline("the tree to stand", 30.0).wait_until(lambda: _first(holder.pid, host), watch=[holder])
        _install(host)
        yield host


def _first(holder: int, host: SshHost) -> bool:
    """Whether the first process of the tree's namespaces has put it up."""
    left = [holder]
    while left:
        pid = left.pop()
        children = Path(f"/proc/{pid}/task/{pid}/children")
        with contextlib.suppress(OSError):
            stands = Path(f"/proc/{pid}/root{host.mounted}/run/held").is_dir()
            if stands and Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                host.pid = pid
                return True
            left += [int(one) for one in children.read_text().split()]
    return False


def _furnish(host: SshHost, upper: Path, packages: list[Path], builder: Path) -> None:
    """What the tree has before it stands."""
    pool = upper / "srv/pool"
    pool.mkdir(parents=True)
    for package in packages:
        shutil.copyfile(package, pool / package.name)
    write = {f"usr/local/{name}": text.replace("@KERNEL@", host.kernel) for name, text in _PROGRAMS.items()}
    for name, text in write.items():
        path = upper / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    files = {f"srv/sys/{name}": f"{value}\n" for name, value in _SETTINGS.items()}
    files |= {f"sys/bus/pci/devices/{CARD}/{name}": f"{value}\n" for name, value in _CARD.items()}
    files["etc/apt/sources.list"] = "deb [trusted=yes] file:/srv/pool ./\n"
    files["etc/apt/apt.conf.d/99test"] = 'APT::Sandbox::User "root";\n'
    for name, text in files.items():
        path = upper / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (upper / "sys/module").mkdir()
    (upper / "sys/class/net").mkdir(parents=True)
    for folder in (upper / "root", upper / "root/.ssh"):
        folder.mkdir(mode=0o700)
    key = host.folder / "client/key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    shutil.copyfile(key.with_suffix(".pub"), upper / "root/.ssh/authorized_keys")


def _install(host: SshHost) -> None:
    """The SSH server, and the list of what else there is."""
    # A kernel that has no module at all is taken for one that was removed.
    other = host.root / "lib/modules" / host.kernel / "kernel/other.ko"
    other.parent.mkdir(exist_ok=True)
    subprocess.run(["gcc", "-x", "c", "-c", "/dev/null", "-o", str(other)], check=True)
    host.run("depmod", host.kernel)
    host.run("sh", "-c", "cd /srv/pool && dpkg-scanpackages --multiversion . >Packages 2>/dev/null")
    host.run("apt-get", "--quiet", "update")
    host.run("apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *host_tree.SERVER)
    known = host.folder / "client/known_hosts"
    public = (host.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
    known.write_text(f"testbox {public[0]} {public[1]}\n")
    sshd = " ".join(host.enter("/usr/sbin/sshd", "-i", "-o", "UsePAM=no", "-o", "LogLevel=QUIET"))
    host.config.write_text(
        f"Host testbox\n ProxyCommand {sshd}\n IdentityFile {host.folder}/client/key\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {known}\n GlobalKnownHostsFile /dev/null\n"
    )

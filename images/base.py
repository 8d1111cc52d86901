"""The package-only tree of an image: mmdebstrap over a local repository of exactly the locked packages."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

from lab.errors import LabError

from . import sandbox
from .definition import Workspace
from .lock import Lock, Package

# Never unpacked. Copyright files stay: we hand out binaries.
_NOWHERE = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/i18n/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/bug/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    # Our initramfs is our own (images/initramfs); no packaged tool may build another during configuration.
    "path-exclude=/etc/kernel/postinst.d/*",
    "path-exclude=/etc/kernel/postrm.d/*",
)
_MODULES = "/usr/lib/modules/*/kernel"
_OF_IMAGE = {
    "tools": (
        "path-exclude=/usr/share/qemu-efi-*",
        "path-exclude=/usr/share/qemu/openbios*",
        "path-exclude=/usr/lib/ipxe/*",
    ),
    # The kernel comes with the headers by dependency, but only its System.map and config are of use here.
    "builder": (f"path-exclude={_MODULES}/*", "path-exclude=/boot/vmlinuz-*"),
    "dut": (
        # A virtual machine: of the drivers keep what it can have, and everything of networking.
        f"path-exclude={_MODULES}/sound/*",
        f"path-exclude={_MODULES}/drivers/*",
        *(
            f"path-include={_MODULES}/drivers/{kept}"
            for kept in (
                "virtio/*",
                "block/*",
                "char/hw_random/*",
                "ptp/*",
                "pps/*",
                "i2c/*",
                "uio/*",
                "vfio/*",
                "vhost/*",
                "misc/eeprom/*",
                "net/*.ko*",
                "net/bonding/*",
                "net/ipvlan/*",
                "net/team/*",
                "net/vxlan/*",
                "net/mdio/*",
                "net/phy/*",
                "net/vmxnet3/*",
                "net/ethernet/intel/e1000*",
                "infiniband/core/*",
            )
        ),
        f"path-exclude={_MODULES}/arch/x86/kvm/*",
        # systemd asks for it, and its transports want drivers that are not here.
        f"path-exclude={_MODULES}/net/vmw_vsock/*",
        f"path-exclude={_MODULES}/net/bluetooth/*",
        f"path-exclude={_MODULES}/net/mac80211/*",
        f"path-exclude={_MODULES}/net/wireless/*",
        "path-exclude=/usr/share/bash-completion/*",
        "path-exclude=/usr/share/zsh/*",
        "path-exclude=/usr/share/perl/*/pod/*",
        "path-exclude=/usr/lib/udev/hwdb.d/*",
        # PostgreSQL compiles queries where it finds this, which is larger than everything else it needs.
        "path-exclude=/usr/lib/*/libLLVM*",
        "path-exclude=/usr/lib/llvm-*",
        "path-exclude=/usr/lib/*/libz3*",
        "path-exclude=/usr/lib/postgresql/*/lib/bitcode/*",
        "path-exclude=/usr/lib/postgresql/*/lib/llvmjit*",
    ),
}
#: Run before the packages beyond the essential ones are configured; $1 is the tree. A data base made then
#: would be another one in each build.
_HOOKS = {
    "dut": (
        'mkdir -p "$1/etc/postgresql-common"'
        ' && echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"',
    )
}


def key(lock: Lock) -> str:
    """What a base tree depends on: the packages and the way they are unpacked."""
    recipe = "\n".join(
        (lock.content, str(lock.epoch), *_options(lock.header.image), Path(__file__).read_text("utf-8"))
    )
    return hashlib.sha256(recipe.encode()).hexdigest()


def build(lock: Lock, debs: Mapping[Package, Path], root: Path, workspace: Workspace) -> None:
    """Make the tree at `root` (which must not exist). Kept beside the images, so the next time is a copy."""
    image = lock.header.image
    kept = workspace.bases / f"{image}-{key(lock)[:16]}"
    if workspace.keep_base and kept.is_dir():
        _copy(kept, root)
        return
    repository = root.with_name(f"{root.name}.repository")
    write_repository(lock, debs, repository)
    _mmdebstrap(lock, repository, root, workspace.out / "images" / "logs" / f"{image}-mmdebstrap.log")
    shutil.rmtree(repository)
    check(lock, root)
    if workspace.keep_base:
        workspace.bases.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f".{kept.name}")
        if partial.exists():
            shutil.rmtree(partial)
        _copy(root, partial)
        partial.rename(kept)
        for old in workspace.bases.glob(f"{image}-*"):
            if old != kept:
                shutil.rmtree(old)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def write_repository(lock: Lock, debs: Mapping[Package, Path], repository: Path) -> None:
    """A flat apt repository of links to the verified files, with the hashes of the lock."""
    repository.mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        controls = list(pool.map(lambda p: _control(debs[p]), lock.packages))
    stanzas = []
    for package, control in zip(lock.packages, controls, strict=True):
        name = Path(package.path).name
        (repository / name).symlink_to(debs[package].resolve())
        stanzas.append(f"{control}Filename: ./{name}\nSize: {package.size}\nSHA256: {package.sha256}\n")
    index = "\n".join(stanzas)
    (repository / "Packages").write_text(index, encoding="utf-8")
    data = index.encode()
    (repository / "Release").write_text(
        f"Suite: {lock.header.suite}\nCodename: {lock.header.suite}\n"
        f"Architectures: {lock.header.architecture} all\n"
        f"Date: {formatdate(lock.epoch, usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(data).hexdigest()} {len(data)} Packages\n",
        encoding="utf-8",
    )


def _control(deb: Path) -> str:
    done = subprocess.run(["dpkg-deb", "--field", str(deb)], capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\n") + "\n"


def _options(image: str) -> tuple[str, ...]:
    return (*_NOWHERE, *_OF_IMAGE[image])


def _mmdebstrap(lock: Lock, repository: Path, root: Path, log: Path) -> None:
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=essential",
        f"--architectures={lock.header.architecture}",
        f"--include={','.join(f'{p.name}={p.version}' for p in lock.packages)}",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=APT::Sandbox::User root",
        "--aptopt=Acquire::Languages none",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt={option}" for option in _options(lock.header.image)),
        *(f"--essential-hook={hook}" for hook in _HOOKS.get(lock.header.image, ())),
        lock.header.suite,
        str(root),
        f"deb [trusted=yes] copy:{repository} ./",
    ]
    env = {"SOURCE_DATE_EPOCH": str(lock.epoch), "INITRD": "No"}
    sandbox.run(sandbox.isolated(argv), f"unpacking the packages of {lock.header.image}", env=env, log=log)


def installed(root: Path) -> dict[str, str]:
    """Name to version of what dpkg says is installed in a tree."""
    found = {}
    for stanza in (root / "var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status") == "install ok installed":
            found[fields["Package"]] = fields["Version"]
    return found


def check(lock: Lock, root: Path) -> None:
    """LabError unless the tree holds exactly the locked packages."""
    wanted = {p.name: p.version for p in lock.packages}
    have = installed(root)
    if have != wanted:
        odd = sorted(n for n in wanted.keys() | have.keys() if wanted.get(n) != have.get(n))
        lines = "\n".join(f"  {n}: locked {wanted.get(n)}, installed {have.get(n)}" for n in odd)
        raise LabError(
            f"image {lock.header.image} does not hold what its lock says:\n{lines}", hint="make lock"
        )

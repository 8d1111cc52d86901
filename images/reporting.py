"""The kernels that report: Debian's own source of the dut's kernel, compiled with images/kernels/NAME.config.

Built once for all checkouts: a finished one lies in the cache, with what modules are compiled against, under
the digest of what it is made from: source, compiler, presets, commands. The same inputs give the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import console
from lab.errors import LabError

from . import build, lock, manifest, sandbox, source
from .definition import IMAGES, Kernel, Workspace
from .sandbox import Bind

PRESETS = IMAGES / "kernels"
#: In the compiler's tree: Linux' own source, read-only, and where all that is made goes.
_COMPILE = """
set -e
cd /work
make -s -C /src O=/work KCONFIG_ALLCONFIG=/work/presets allnoconfig
grep '^CONFIG_' presets | grep -vxFf .config >lost || :
[ ! -s lost ] || { echo 'the kernel does not take, for want of what they depend on:'; cat lost; exit 1; }
make -C /src O=/work -j"$(nproc)" bzImage modules
install='$(srctree)/scripts/package/install-extmod-build /work/done/headers'
make -s -C /src O=/work run-command KBUILD_RUN_COMMAND="$install"
cp .config done/config
cp arch/x86/boot/bzImage System.map modules.builtin modules.builtin.modinfo include/config/kernel.release done
"""


@dataclass(frozen=True)
class Built:
    """A finished kernel in the cache. `seconds` it took when it was built."""

    folder: Path
    key: str
    release: str
    seconds: float

    @property
    def image(self) -> Path:
        """What QEMU starts: a kernel with KASAN does not survive the start without its own decompressor."""
        return self.folder / "bzImage"

    @property
    def headers(self) -> Path:
        """KDIR of modules."""
        return self.folder / "headers"


def presets(kernel: Kernel) -> str:
    """What `make allnoconfig` is given: the options alone, so that a comment makes no other kernel."""
    lines = [
        line
        for name in ("common", kernel.name)
        for line in (PRESETS / f"{name}.config").read_text(encoding="utf-8").splitlines()
    ]
    return "".join(f"{line}\n" for line in lines if line.startswith("CONFIG_"))


def key(kernel: Kernel, compiler: str) -> str:
    """Digest of all that a kernel is made from; `compiler`: of the builder image."""
    parts = (lock.read(source.LOCK).content, compiler, presets(kernel), _COMPILE)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _folder(kernel: Kernel, wanted: str, workspace: Workspace) -> Path:
    return workspace.cache / "kernels" / f"{kernel.name}-{wanted[:16]}"


def cached(kernel: Kernel, workspace: Workspace | None = None) -> Built | None:
    """The kernel, if it is there and up to date. Reads little."""
    workspace = workspace or Workspace()
    builder = build.current("builder", workspace)
    if builder is None:
        return None
    wanted = key(kernel, builder.digest)
    folder = _folder(kernel, wanted, workspace)
    if not (folder / "built.json").is_file():
        return None
    told = json.loads((folder / "built.json").read_text(encoding="utf-8"))
    return Built(folder, wanted, told["release"], told["seconds"])


def ensure(kernel: Kernel, workspace: Workspace) -> Built:
    """The kernel, compiled when the cache has none made from the same. LabError when it does not compile."""
    builder = build.ensure(("builder",), workspace)["builder"]
    folder = _folder(kernel, key(kernel, builder.digest), workspace)
    if cached(kernel, workspace) is None:
        sandbox.require_root()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if cached(kernel, workspace) is None:
                _build(kernel, folder, workspace, builder)
    built = cached(kernel, workspace)
    if built is None:
        raise LabError(
            f"the kernel {kernel.name} is missing after its build", hint="this is a defect: report it"
        )
    return built


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build of a kernel at a time, of all checkouts; says so while it waits."""
    with folder.with_name(f".{folder.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with console.step("waiting for another build of this kernel"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(kernel: Kernel, folder: Path, workspace: Workspace, builder: manifest.Manifest) -> None:
    """Compile in a scratch folder that goes, and place what is wanted of it in one rename."""
    began = time.monotonic()
    used, deb, extra = source.ensure(workspace)
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    work = scratch / "work"
    for path in (scratch / "linux", work / "done"):
        path.mkdir(parents=True)
    try:
        with console.step(f"kernel {kernel.name}: source and compiler"):
            source.unpack(deb, scratch / "linux", workspace)
            compiler = _compiler(scratch / "compiler", extra, workspace)
        (work / "presets").write_text(presets(kernel), encoding="utf-8")
        with console.step(f"kernel {kernel.name}: compiling, which takes some minutes") as shown:
            _compile(kernel, compiler, scratch, used.epoch, workspace, shown)
        done = work / "done"
        release = (done / "kernel.release").read_text(encoding="utf-8").strip()
        told = {
            "kernel": kernel.name,
            "release": release,
            "seconds": round(time.monotonic() - began, 1),
            "source": used.version(f"linux-source-{release.rpartition('.')[0]}") or used.content,
            "compiler": builder.digest,
        }
        (done / "built.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        done.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _compiler(root: Path, extra: tuple[Path, ...], workspace: Workspace) -> Path:
    """The builder's tree with what only a kernel's own build calls: files that nothing has to configure."""
    subprocess.run(
        ["cp", "-a", "--reflink=auto", str(workspace.images / "builder" / "root"), str(root)], check=True
    )
    for deb in extra:
        subprocess.run(["dpkg-deb", "--extract", str(deb), str(root)], check=True)
    return root


def _compile(
    kernel: Kernel, compiler: Path, scratch: Path, epoch: int, workspace: Workspace, shown: console.Step
) -> None:
    """Run _COMPILE, out of the way of others, telling how many files there are."""
    log = workspace.out / "kernels" / f"{kernel.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    binds = [Bind(scratch / "linux", "src"), Bind(scratch / "work", "work", writable=True)]
    env = {
        **sandbox.CLEAN_ENV,
        "KBUILD_BUILD_TIMESTAMP": f"@{epoch}",
        "KBUILD_BUILD_USER": "exalab",
        "KBUILD_BUILD_HOST": "exalab",
    }
    argv = sandbox.in_root(compiler, ["sh", "-c", _COMPILE], binds)
    files = 0
    with log.open("w", encoding="utf-8") as kept:
        child = subprocess.Popen(
            ["nice", *argv],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            umask=0o022,
        )
        with child:
            assert child.stdout is not None
            for line in child.stdout:
                kept.write(line)
                if line.startswith("  CC "):
                    files += 1
                    shown.note(f"{files} files")
    if child.returncode:
        tail = "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-25:])
        raise LabError(f"the kernel {kernel.name} does not compile:\n{tail}", hint=f"the whole output: {log}")
